#include "strata/sensitivity/costs.h"

#include <map>
#include <utility>

#include "strata/allocation/costs.h"
#include "strata/core/error.h"
#include "strata/core/json.h"
#include "strata/core/ranks.h"
#include "strata/model/boundary_modules.h"
#include "strata/sensitivity/method.h"
#include "strata/sensitivity/module_scores.h"
#include "strata/sensitivity/prior.h"

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

// Rows in the order of the modules, from those that every rank was dealt, in the same order.
std::vector<WeightErrors::Row> rows_of_all(const std::vector<Module>& modules, const std::vector<int>& ranks,
                                           std::vector<WeightErrors::Row> own) {
  if (rank_count() == 1) return own;
  Json sums = Json::array();
  for (const WeightErrors::Row& row : own) sums.push_back({row.squared_norm, row.squared_errors});
  std::vector<Json> of_ranks;
  for (const std::string& of_rank : gather(sums.dump())) of_ranks.push_back(Json::parse(of_rank));
  std::vector<size_t> next(of_ranks.size());
  std::vector<WeightErrors::Row> rows;
  for (size_t m = 0; m < modules.size(); ++m) {
    const auto from = static_cast<size_t>(ranks[m]);
    const Json& row = of_ranks[from].at(next[from]++);
    rows.push_back({modules[m], row.at(0).get<double>(), row.at(1).get<std::vector<double>>()});
  }
  return rows;
}

}  // namespace

double WeightErrors::relative(size_t row, size_t scheme) const {
  return rows[row].squared_norm > 0 ? rows[row].squared_errors[scheme] / rows[row].squared_norm : 0;
}

WeightErrors measure_weight_errors(const Model& model, const std::vector<Scheme>& schemes,
                                   const QuantizerOptions& quantizer, const std::vector<Module>& boundaries) {
  WeightErrors errors;
  errors.schemes = schemes;
  errors.quantizer = quantizer.name;
  std::vector<Module> modules = model.modules;
  modules.insert(modules.end(), boundaries.begin(), boundaries.end());
  std::vector<double> sizes;
  for (const Module& module : modules) sizes.push_back(static_cast<double>(module.params()));
  const std::vector<int> ranks = deal(sizes);
  std::vector<Module> own;
  for (size_t m = 0; m < modules.size(); ++m)
    if (ranks[m] == rank()) own.push_back(modules[m]);
  std::vector<WeightErrors::Row> rows;
  for_each_matrix(model, own, "measuring weight errors",
                  [&](const Module& module, int64_t expert, MatrixView<const float> weights) {
                    if (expert == 0) rows.push_back({module, 0, std::vector<double>(schemes.size())});
                    WeightErrors::Row& row = rows.back();
                    row.squared_norm += sum_of_squares(weights);
                    for (size_t s = 0; s < schemes.size(); ++s)
                      row.squared_errors[s] += quantization_error(weights, schemes[s], quantizer);
                  });
  errors.rows = rows_of_all(modules, ranks, std::move(rows));
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
  const auto weight_of_module = [&](const Module& module) {
    const double share = static_cast<double>(module.params()) / layer_params[module.layer];
    const auto found = weight_of.find({module.layer, scores.per_module ? module.name : std::string()});
    if (found == weight_of.end())
      fail("the scores of {} have none for {}, so its costs cannot be told", scores.method, module.tensor);
    return found->second * share;
  };
  double of_layers = 0;
  for (const WeightErrors::Row& row : errors.rows)
    if (row.module.layer != kNoLayer) of_layers += weight_of_module(row.module);
  std::vector<double> row_weights;
  for (const WeightErrors::Row& row : errors.rows)
    row_weights.push_back(row.module.layer == kNoLayer ? of_layers * prior_beside_layers(row.module)
                                                       : weight_of_module(row.module));
  return costs(errors,
               [&](size_t row, size_t scheme) { return row_weights[row] * errors.relative(row, scheme); });
}

std::vector<Cost> absolute_costs(const WeightErrors& errors) {
  return costs(errors, [&](size_t row, size_t scheme) { return errors.rows[row].squared_errors[scheme]; });
}

void add_boundary_costs(Scores& scores, const SensitivityOptions& options) {
  std::map<std::string, double> of_layers;  // by scheme
  for (const Cost& cost : scores.costs) of_layers[cost.scheme] += cost.cost;
  scores.boundaries = allocation_modules(options.boundaries);
  for (const Module& boundary : options.boundaries) {
    const double part = prior_beside_layers(boundary);
    for (const Scheme& scheme : options.schemes)
      scores.costs.push_back(
          {boundary.tensor, boundary.rows, boundary.cols, scheme.name(), part * of_layers.at(scheme.name())});
  }
}

}  // namespace strata
