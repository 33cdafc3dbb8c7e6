#include "strata/quantizers/awq.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <optional>

#include "strata/calibration/second_moments.h"
#include "strata/core/blas_threads.h"
#include "strata/core/error.h"
#include "strata/core/progress.h"
#include "strata/core/threads.h"
#include "strata/device/products.h"
#include "strata/forward/load_tensor.h"

namespace strata {
namespace {

constexpr int64_t kSmallMatrix = int64_t{1} << 22;  // weights
constexpr double kLargestScale = 128;  // keeps norms of features that are hardly used within fp16

// What the search needs to know of an input.
struct InputSample {
  at::Tensor magnitudes;  // sum of |x_j|, [cols] double
  at::Tensor tokens;      // [some, cols] float on the device
  int64_t count = 0;
};

// Keeps the same number of tokens of every piece.
void add(InputSample& sample, const at::Tensor& input, int64_t of_a_piece) {
  if (input.size(0) == 0) return;
  const at::Tensor sum = input.abs().sum(0, false, at::kFloat).to(at::kDouble).cpu();
  sample.magnitudes = sample.magnitudes.defined() ? sample.magnitudes + sum : sum;
  sample.count += input.size(0);
  const int64_t step = std::max<int64_t>(1, input.size(0) / of_a_piece);
  const at::Tensor kept = input.slice(0, 0, of_a_piece * step, step).to(at::kFloat);
  sample.tokens = sample.tokens.defined() ? at::cat({sample.tokens, kept}) : kept.clone();
}

std::vector<float> to_vector(const at::Tensor& values) {
  const at::Tensor floats = values.to(at::kFloat).contiguous();
  return {floats.data_ptr<float>(), floats.data_ptr<float>() + floats.numel()};
}

class LayerSearch {
 public:
  LayerSearch(const Model& model, int layer, const std::map<std::string, Scheme>& schemes,
              const AwqOptions& options)
      : model_(model), layer_(layer), schemes_(schemes), options_(options) {}

  // The factors of what the matrices of a stage read, where there is something that they can be folded into.
  void search(const Stage& stage, const InputSample& sample, std::map<std::string, TensorScaling>& scalings) {
    if (stage.norm.empty() && !stage.rows) return;
    std::vector<Planned> planned;
    for (const std::string& reader : stage.matrices) add_planned(model_.module(layer_, reader), 0, planned);
    if (planned.empty()) return;
    const at::Tensor magnitudes = shared_magnitudes(stage, sample);
    const std::optional<at::Tensor> scales = best_scales(planned, magnitudes, sample.tokens);
    if (!scales) return;
    const at::Tensor inverse = scales->reciprocal();
    for (const std::string& reader : stage.matrices)
      multiply(scalings[model_.module(layer_, reader).tensor].cols, to_vector(*scales));
    for (const std::string& reader : stage.kept)
      multiply(scalings[model_.layer_tensor(layer_, reader + ".weight")].cols, to_vector(*scales));
    if (!stage.norm.empty()) {
      const std::string gains = model_.layer_tensor(layer_, stage.norm + ".weight");
      for (const std::string& vector : {gains, Model::bias_of(gains)})
        if (model_.checkpoint->contains(vector)) multiply(scalings[vector].cols, to_vector(inverse));
    }
    if (stage.rows) divide_rows(stage, 0, to_vector(one_a_row(*stage.rows, inverse)), scalings);
  }

