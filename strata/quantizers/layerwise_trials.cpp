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
                                 std::string identity, int64_t most_floats)
    : model_(model),
      calibration_(std::move(calibration)),
      activations_(activations),
      maker_(std::move(maker)),
      identity_(std::move(identity) + " " + calibration_->fingerprint),
      most_floats_(most_floats) {
  for (const Module& module : model_.modules) modules_.emplace(module.tensor, &module);
}

void LayerwiseTrials::quantize(const std::string& tensor, const Scheme& scheme, MatrixView<float> weights) {
  const auto found = modules_.find(tensor);
  if (found == modules_.end()) fail("{} is not a matrix of the model's layers", tensor);
  const Module& module = *found->second;
  const int64_t rows = module.rows_of_matrix();
  for_matrices(module, [&](const std::vector<int64_t>& experts, const MatrixQuantizer& quantizer) {
    for (const int64_t expert : experts) {
      float* own = weights.data + expert * rows * weights.cols;
      quantize_rows(
          RowTask{{own, rows, weights.cols},
                  scheme,
                  [&](MatrixView<const float> some) { return quantizer(module, expert, some, scheme); }})
          .dequantize(own);
    }
  });
}

void LayerwiseTrials::unload() {
  quantizers_.clear();
  kept_ = 0;
  stream_.reset();
}

bool LayerwiseTrials::is_kept(const Module& module) const {
  return module.experts == 0 || module.experts * module.cols * module.cols <= most_floats_;
}

void LayerwiseTrials::for_matrices(const Module& module, const Use& use) {
  const at::NoGradGuard no_grad;
  if (is_kept(module)) {
    if (quantizers_.count({module.layer, input_of(module, 0)}) == 0) measure(module.layer);
    for (int64_t expert = 0; expert < module.matrices(); ++expert)
      use({expert}, quantizers_.at({module.layer, input_of(module, expert)}));
    return;
  }
  proceed_to(module.layer);
  MomentsOfMatrices known(module, [&](const std::vector<int64_t>& experts, const at::Tensor& products) {
    use(experts, maker_(products));
  });
  known.take_all([&](const ActivationStream::See& see) { stream_->observe(see); }, most_floats_);
  known.finish();
}

void LayerwiseTrials::proceed_to(int layer) {
  if (!stream_ || stream_->layer() > layer)
    stream_ = std::make_unique<ActivationStream>(model_, *calibration_, activations_);
  while (stream_->layer() < layer) stream_->advance();
}

void LayerwiseTrials::measure(int layer) {
  if (kept_ > kKeptFloats) {
    quantizers_.clear();
    kept_ = 0;
  }
  proceed_to(layer);
  std::map<std::string, ProductMoments> moments;
  for (const Module* module : model_.layer_modules(layer))
    for (int64_t expert = 0; is_kept(*module) && expert < module->matrices(); ++expert)
      moments[input_of(*module, expert)];
  stream_->observe(add_to(moments));
  for (const Module* module : model_.layer_modules(layer)) {
    if (module->input != module->name || !is_kept(*module)) continue;
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
