#include "strata/quantizers/sign_round.h"

#include <ATen/core/grad_mode.h>

#include <fmt/ranges.h>

#include <algorithm>
#include <set>
#include <utility>

#include "strata/core/blas_threads.h"
#include "strata/core/error.h"
#include "strata/core/threads.h"
#include "strata/device/products.h"
#include "strata/quantizers/searched_grid.h"

namespace strata {
namespace {

constexpr double kFarthestRounding = 0.5, kLeastFactor = 0.5, kLargestFactor = 1.5;
constexpr int64_t kCpuChunk = 1 << 15;  // weights, so that what is made of them stays in a core's cache

at::Tensor rows_of(const at::Tensor& values, int64_t first, int64_t count) {
  return !values.defined() || values.size(0) == 1 ? values : values.narrow(0, first, count);
}

// Where values (in steps) stand between the levels 0 to `largest` of a table: a whole number at a level.
at::Tensor position_between_levels(const at::Tensor& values, const at::Tensor& table, int64_t largest) {
  const at::Tensor levels = table.narrow(0, 0, largest + 1);
  const at::Tensor gaps = levels.narrow(0, 1, largest) - levels.narrow(0, 0, largest);
  const at::Tensor below = at::bucketize(values, levels.narrow(0, 1, largest - 1).contiguous(),
                                         /*out_int32=*/true, /*right=*/true);
  const auto of_interval = [&](const at::Tensor& each) {
    return each.index_select(0, below.reshape({-1})).view_as(values);
  };
  return (values - of_interval(levels)).div_(of_interval(gaps)).add_(below);
}

// Sums over the groups of every block, [blocks, 1].
at::Tensor sum_of_blocks(const StoredGrid& grid, const at::Tensor& of_groups) {
  const int64_t each = grid.groups_per_block;
  if (each == 1) return of_groups;
  const int64_t missing = (each - of_groups.size(0) % each) % each;
  return at::constant_pad_nd(of_groups, {0, 0, 0, missing}).view({-1, each}).sum(1, true);
}

}  // namespace

// Some groups, and what W~ is made of there.
struct SignRound::Chunk {
  int64_t first, count;
  at::Tensor distance;  // (W + o) / s
  at::Tensor zero;
  at::Tensor exact;  // round((W + o) / s + z + V)
  at::Tensor code;   // within 0 and top

  Chunk(const SignRound& all, int64_t begin, int64_t end) : first(begin), count(end - begin) {
    const auto of = [&](const at::Tensor& values) { return rows_of(values, first, count); };
    const StoredGrid& grid = all.start_;
    zero = of(all.floats_.zero);
    distance = all.offset_.defined() ? (of(all.target_) + of(all.offset_)).mul_(of(all.inverse_step_))
                                     : of(all.target_) * of(all.inverse_step_);
    exact = grid.level_of_code.defined()
                ? position_between_levels(distance, grid.level_of_code, grid.largest_code)
                : distance + zero;
    exact.add_(of(all.rounding_)).round_();
    code = exact.clamp(0, grid.largest_code);
  }