  // The same for what the experts' last matrices read, each for itself: one that few tokens reach stays as it
  // is, since the features of the others are not its own.
  void search_experts(const Stage& stage, const std::map<std::string, InputSample>& samples,
                      std::map<std::string, TensorScaling>& scalings) {
    if (!stage.rows) return;
    const Module& stack = model_.module(layer_, stage.matrices.front());
    std::vector<float> of_columns(static_cast<size_t>(stack.experts * stack.cols), 1.0f);
    bool is_scaled = false;
    for (int64_t expert = 0; expert < stack.experts; ++expert) {
      const InputSample& sample = samples.at(input_of(stack, expert));
      std::vector<Planned> planned;
      add_planned(stack, expert, planned);
      if (planned.empty() || sample.count < kFewTokens) continue;
      const at::Tensor mean = sample.magnitudes / static_cast<double>(sample.count);
      const std::optional<at::Tensor> scales = best_scales(planned, mean, sample.tokens);
      if (!scales) continue;
      const std::vector<float> factors = to_vector(*scales);
      std::copy(factors.begin(), factors.end(), of_columns.begin() + expert * stack.cols);
      divide_rows(stage, expert * stack.cols, to_vector(scales->reciprocal()), scalings);
      is_scaled = true;
    }
    if (is_scaled) multiply(scalings[stack.tensor].cols, of_columns);
  }

 private:
  // A matrix that will be quantized.
  struct Planned {
    at::Tensor weights;  // [rows, cols] float on the CPU
    const Scheme& scheme;
  };

  // The module's matrix, or that of an expert of its stack, where it has a scheme.
  void add_planned(const Module& module, int64_t expert, std::vector<Planned>& planned) const {
    const auto found = schemes_.find(module.tensor);
    if (found == schemes_.end()) return;
    const int64_t rows = module.rows_of_matrix();
    planned.push_back({load_rows(*model_.checkpoint, model_.checkpoint->info(module.tensor), expert * rows,
                                 rows, at::kCPU, at::kFloat),
                       found->second});
  }

  static void multiply(std::vector<float>& factors, const std::vector<float>& by) {
    if (factors.empty()) {
      factors = by;
      return;
    }
    for (size_t i = 0; i < by.size(); ++i) factors[i] *= by[i];
  }

  // With grouped queries: columns of o that one row of v feeds take their mean.
  at::Tensor shared_magnitudes(const Stage& stage, const InputSample& sample) const {
    const at::Tensor mean = sample.magnitudes / static_cast<double>(sample.count);
    const ModelConfig& c = model_.config;
    if (stage.rows != Role::V || c.num_heads == c.num_kv_heads) return mean;
    const int64_t repeats = c.num_heads / c.num_kv_heads;
    return mean.view({c.num_kv_heads, repeats, c.head_dim})
        .mean(1, true)
        .expand({c.num_kv_heads, repeats, c.head_dim})
        .reshape({-1});
  }

  at::Tensor one_a_row(Role giver, const at::Tensor& factors) const {
    const ModelConfig& c = model_.config;
    if (giver != Role::V || c.num_heads == c.num_kv_heads) return factors;
    return factors.view({c.num_kv_heads, c.num_heads / c.num_kv_heads, c.head_dim})
        .select(1, 0)
        .reshape({-1});
  }

  // Of the matrix that holds what gives the stage its input, beside others or alone, from the row `first` on,
  // and of its bias.
  void divide_rows(const Stage& stage, int64_t first, const std::vector<float>& inverse,
                   std::map<std::string, TensorScaling>& scalings) const {
    const std::optional<Model::Rows> rows = model_.rows_of(layer_, *stage.rows, stage.givers);
    if (!rows) fail("layer {} has no rows that are {}", layer_, name_of(*stage.rows));
    std::vector<float> of_all(static_cast<size_t>(rows->module->rows), 1.0f);
    std::copy(inverse.begin(), inverse.end(), of_all.begin() + rows->first + first);
    multiply(scalings[rows->module->tensor].rows, of_all);
    const std::string bias = model_.layer_tensor(layer_, rows->module->name + ".bias");
    if (model_.checkpoint->contains(bias)) multiply(scalings[bias].cols, of_all);
  }

