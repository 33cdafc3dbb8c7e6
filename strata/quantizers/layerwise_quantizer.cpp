#include "strata/quantizers/layerwise_quantizer.h"

#include <ATen/core/grad_mode.h>

#include <algorithm>

#include "strata/forward/load_tensor.h"

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
  if (!options_.sequential && !inputs.empty()) {
    for (const Module* module : model().layer_modules(layer))
      for (int64_t expert = 0; planned(*module) != nullptr && expert < module->matrices(); ++expert)
        moments[input_of(*module, expert)];
    stream_->observe(add_to(moments));
  }
  for (const std::string& input : inputs) quantize_readers(layer, input, moments);
}

void LayerwiseQuantizer::quantize_readers(int layer, const std::string& input, Moments& moments) {
  std::vector<const Module*> readers;
  for (const Module* module : model().layer_modules(layer))
    if (module->input == input && planned(*module) != nullptr) readers.push_back(module);
  const Module& first_reader = *readers.front();
  std::vector<at::Tensor> weights;
  for (const Module* reader : readers)
    weights.push_back(load_tensor(*model().checkpoint, reader->tensor, at::kCPU, at::kFloat).contiguous());
  std::vector<std::vector<QuantizedMatrix>> matrices(readers.size());
  for (auto& of_reader : matrices) of_reader.resize(static_cast<size_t>(first_reader.matrices()));
  MomentsOfMatrices known(first_reader, [&](const std::vector<int64_t>& experts, const at::Tensor& products) {
    const MatrixQuantizer quantizer = maker_(products);
    const auto weights_of = [&](int64_t expert, size_t i) {
      return weights[i].data_ptr<float>() + expert * readers[i]->rows_of_matrix() * readers[i]->cols;
    };
    std::vector<RowTask> tasks;
    for (const int64_t expert : experts)
      for (size_t i = 0; i < readers.size(); ++i) {
        const Module& reader = *readers[i];
        const Scheme& scheme = *planned(reader);
        tasks.push_back({{weights_of(expert, i), reader.rows_of_matrix(), reader.cols},
                         scheme,
                         [&quantizer, &reader, &scheme, expert](MatrixView<const float> rows) {
                           return quantizer(reader, expert, rows, scheme);
                         }});
      }
    std::vector<QuantizedMatrix> made = quantize_rows(tasks);
    size_t at = 0;
    for (const int64_t expert : experts)
      for (size_t i = 0; i < readers.size(); ++i) {
        QuantizedMatrix& matrix = matrices[i][static_cast<size_t>(expert)];
        matrix = std::move(made[at++]);
        matrix.dequantize(weights_of(expert, i));
      }
  });
  if (options_.sequential)
    known.take_all([&](const ActivationStream::See& see) { stream_->proceed_to(input, see); });
  else
    for (int64_t expert = 0; expert < first_reader.matrices(); ++expert)
      known.take(expert, moments.extract(input_of(first_reader, expert)).mapped());
  note_few_tokens(first_reader, known.finish());

  for (size_t i = 0; i < readers.size(); ++i) {
    stream_->decoder().replace(readers[i]->tensor, weights[i]);
    finish(*readers[i],
           readers[i]->experts > 0 ? stack_of(std::move(matrices[i])) : std::move(matrices[i].front()));
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
             const Module& module, int64_t expert, MatrixView<const float> weights, const Scheme& scheme) {
    const float* impacts = impacts_of(*row_impacts, module.tensor, module.rows);
    return gptq(weights, factor, scheme, options,
                impacts == nullptr ? nullptr : impacts + expert * module.rows_of_matrix());
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