  // level(code) - z.
  at::Tensor level(const SignRound& all) const {
    const at::Tensor& table = all.start_.level_of_code;
    return table.defined() ? table.index_select(0, code.reshape({-1}).to(at::kInt)).view_as(code)
                           : code - zero;
  }
};

SignRound::SignRound(const at::Tensor& weights, StoredGrid start) : start_(std::move(start)) {
  const at::NoGradGuard no_grad;
  target_ = start_.layout.to_groups(weights).contiguous();
  rounding_ = at::zeros_like(target_);
  first_step_ = steps_of(start_, start_.floats);
  first_offset_ = offsets_of(start_, start_.floats);
  scale_factor_ = at::ones_like(start_.floats.scale);
  if (first_offset_.defined()) min_factor_ = at::ones_like(start_.floats.minimum);
  update_steps();
}

template <class Body>
void SignRound::for_chunks(const Body& body) const {
  const int64_t groups = target_.size(0);
  if (!target_.is_cpu()) return body(0, groups);
  const OneThread one;
  parallel_for(groups, std::max<int64_t>(1, kCpuChunk / target_.size(1)), [&](int64_t begin, int64_t end) {
    const at::NoGradGuard no_grad;  // of this thread
    body(begin, end);
  });
}

void SignRound::update_steps() {
  GridFloats floats = start_.floats;
  floats.scale = floats.scale * scale_factor_;
  if (floats.scale_minimum.defined()) floats.scale_minimum = floats.scale_minimum * scale_factor_;
  if (floats.minimum.defined()) floats.minimum = floats.minimum * min_factor_;
  floats_ = as_stored(start_, floats);
  step_ = steps_of(start_, floats_);
  inverse_step_ = at::where(step_ != 0, step_.reciprocal(), at::zeros_like(step_));
  offset_ = offsets_of(start_, floats_);
}

at::Tensor SignRound::weights(at::ScalarType dtype) {
  const at::NoGradGuard no_grad;
  const at::Tensor groups = at::empty(target_.sizes(), target_.options().dtype(dtype));
  for_chunks([&](int64_t begin, int64_t end) {
    const Chunk chunk(*this, begin, end);
    at::Tensor weights = chunk.level(*this).mul_(rows_of(step_, begin, end - begin));
    if (offset_.defined()) weights.sub_(rows_of(offset_, begin, end - begin));
    groups.narrow(0, begin, end - begin).copy_(weights);
  });
  return start_.layout.to_matrix(groups);
}

void SignRound::descend(const at::Tensor& gradient, double length) {
  const at::NoGradGuard no_grad;
  const at::Tensor by_weights = start_.layout.to_groups(gradient);
  const at::Tensor by_scale = at::empty_like(first_step_);
  const at::Tensor by_minimum = first_offset_.defined() ? at::empty_like(first_offset_) : at::Tensor();
  for_chunks([&](int64_t begin, int64_t end) {
    const int64_t count = end - begin;
    const Chunk chunk(*this, begin, end);
    const at::Tensor by_weight = by_weights.narrow(0, begin, count).to(at::kFloat);
    const at::Tensor inside = chunk.exact.eq(chunk.code).to(at::kFloat);  // where clip() lets V through
    // dW~/ds = code - z - inside (W + o) / s,  dW~/do = inside - 1,  dW~/dV = inside s
    at::Tensor by_step = chunk.level(*this).addcmul_(inside, chunk.distance, -1).mul_(by_weight);
    rows_of(by_scale, begin, count).copy_(by_step.sum(1, true).mul_(rows_of(first_step_, begin, count)));
    const at::Tensor by_rounding = inside.mul(by_weight);
    if (by_minimum.defined())
      rows_of(by_minimum, begin, count)
          .copy_((by_rounding - by_weight).sum(1, true).mul_(rows_of(first_offset_, begin, count)));
    rounding_.narrow(0, begin, count)
        .sub_(by_rounding.mul(rows_of(step_, begin, count)).sign_(), length)
        .clamp_(-kFarthestRounding, kFarthestRounding);
  });
  const auto descend_factor = [&](at::Tensor& factor, const at::Tensor& of_groups) {
    factor.sub_(sum_of_blocks(start_, of_groups).sign_(), length).clamp_(kLeastFactor, kLargestFactor);
  };
  descend_factor(scale_factor_, by_scale);
  if (by_minimum.defined()) descend_factor(min_factor_, by_minimum);
  update_steps();
}

StoredGrid SignRound::grid() const {
  const at::NoGradGuard no_grad;
  StoredGrid grid = start_;
  grid.floats = floats_;
  grid.codes = at::empty_like(start_.codes);
  for_chunks([&](int64_t begin, int64_t end) {
    grid.codes.narrow(0, begin, end - begin).copy_(Chunk(*this, begin, end).code);
  });
  return grid;
}

namespace {

class SignRoundModule : public LearnedModule {
 public:
  SignRoundModule(const at::Tensor& weights, QuantizedMatrix start, const LayerLearning& learning)
      : dtype_(learning.activations.dtype), steps_(learning.steps), best_(std::move(start)) {
    opened_ = open_grid(best_, learning.activations.device);
    const std::vector<at::Tensor> rows = part_rows(opened_, weights.to(learning.activations.device));
    for (size_t i = 0; i < rows.size(); ++i) parts_.emplace_back(rows[i], opened_.parts[i]);
  }

