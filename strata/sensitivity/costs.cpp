#include "strata/sensitivity/costs.h"

#include <map>
#include <utility>

#include "strata/allocation/costs.h"
#include "strata/core/error.h"
#include "strata/sensitivity/module_scores.h"

namespace strata {
namespace {

template <class CostOf>
std::vector<Cost> costs(const WeightErrors& errors, const CostOf& cost_of) {
  std::vector<Cost> result;
  result.reserve(errors.rows.size() * errors.schemes.size());
  for (size_t row = 0; row < errors.rows.size(); ++row) {
    const Module& module = errors.rows[row].module;
    for (size_t scheme = 0; scheme < errors.schemes.size(); ++scheme)
      result.push_back(
          {module.tensor, module.rows, module.cols, errors.schemes[scheme].name(), cost_of(row, scheme)});
  }
  return result;
}

}  // namespace

double WeightErrors::relative(size_t row, size_t scheme) const {
  return rows[row].squared_norm > 0 ? rows[row].squared_errors[scheme] / rows[row].squared_norm : 0;
}

WeightErrors measure_weight_errors(const Model& model, const std::vector<Scheme>& schemes,
                                   const QuantizerOptions& quantizer) {
  WeightErrors errors;
  errors.schemes = schemes;
  errors.quantizer = quantizer.name;
  for_each_module(model, "measuring weight errors",
                  [&](const Module& module, MatrixView<const float> weights) {
                    WeightErrors::Row row;
                    row.module = module;
                    row.squared_norm = sum_of_squares(weights);
                    for (const Scheme& scheme : schemes)
                      row.squared_errors.push_back(quantization_error(weights, scheme, quantizer));
                    errors.rows.push_back(std::move(row));
                  });
  return errors;
}

std::vector<Cost> weighed_costs(const Scores& scores, const WeightErrors& errors) {
  std::vector<double> values;
  for (const Score& score : scores.scores) values.push_back(score.score);
  const std::vector<double> weights = positive_weights(values);
  std::map<std::pair<int, std::string>, double> weight_of;
  for (size_t i = 0; i < weights.size(); ++i)
    weight_of[{scores.scores[i].layer, scores.scores[i].module}] = weights[i];
  std::map<int, double> layer_params;
  for (const WeightErrors::Row& row : errors.rows)
    layer_params[row.module.layer] += static_cast<double>(row.module.params());
  return costs(errors, [&](size_t row, size_t scheme) {
    const Module& module = errors.rows[row].module;
    const double share = static_cast<double>(module.params()) / layer_params[module.layer];
    const auto found = weight_of.find({module.layer, scores.per_module ? module.name : std::string()});
    if (found == weight_of.end())
      fail("the scores of {} have none for {}, so its costs cannot be told", scores.method, module.tensor);
    return found->second * share * errors.relative(row, scheme);
  });
}

std::vector<Cost> absolute_costs(const WeightErrors& errors) {
  return costs(errors, [&](size_t row, size_t scheme) { return errors.rows[row].squared_errors[scheme]; });
}

}  // namespace strata
