#include "strata/quantizers/layerwise_trials.h"

#include <ATen/core/grad_mode.h>

#include "strata/core/error.h"

namespace strata {
namespace {

// What the quantizers of layers that were passed may take: a model's that is no larger is streamed once.
constexpr int64_t kKeptFloats = int64_t{1} << 28;

}  // namespace

LayerwiseTrials::LayerwiseTrials(const Model& model, std::shared_ptr<const Calibration> calibration,
                                 const ActivationOptions& activations, MatrixQuantizerMaker maker,
                                 std::string identity)
    : model_(model),
      calibration_(std::move(calibration)),
      activations_(activations),
      maker_(std::move(maker)),
      identity_(std::move(identity) + " " + calibration_->fingerprint) {
  for (const Module& module : model_.modules) modules_.emplace(module.tensor, &module);
}

void LayerwiseTrials::quantize(const std::string& tensor, const Scheme& scheme, MatrixView<float> weights) {
  const auto found = modules_.find(tensor);
  if (found == modules_.end()) fail("{} is not a matrix of the model's layers", tensor);
  const Module& module = *found->second;
  const int64_t rows = module.rows_of_matrix();
  for (int64_t expert = 0; expert < module.matrices(); ++expert) {
    float* own = weights.data + expert * rows * weights.cols;
    quantizer_of(module, expert)(module, expert, {own, rows, weights.cols}, scheme).dequantize(own);
  }
}

void LayerwiseTrials::unload() {
  quantizers_.clear();
  kept_ = 0;
  stream_.reset();
}

const MatrixQuantizer& LayerwiseTrials::quantizer_of(const Module& module, int64_t expert) {
  const Input input{module.layer, input_of(module, expert)};
  if (quantizers_.count(input) == 0) measure(module.layer);
  return quantizers_.at(input);
}

void LayerwiseTrials::measure(int layer) {
  const at::NoGradGuard no_grad;
  if (kept_ > kKeptFloats) {
    quantizers_.clear();
    kept_ = 0;
  }
  if (!stream_ || stream_->layer() > layer)
    stream_ = std::make_unique<ActivationStream>(model_, *calibration_, activations_);
  while (stream_->layer() < layer) stream_->advance();
  std::map<std::string, ProductMoments> moments;
  stream_->observe([&](const std::string& input, const at::Tensor& values) { moments[input].add(values); });
  for (const Module* module : model_.layer_modules(layer)) {
    if (module->input != module->name) continue;
    MomentsOfMatrices known(*module, [&](const std::vector<int64_t>& experts, const at::Tensor& products) {
      const MatrixQuantizer quantizer = maker_(products);
      for (const int64_t expert : experts) quantizers_[{layer, input_of(*module, expert)}] = quantizer;
      kept_ += products.numel();
    });
    for (int64_t expert = 0; expert < module->matrices(); ++expert)
      known.take(expert, moments.extract(input_of(*module, expert)).mapped());
    known.finish();
  }
}

}  // namespace strata