  // Nothing where no exponent is better than leaving the weights alone.
  std::optional<at::Tensor> best_scales(const std::vector<Planned>& planned, const at::Tensor& magnitudes,
                                        const at::Tensor& tokens) const {
    std::vector<double> errors(static_cast<size_t>(options_.grid));
    const auto measure = [&](int64_t begin, int64_t end) {
      const at::NoGradGuard no_grad;
      for (int64_t step = begin; step < end; ++step) {
        const at::Tensor scales = scales_of(magnitudes, static_cast<int>(step));
        for (const Planned& matrix : planned)
          errors[static_cast<size_t>(step)] += output_error(matrix.weights, scales, tokens, matrix.scheme);
      }
    };
    // Threads share small matrices best by taking an exponent each.
    if (tokens.device().is_cpu() && planned.front().weights.numel() <= kSmallMatrix) {
      const BlasThreads one_thread(1);
      parallel_for(options_.grid, 1, measure);
    } else {
      measure(0, options_.grid);
    }
    const auto best = std::min_element(errors.begin(), errors.end()) - errors.begin();
    if (best == 0) return std::nullopt;
    return scales_of(magnitudes, static_cast<int>(best));
  }

  at::Tensor scales_of(const at::Tensor& magnitudes, int step) const {
    const at::Tensor powers = magnitudes.pow(static_cast<double>(step) / options_.grid).clamp_min(1e-4);
    const at::Tensor centred = powers / (powers.max() * powers.min()).sqrt();
    return centred.clamp(1 / kLargestScale, kLargestScale).to(at::kFloat);
  }

  // sum over the tokens of |(Q(W s) / s - W) x|^2
  double output_error(const at::Tensor& weights, const at::Tensor& scales, const at::Tensor& tokens,
                      const Scheme& scheme) const {
    at::Tensor rounded = (weights * scales).contiguous();
    fake_quantize({rounded.data_ptr<float>(), rounded.size(0), rounded.size(1)}, scheme, options_.quantizer);
    const at::Tensor difference = (rounded / scales - weights).to(tokens.device());
    return total(product(tokens, difference.t()).square());
  }

  const Model& model_;
  int layer_;
  const std::map<std::string, Scheme>& schemes_;
  const AwqOptions& options_;
};

}  // namespace

std::map<std::string, TensorScaling> search_awq_scales(const Model& model,
                                                       const std::map<std::string, Scheme>& schemes,
                                                       const Calibration& calibration,
                                                       const AwqOptions& options) {
  const at::NoGradGuard no_grad;
  require_runnable(model, "searching AWQ scales");
  ActivationStream stream(model, calibration, options.activations);
  const int64_t pieces = (stream.blocks() + stream.blocks_per_piece() - 1) / stream.blocks_per_piece();
  const int64_t of_a_piece = std::max<int64_t>(1, options.sample_tokens / pieces);
  std::map<std::string, TensorScaling> scalings;
  Progress progress("searching AWQ scales", model.config.num_layers, "layers");
  while (!stream.at_end()) {
    const int layer = stream.layer();
    std::map<std::string, InputSample> samples;
    stream.advance(
        [&](const std::string& input, const at::Tensor& values) { add(samples[input], values, of_a_piece); });
    LayerSearch search(model, layer, schemes, options);
    const LayerPlan plan = architecture_of(model.config).plan(model.config, layer);
    for (const Stage& stage : stages_of(plan)) {
      // What the norm before experts gives is read by their router too.
      const bool is_routed = std::holds_alternative<ExpertsPlan>(plan.blocks[stage.block].block);
      if (is_routed && !stage.reads_value) continue;
      if (stage.by_expert)
        search.search_experts(stage, samples, scalings);
      else
        search.search(stage, samples.at(stage.matrices.front()), scalings);
    }
    progress.advance();
  }
  return scalings;
}

Model scale_model(const Model& model, std::map<std::string, TensorScaling> scalings) {
  Model scaled = model;
  scaled.checkpoint = std::make_shared<ScaledCheckpoint>(model.checkpoint, std::move(scalings));
  return scaled;
}

}  // namespace strata
