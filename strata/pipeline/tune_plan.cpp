#include "strata/pipeline/tune_plan.h"

#include <utility>

#include "strata/core/progress.h"
#include "strata/export/export_plan.h"
#include "strata/quantizers/finished_matrices.h"

namespace strata {
namespace {

// What changes when the plan is written, layer by layer; floating types keep their values.
std::map<std::string, QuantizedMatrix> quantize_all(const Model& model, const ExportPlan& plan) {
  begin_calibrated(model, plan);
  std::vector<std::string> tensors = {model.embedding};
  for (const Module& module : model.modules) tensors.push_back(module.tensor);
  if (model.head != model.embedding) tensors.push_back(model.head);
  Progress progress("quantizing to be tuned", static_cast<int64_t>(tensors.size()), "matrices");
  std::map<std::string, QuantizedMatrix> matrices;
  for (const std::string& tensor : tensors) {
    const Scheme* scheme = planned_scheme(model, plan, tensor);
    if (scheme != nullptr && !is_floating(*scheme) &&
        !stored_already(model.checkpoint->info(tensor), *scheme))
      matrices[tensor] = quantize_planned(model, plan, tensor, nullptr);
    progress.advance();
  }
  return matrices;
}

}  // namespace

TuningReport tune_plan(const Model& unquantized, std::shared_ptr<const Model>& model, ExportPlan& plan,
                       const ExportFormat& format, const Calibration& calibration, TuningOptions options) {
  options.form = {format.store, format.vector_type};
  if (const std::string& table = model->layer_embedding; !table.empty()) {
    const Scheme& scheme = *planned_scheme(*model, plan, table);
    if (!is_floating(scheme) && !needs_whole_matrix(scheme) &&
        !stored_already(model->checkpoint->info(table), scheme))
      options.form.layer_embedding = scheme;
    options.form.quantizer = plan.quantizer;
  }
  TunedModel tuned = tune(unquantized, *model, quantize_all(*model, plan), calibration, options);
  plan.calibrated = hand_out(std::move(tuned.matrices));
  if (!tuned.vectors.empty())
    model = std::make_shared<const Model>(replace_vectors(*model, std::move(tuned.vectors)));
  return {tuned.divergence_before, tuned.divergence_after};
}

}  // namespace strata
