#include "strata/quantizers/layerwise_quantizer.h"

#include <ATen/core/grad_mode.h>

#include <algorithm>

#include "strata/calibration/second_moments.h"
#include "strata/model/load_tensor.h"

namespace strata {

Options layerwise_options(OptionValues& values) {
  return {flag("one-pass", values.get<LayerwiseOptions>().sequential,
               "take all inputs of a layer from the layer as it was, not as its earlier matrices are "
               "quantized: faster, a little worse",
               false)};
}

LayerwiseQuantizer::LayerwiseQuantizer(const Model& model, std::shared_ptr<const Calibration> calibration,
                                       LayerwiseOptions options, MatrixQuantizerMaker maker)
    : LayerByLayerQuantizer(model),
      calibration_(std::move(calibration)),
      options_(std::move(options)),
      maker_(std::move(maker)) {}

void LayerwiseQuantizer::start() {
  stream_ = std::make_unique<ActivationStream>(model(), *calibration_, options_.activations);
}

void LayerwiseQuantizer::quantize_layer(int layer) {
  const at::NoGradGuard no_grad;
  if (layer > 0) stream_->advance();
  std::vector<std::string> inputs;
  for (const std::string& input : stream_->inputs())
    if (is_planned(layer, input)) inputs.push_back(input);
  std::map<std::string, at::Tensor> moments;
  if (!options_.sequential && !inputs.empty())
    stream_->observe([&](const std::string& input, const at::Tensor& values) {
      if (is_planned(layer, input)) add_products(moments[input], values);
    });
  for (const std::string& input : inputs) {
    if (options_.sequential)
      stream_->proceed_to(input, [&](const at::Tensor& values) { add_products(moments[input], values); });
    quantize_readers(layer, input, moments.at(input));
    moments.erase(input);
  }
}

void LayerwiseQuantizer::quantize_readers(int layer, const std::string& input, const at::Tensor& moments) {
  const MatrixQuantizer quantize = maker_(moments);
  for (const Module& module : model().modules) {
    if (module.layer != layer || module.input != input) continue;
    const Scheme* scheme = planned(module);
    if (scheme == nullptr) continue;
    at::Tensor weights = load_tensor(*model().checkpoint, module.tensor, at::kCPU, at::kFloat).contiguous();
    QuantizedMatrix matrix = quantize(module, {weights.data_ptr<float>(), module.rows, module.cols}, *scheme);
    matrix.dequantize(weights.data_ptr<float>());
    stream_->decoder().replace(module.tensor, weights);
    finish(module, std::move(matrix));
  }
}

bool LayerwiseQuantizer::is_planned(int layer, const std::string& input) const {
  return std::any_of(model().modules.begin(), model().modules.end(), [&](const Module& module) {
    return module.layer == layer && module.input == input && planned(module) != nullptr;
  });
}

namespace {

MatrixQuantizer gptq_of_moments(const at::Tensor& moments, const GptqOptions& options,
                                const std::shared_ptr<const RowImpacts>& row_impacts) {
  return [factor = factor_inverse(moments, options), options, row_impacts](
             const Module& module, MatrixView<const float> weights, const Scheme& scheme) {
    return gptq(weights, factor, scheme, options, impacts_of(*row_impacts, module.tensor, module.rows));
  };
}

}  // namespace

MatrixQuantizerMaker gptq_maker(const GptqOptions& options, std::shared_ptr<const RowImpacts> row_impacts) {
  return [options, row_impacts = std::move(row_impacts)](const at::Tensor& moments) {
    return gptq_of_moments(moments, options, row_impacts);
  };
}

MatrixQuantizerMaker importance_maker(std::shared_ptr<const RowImpacts> row_impacts) {
  return [row_impacts = std::move(row_impacts)](const at::Tensor& moments) {
    return gptq_of_moments(at::diag(moments.diagonal()), {}, row_impacts);
  };
}

std::shared_ptr<CalibratedQuantizer> make_gptq_quantizer(const Model& model,
                                                         std::shared_ptr<const Calibration> calibration,
                                                         const LayerwiseOptions& options,
                                                         const GptqOptions& gptq_options) {
  auto row_impacts = std::make_shared<const RowImpacts>(options.row_impacts);
  return std::make_shared<LayerwiseQuantizer>(model, std::move(calibration), options,
                                              gptq_maker(gptq_options, std::move(row_impacts)));
}

std::shared_ptr<CalibratedQuantizer> make_importance_quantizer(const Model& model,
                                                               std::shared_ptr<const Calibration> calibration,
                                                               const LayerwiseOptions& options) {
  auto row_impacts = std::make_shared<const RowImpacts>(options.row_impacts);
  return std::make_shared<LayerwiseQuantizer>(model, std::move(calibration), options,
                                              importance_maker(std::move(row_impacts)));
}

}  // namespace strata
