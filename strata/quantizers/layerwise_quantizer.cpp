#include "strata/quantizers/layerwise_quantizer.h"

#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <set>

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
  Moments moments;
  std::set<std::string> wanted;
  for (const Module* module : model().layer_modules(layer))
    for (int64_t expert = 0; planned(*module) != nullptr && expert < module->matrices(); ++expert)
      wanted.insert(input_of(*module, expert));
  const auto see = [&](const std::string& input, const at::Tensor& values) {
    if (wanted.count(input) == 0) return;
    InputMoment& moment = moments[input];
    if (values.size(0) > 0 || !moment.products.defined()) add_products(moment.products, values);
    moment.tokens += values.size(0);
  };
  if (!options_.sequential && !inputs.empty()) stream_->observe(see);
  for (const std::string& input : inputs) {
    if (options_.sequential) stream_->proceed_to(input, see);
    quantize_readers(layer, input, moments);
  }
}

void LayerwiseQuantizer::quantize_readers(int layer, const std::string& input, Moments& moments) {
  std::vector<const Module*> readers;
  for (const Module* module : model().layer_modules(layer))
    if (module->input == input && planned(*module) != nullptr) readers.push_back(module);
  share_moments(*readers.front(), moments);
  std::vector<at::Tensor> weights;
  for (const Module* reader : readers)
    weights.push_back(load_tensor(*model().checkpoint, reader->tensor, at::kCPU, at::kFloat).contiguous());
  std::vector<std::vector<QuantizedMatrix>> matrices(readers.size());
  for (int64_t expert = 0; expert < readers.front()->matrices(); ++expert) {
    const auto of_expert = moments.find(input_of(*readers.front(), expert));
    const MatrixQuantizer quantize = maker_(of_expert->second.products);
    moments.erase(of_expert);
    for (size_t i = 0; i < readers.size(); ++i) {
      const int64_t rows = readers[i]->rows_of_matrix();
      float* own = weights[i].data_ptr<float>() + expert * rows * readers[i]->cols;
      matrices[i].push_back(
          quantize(*readers[i], expert, {own, rows, readers[i]->cols}, *planned(*readers[i])));
      matrices[i].back().dequantize(own);
    }
  }
  for (size_t i = 0; i < readers.size(); ++i) {
    stream_->decoder().replace(readers[i]->tensor, weights[i]);
    finish(*readers[i],
           readers[i]->experts > 0 ? stack_of(std::move(matrices[i])) : std::move(matrices[i].front()));
  }
}

// Experts that few tokens reach take the sum over all of their layer's, which to what quantizes is an
// average.
void LayerwiseQuantizer::share_moments(const Module& reader, Moments& moments) const {
  if (reader.experts == 0) return;
  std::vector<int64_t> unknown;
  at::Tensor sum;
  for (int64_t expert = 0; expert < reader.experts; ++expert) {
    const InputMoment& own = moments.at(input_of(reader, expert));
    sum = sum.defined() ? sum.add_(own.products) : own.products.clone();
    if (own.tokens < kFewTokens) unknown.push_back(expert);
  }
  for (const int64_t expert : unknown) moments.at(input_of(reader, expert)).products = sum;
  note_few_tokens(reader, unknown);
}

bool LayerwiseQuantizer::is_planned(int layer, const std::string& input) const {
  return std::any_of(model().modules.begin(), model().modules.end(), [&](const Module& module) {
    return module.layer == layer && module.input == input && planned(module) != nullptr;
  });
}

namespace {

MatrixQuantizer gptq_of_moments(const at::Tensor& moments, const GptqOptions& options,
                                const RowImpacts& row_impacts) {
  return [factor = factor_inverse(moments, options), options, &row_impacts](
             const Module& module, int64_t expert, MatrixView<const float> weights, const Scheme& scheme) {
    const float* impacts = impacts_of(row_impacts, module.tensor, module.rows);
    return gptq(weights, factor, scheme, options,
                impacts == nullptr ? nullptr : impacts + expert * module.rows_of_matrix());
  };
}

}  // namespace

std::shared_ptr<CalibratedQuantizer> make_gptq_quantizer(const Model& model,
                                                         std::shared_ptr<const Calibration> calibration,
                                                         const LayerwiseOptions& options,
                                                         const GptqOptions& gptq_options) {
  return std::make_shared<LayerwiseQuantizer>(
      model, std::move(calibration), options,
      [gptq_options, row_impacts = options.row_impacts](const at::Tensor& moments) {
        return gptq_of_moments(moments, gptq_options, row_impacts);
      });
}

std::shared_ptr<CalibratedQuantizer> make_importance_quantizer(const Model& model,
                                                               std::shared_ptr<const Calibration> calibration,
                                                               const LayerwiseOptions& options) {
  return std::make_shared<LayerwiseQuantizer>(
      model, std::move(calibration), options, [row_impacts = options.row_impacts](const at::Tensor& moments) {
        return gptq_of_moments(at::diag(moments.diagonal()), {}, row_impacts);
      });
}

}  // namespace strata
