#include "strata/sensitivity/cost_sheet.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "strata/core/error.h"
#include "strata/forward/load_tensor.h"
#include "strata/sensitivity/module_scores.h"

namespace strata {
namespace {

Json identity(const Model& model, const std::string& method, const SensitivityOptions& options,
              const Evidence& evidence, const Json& settings) {
  return {{"method", method},
          {"weights", weights_fingerprint(model)},
          {"calibration", evidence.calibration ? evidence.calibration->fingerprint : ""},
          {"imatrix", evidence.imatrix ? evidence.imatrix->fingerprint() : ""},
          {"quantizer", quantizer_of_costs(options)},
          {"settings", settings}};
}

}  // namespace

CostSheet::CostSheet(const Model& model, std::string method, const SensitivityOptions& options,
                     Evidence evidence, const Json& settings)
    : model_(model),
      method_(std::move(method)),
      options_(options),
      evidence_(std::move(evidence)),
      schemes_(options.schemes),
      modules_(model.modules) {
  modules_.insert(modules_.end(), options.boundaries.begin(), options.boundaries.end());
  if (schemes_.empty()) schemes_.push_back(lowest_scheme(model, {}));
  if (!options.cache.empty())
    cache_ = ResultCache(options.cache, method_, identity(model, method_, options, evidence_, settings));
}

std::string CostSheet::key(const Module& module, const Scheme& scheme) {
  return module.tensor + " " + scheme.name();
}

std::vector<size_t> CostSheet::missing(const Module& module) const {
  std::vector<size_t> indices;
  for (size_t s = 0; s < schemes_.size(); ++s)
    if ((!wanted_ || wanted_(module, s)) && cache_.find(key(module, schemes_[s])) == nullptr)
      indices.push_back(s);
  return indices;
}

bool CostSheet::is_complete(int layer) const {
  return std::all_of(modules_.begin(), modules_.end(),
                     [&](const Module& module) { return module.layer != layer || missing(module).empty(); });
}

bool CostSheet::is_complete() const {
  return std::all_of(modules_.begin(), modules_.end(),
                     [&](const Module& module) { return missing(module).empty(); });
}

void CostSheet::set(const Module& module, size_t scheme, double cost) {
  if (!std::isfinite(cost))
    fail("the cost that {} measures for {} in {} is {}; the model's activations overflow", method_,
         module.tensor, schemes_[scheme].name(), cost);
  cache_.store(key(module, schemes_[scheme]), cost);
}

std::string CostSheet::known() const {
  Json known = Json::array();
  for (size_t m = 0; m < modules_.size(); ++m)
    for (size_t s = 0; s < schemes_.size(); ++s)
      if (!wanted_ || wanted_(modules_[m], s))
        if (const Json* found = cache_.find(key(modules_[m], schemes_[s]))) known.push_back({m, s, *found});
  return known.dump();
}

void CostSheet::take(const std::string& known) {
  for (const Json& one : Json::parse(known)) {
    const Module& module = modules_.at(one.at(0).get<size_t>());
    const Scheme& scheme = schemes_.at(one.at(1).get<size_t>());
    if (cache_.find(key(module, scheme)) == nullptr) cache_.store(key(module, scheme), one.at(2));
  }
}

void CostSheet::for_each_missing(const Module& module, const SeeQuantized& see) const {
  for_each(module, missing(module), see);
}

void CostSheet::for_each(const Module& module, const std::vector<size_t>& indices,
                         const SeeQuantized& see) const {
  if (indices.empty()) return;
  const at::Tensor weight = load_tensor(*model_.checkpoint, module.tensor, at::kCPU, at::kFloat);
  const at::Tensor exact = weight.to(options_.device);
  const auto is_module = [&](const Module& one) { return one.tensor == module.tensor; };
  if (options_.trials && std::any_of(model_.modules.begin(), model_.modules.end(), is_module)) {
    for (const size_t s : indices) {
      at::Tensor quantized = weight.clone();
      options_.trials->quantize(module.tensor, schemes_[s],
                                {quantized.data_ptr<float>(), quantized.size(0), quantized.size(1)});
      see(s, exact, quantized.to(options_.device));
    }
    return;
  }
  const std::vector<float> importance =
      evidence_.imatrix ? evidence_.imatrix->mean_squares(module.tensor) : std::vector<float>();
  QuantizerOptions quantizer = options_.quantizer;
  quantizer.matrices = module.matrices();
  if (!importance.empty()) quantizer.importance = importance.data();
  if (evidence_.row_impacts)
    quantizer.row_impact = impacts_of(*evidence_.row_impacts, module.tensor, module.rows);
  for (const size_t s : indices)
    see(s, exact, quantized_weight(weight, schemes_[s], quantizer).to(options_.device));
}

double CostSheet::cost(const Module& module, size_t scheme) const {
  return cost(module, schemes_[scheme]);
}

double CostSheet::cost(const Module& module, const Scheme& scheme) const {
  const Json* found = cache_.find(key(module, scheme));
  if (found == nullptr || !found->is_number())
    fail("{} has no cost for {} in {}", method_, module.tensor, scheme.name());
  return found->get<double>();
}

Scores CostSheet::scores() const {
  const Scheme low = lowest_scheme(model_, schemes_);
  std::vector<double> values;
  for (const Module& module : model_.modules) values.push_back(cost(module, low));
  Scores scores = per_module_scores(model_, method_, values);
  scores.boundaries = allocation_modules(options_.boundaries);
  for (const Module& module : modules_)
    for (const Scheme& scheme : options_.schemes)
      scores.costs.push_back({module.tensor, module.rows, module.cols, scheme.name(), cost(module, scheme)});
  scores.details["scheme"] = low.name();
  scores.details["quantizer"] = quantizer_of_costs(options_);
  return scores;
}

std::string quantizer_of_costs(const SensitivityOptions& options) {
  return options.trials ? options.trials->identity() : options.quantizer.name;
}

at::Tensor quantized_weight(const at::Tensor& weight, const Scheme& scheme,
                            const QuantizerOptions& quantizer) {
  at::Tensor quantized = weight.clone();
  fake_quantize({quantized.data_ptr<float>(), quantized.size(0), quantized.size(1)}, scheme, quantizer);
  return quantized;
}

}  // namespace strata
