#include "strata/pipeline/apply_schemes.h"

#include "strata/core/progress.h"
#include "strata/export/export_plan.h"

namespace strata {

std::map<std::string, Scheme> schemes_of(const Plan& plan) {
  std::map<std::string, Scheme> schemes;
  for (const Assignment& assignment : plan.assignments) schemes[assignment.tensor] = assignment.scheme;
  return schemes;
}

void apply_schemes(Decoder& decoder, const std::map<std::string, Scheme>& schemes,
                   const QuantizerOptions& quantizer, CalibratedQuantizer* calibrated,
                   const std::map<std::string, std::vector<float>>& importance,
                   const RowImpacts& row_impacts) {
  decoder.restore_all();
  const Checkpoint& checkpoint = *decoder.model().checkpoint;
  Progress progress("quantizing in memory", static_cast<int64_t>(schemes.size()), "matrices");
  const auto replace = [&](const std::string& tensor, const at::Tensor& weight) {
    decoder.replace(tensor, weight.to(decoder.options().device, decoder.options().dtype));
    progress.advance();
  };
  // The table of embeddings for every layer may be larger than everything else: of what stores rows by
  // themselves only those are quantized that are read.
  const auto changed_by_row = [&](const std::string& tensor, const Scheme& scheme) {
    if (tensor != decoder.model().layer_embedding || needs_whole_matrix(scheme)) return false;
    decoder.change_layer_embedding([scheme, quantizer](at::Tensor& rows) {
      fake_quantize({rows.data_ptr<float>(), rows.size(0) * rows.size(1), rows.size(2)}, scheme, quantizer);
    });
    progress.advance();
    return true;
  };
  std::map<std::string, int64_t> matrices_of;  // stacks
  for (const Module& module : decoder.model().modules) matrices_of[module.tensor] = module.matrices();
  std::map<std::string, Scheme> of_layers;
  if (calibrated != nullptr)
    for (const Module& module : decoder.model().modules)
      if (const auto found = schemes.find(module.tensor); found != schemes.end()) of_layers.insert(*found);
  for (const auto& [name, scheme] : schemes) {
    if (of_layers.count(name) > 0 || changed_by_row(name, scheme)) continue;
    const TensorInfo& info = checkpoint.info(name);
    at::Tensor weight = at::empty({info.rows(), info.cols()}, at::kFloat);
    checkpoint.read(info, weight.data_ptr<float>());
    QuantizerOptions options = quantizer;
    if (const auto found = matrices_of.find(name); found != matrices_of.end())
      options.matrices = found->second;
    if (const auto found = importance.find(name); found != importance.end())
      options.importance = found->second.data();
    options.row_impact = impacts_of(row_impacts, name, info.rows());
    fake_quantize({weight.data_ptr<float>(), info.rows(), info.cols()}, scheme, options);
    replace(name, weight);
  }
  if (of_layers.empty()) return;
  calibrated->begin(of_layers);
  for (const Module& module : decoder.model().modules) {  // layer by layer
    if (of_layers.count(module.tensor) == 0) continue;
    at::Tensor weight = at::empty({module.rows, module.cols}, at::kFloat);
    calibrated->take(module.tensor).dequantize(weight.data_ptr<float>());
    replace(module.tensor, weight);
  }
}

}  // namespace strata