  at::Tensor start_weights() override {
    std::vector<at::Tensor> rows;
    for (const StoredGrid& part : opened_.parts) rows.push_back(weights_of(part, part.floats).to(dtype_));
    return join_rows(opened_, rows);
  }

  at::Tensor weights() override {
    std::vector<at::Tensor> rows;
    for (SignRound& part : parts_) rows.push_back(part.weights(dtype_));
    return join_rows(opened_, rows);
  }

  at::Tensor stored_weights() override { return weights(); }

  // Steps fall from 1 / steps to 0, so that V can reach either end.
  void descend(const at::Tensor& gradient, double progress) override {
    const std::vector<at::Tensor> rows = part_rows(opened_, gradient);
    for (size_t i = 0; i < parts_.size(); ++i)
      parts_[i].descend(rows[i], (1 - progress) / static_cast<double>(steps_));
  }

  void keep() override {
    for (size_t i = 0; i < parts_.size(); ++i) opened_.parts[i] = parts_[i].grid();
  }

  QuantizedMatrix best() override {
    close_grid(opened_, best_);
    return std::move(best_);
  }

 private:
  at::ScalarType dtype_;
  int64_t steps_;
  QuantizedMatrix best_;
  OpenedMatrix opened_;  // the best so far
  std::vector<SignRound> parts_;
};

}  // namespace

SignRoundOptions::SignRoundOptions() {
  layers.steps = 200;
  layers.tokens_per_step = 8 * 512;
  layers.patience = layers.checks + 1;
  layers.mean_squares = true;
}

Options sign_round_options(OptionValues& values) {
  LayerLearning& layers = values.get<SignRoundOptions>().layers;
  return {number("sign-steps", layers.steps, 1, int64_t{1} << 40, "signround: steps a layer"),
          number("sign-tokens", layers.tokens_per_step, 1, int64_t{1} << 40,
                 "signround: tokens of a step, in whole windows")};
}

bool learned_by_sign_round(const Scheme& scheme) {
  constexpr int64_t kAnyCols = 4096;  // which all groups divide
  return has_grid(scheme, kAnyCols);
}

std::string left_by_sign_round(const Model& model, const std::map<std::string, Scheme>& schemes) {
  std::set<std::string> names;
  int64_t left = 0, all = 0;
  for (const Module& module : model.modules) {
    const auto found = schemes.find(module.tensor);
    if (found == schemes.end()) continue;
    ++all;
    if (has_grid(found->second, module.cols)) continue;
    ++left;
    names.insert(found->second.name());
  }
  if (left == 0) return "";
  const std::string types = fmt::format("{}", fmt::join(names, ", "));
  if (left == all)
    fail_usage(
        "signround learns codes, but all matrices are planned in types without codes of their own ({}); use "
        "--quantizer importance, or types such as Q3_K",
        types);
  return fmt::format("{} of {} matrices are in types without codes of their own ({})", left, all, types);
}

std::shared_ptr<CalibratedQuantizer> make_sign_round_quantizer(const Model& model,
                                                               std::shared_ptr<const Calibration> calibration,
                                                               const SignRoundOptions& options) {
  constexpr int64_t kFewest = 4;
  if (calibration->blocks() < kFewest)
    fail_usage(
        "signround was given {} windows of calibration text, but needs {} to hold one back; give a longer "
        "text "
        "or shorter windows (--calib-window)",
        calibration->blocks(), kFewest);
  const LayerLearning& layers = options.layers;
  return make_layer_output_quantizer(
      model, std::move(calibration), layers,
      [layers](const LearnedModuleInputs& inputs) -> LearnedOrFixed {
        const Module& module = inputs.module;
        const MatrixView<const float> weights = {inputs.weights.data_ptr<float>(), module.rows, module.cols};
        const float* impacts = impacts_of(layers.row_impacts, module.tensor, module.rows);
        QuantizedMatrix start =
            module.experts > 0
                ? search_grids(weights, module.experts, inputs.scheme, inputs.mean_squares.data(), impacts)
                : search_grid(weights, inputs.scheme, inputs.mean_squares.data(), impacts);
        if (!has_grid(inputs.scheme, module.cols)) return start;
        return std::make_unique<SignRoundModule>(inputs.weights, std::move(start), layers);
      },
      "signround");
}

}  // namespace strata
