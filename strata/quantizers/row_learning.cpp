#include "strata/quantizers/row_learning.h"

#include <ATen/core/grad_mode.h>

#include <optional>
#include <utility>

#include "strata/core/error.h"
#include "strata/quantizers/adam.h"
#include "strata/quantizers/learned_matrix.h"
#include "strata/quantizers/learned_module.h"

namespace strata {
namespace {

// 0, 1, ... without these, which are rising.
std::vector<int64_t> all_but(const std::vector<int64_t>& rows, int64_t count) {
  std::vector<int64_t> others;
  size_t next = 0;
  for (int64_t row = 0; row < count; ++row) {
    if (next < rows.size() && rows[next] == row)
      ++next;
    else
      others.push_back(row);
  }
  return others;
}

// One part, or those at low and high bits.
class RowLearningModule : public LearnedModule {
 public:
  RowLearningModule(const LearnedModuleInputs& inputs, const RowLearningOptions& options)
      : options_(options), device_(options.layers.activations.device), layer_weights_(inputs.layer_weights) {
    const Module& module = inputs.module;
    const Scheme& scheme = inputs.scheme;
    if (scheme.kind != Scheme::Kind::Affine && scheme.kind != Scheme::Kind::MixedRows)
      fail_usage(
          "{} is planned as {}, but adaround, lwc and hybrid learn affine groups; choose schemes such as "
          "w3g64",
          module.tensor, scheme.name());
    QuantizerOptions quantizer;
    quantizer.name = options.start;
    quantizer.row_impact = impacts_of(options.layers.row_impacts, module.tensor, module.rows);
    best_ = quantize_matrix({inputs.weights.data_ptr<float>(), module.rows, module.cols}, scheme, quantizer);
    const at::Tensor on_device = inputs.weights.to(device_);
    if (scheme.kind == Scheme::Kind::Affine) {
      low_ = learn(on_device, best_.affine, false);
    } else {
      const std::vector<int64_t> low_rows = all_but(best_.mixed.high_rows, module.rows);
      const auto rows_of = [&](const std::vector<int64_t>& rows) {
        return on_device.index_select(0, at::tensor(rows, at::kLong).to(device_));
      };
      if (!low_rows.empty()) low_ = learn(rows_of(low_rows), best_.mixed.low, false);
      if (!best_.mixed.high_rows.empty())
        high_ = learn(rows_of(best_.mixed.high_rows), best_.mixed.high, true);
      std::vector<int64_t> order = low_rows;
      order.insert(order.end(), best_.mixed.high_rows.begin(), best_.mixed.high_rows.end());
      place_of_row_ = at::argsort(at::tensor(order, at::kLong)).to(device_);
    }
    std::vector<at::Tensor> parameters;
    for (const LearnedMatrix* part : parts())
      for (const at::Tensor& parameter : part->parameters()) parameters.push_back(parameter);
    adam_.emplace(std::move(parameters), AdamOptions{options.learning_rate});
  }

  at::Tensor start_weights() override { return dequantized(best_); }

  at::Tensor weights() override {
    const at::AutoGradMode with_gradients(true);
    std::vector<at::Tensor> rows;
    for (LearnedMatrix* part : parts()) rows.push_back(part->weights());
    weights_ = place_of_row_.defined() ? at::cat(rows).index_select(0, place_of_row_) : rows.front();
    return weights_.detach();
  }

  void descend(const at::Tensor& gradient, double progress) override {
    const at::AutoGradMode with_gradients(true);
    weights_.backward(gradient, /*retain_graph=*/true);
    for (LearnedMatrix* part : parts()) {
      const at::Tensor regularizer = part->regularizer(progress);
      if (!regularizer.defined()) continue;
      (regularizer * (options_.regularization / static_cast<double>(layer_weights_))).backward();
    }
    weights_.reset();
    adam_->step();
  }

  at::Tensor stored_weights() override {
    candidate_ = best_;
    const bool mixed = candidate_.scheme.kind == Scheme::Kind::MixedRows;
    if (low_) (mixed ? candidate_.mixed.low : candidate_.affine) = low_->stored();
    if (high_) candidate_.mixed.high = high_->stored();
    return dequantized(candidate_);
  }

  void keep() override { best_ = candidate_; }
  QuantizedMatrix best() override { return std::move(best_); }

 private:
  std::unique_ptr<LearnedMatrix> learn(const at::Tensor& rows, const AffineMatrix& start, bool high) const {
    const bool round =
        options_.learning == RowLearning::AdaRound || (options_.learning == RowLearning::Hybrid && high);
    return round ? make_adaround(rows, start) : make_learnable_clipping(rows, start.scheme);
  }

  std::vector<LearnedMatrix*> parts() const {
    std::vector<LearnedMatrix*> all;
    for (LearnedMatrix* part : {low_.get(), high_.get()})
      if (part != nullptr) all.push_back(part);
    return all;
  }

  at::Tensor dequantized(const QuantizedMatrix& matrix) const {
    at::Tensor weights = at::empty({matrix.rows, matrix.cols}, at::kFloat);
    matrix.dequantize(weights.data_ptr<float>());
    return weights.to(device_);
  }

  RowLearningOptions options_;
  at::Device device_;
  int64_t layer_weights_;
  QuantizedMatrix best_, candidate_;
  std::unique_ptr<LearnedMatrix> low_, high_;  // null where there are no such rows
  at::Tensor place_of_row_;                    // in the low rows followed by the high ones
  std::optional<Adam> adam_;
  at::Tensor weights_;
};

}  // namespace

Options row_learning_options(OptionValues& values) {
  RowLearningOptions& learning = values.get<RowLearningOptions>();
  return {number("learn-steps", learning.layers.steps, 0, int64_t{1} << 40,
                 "steps of gradient descent a layer, at most"),
          positive("learning-rate", learning.learning_rate, "of Adam"),
          word("learn-start", learning.start, {"rtn", "hqq"},
               "where AdaRound has its scales from, and what is kept where learning does not beat it"),
          number("patience", learning.layers.patience, 1, 1000,
                 "stop a layer after so many of ten checks on held-out blocks without progress")};
}

std::shared_ptr<CalibratedQuantizer> make_row_learning_quantizer(
    const Model& model, std::shared_ptr<const Calibration> calibration, const RowLearningOptions& options) {
  if (!(options.learning_rate > 0) || !(options.regularization >= 0))
    fail_usage("the learning rate of a quantizer is positive");
  const Json identity = {{"learning", static_cast<int>(options.learning)},
                         {"start", options.start},
                         {"learning_rate", options.learning_rate},
                         {"regularization", options.regularization}};
  return make_layer_output_quantizer(
      model, std::move(calibration), options.layers,
      [options](const LearnedModuleInputs& inputs) {
        return std::make_unique<RowLearningModule>(inputs, options);
      },
      identity);
}

}  // namespace strata
