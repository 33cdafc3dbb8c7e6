#include "strata/report/plan_heat_map.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "strata/core/units.h"
#include "strata/report/plan_place.h"

namespace strata {
namespace {

// By layer and module; the module is empty where the unit is the layer.
using ScoresByPlace = std::map<std::pair<int, std::string>, double>;

std::string hint_of(const Assignment& assignment, const PlanPlace& place, const ScoresByPlace& scores,
                    const std::map<std::string, std::string>& costs) {
  const uint64_t bits = assignment.scheme.stored_bits(assignment.rows, assignment.cols);
  std::string hint = fmt::format(
      "{}{}\n{}, [{}, {}], {}", place.layer < 0 ? "" : fmt::format("layer {}, ", place.layer), place.module,
      assignment.scheme.name(), assignment.rows, assignment.cols, format_bytes((bits + 7) / 8));
  for (const std::string& module : {place.module, std::string()})
    if (const auto found = scores.find({place.layer, module}); found != scores.end()) {
      hint += fmt::format("\nscore {:.4g}{}", found->second, module.empty() ? " of the layer" : "");
      break;
    }
  if (const auto found = costs.find(assignment.tensor); found != costs.end())
    hint += "\ncosts " + found->second;
  return hint;
}

}  // namespace

HeatMap plan_heat_map(const Scores& scores, const Plan& plan) {
  ScoresByPlace by_place;
  for (const Score& score : scores.scores) by_place[{score.layer, score.module}] = score.score;
  std::map<std::string, std::string> costs;  // by tensor: "Q2_K 0.003, Q4_K 0.0002"
  for (const Cost& cost : scores.costs) {
    std::string& text = costs[cost.tensor];
    text += fmt::format("{}{} {:.3g}", text.empty() ? "" : ", ", cost.scheme, cost.cost);
  }
  HeatMap map;
  map.title = "The plan";
  map.legend = "stored bits a weight";
  std::map<int, std::map<std::string, HeatMap::Cell>> layers;
  std::vector<std::string> modules;  // in the order of their first layer
  for (const Assignment& assignment : plan.assignments) {
    const PlanPlace place = place_of(assignment.tensor);
    if (std::find(modules.begin(), modules.end(), place.module) == modules.end())
      modules.push_back(place.module);
    if (assignment.rows == 0) continue;
    const auto bits = static_cast<double>(assignment.scheme.stored_bits(assignment.rows, assignment.cols));
    layers[place.layer][place.module] = {true, bits / static_cast<double>(assignment.rows * assignment.cols),
                                         assignment.scheme.name(),
                                         hint_of(assignment, place, by_place, costs)};
  }
  for (const std::string& module : modules) map.columns.push_back(short_name(module));
  for (const auto& [layer, cells] : layers) {
    map.rows.push_back(layer < 0 ? "-" : fmt::format("{}", layer));
    auto& row = map.cells.emplace_back(modules.size());
    for (size_t m = 0; m < modules.size(); ++m)
      if (const auto found = cells.find(modules[m]); found != cells.end()) row[m] = found->second;
  }
  return map;
}

}  // namespace strata
