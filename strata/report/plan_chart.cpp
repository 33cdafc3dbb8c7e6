#include "strata/report/plan_chart.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <vector>

#include "strata/core/units.h"
#include "strata/report/plan_place.h"
#include "strata/report/table.h"

namespace strata {
namespace {

struct LayerRow {
  uint64_t bits = 0;
  int64_t params = 0;
  std::map<std::string, std::string> schemes;  // by module

  double bits_per_weight() const { return static_cast<double>(bits) / static_cast<double>(params); }
};

std::map<int, double> layer_scores(const Scores& scores) {
  std::map<int, std::pair<double, int>> sums;
  for (const Score& score : scores.scores) {
    sums[score.layer].first += score.score;
    ++sums[score.layer].second;
  }
  std::map<int, double> means;
  for (const auto& [layer, sum] : sums) means[layer] = sum.first / sum.second;
  return means;
}

// Bars start at the smallest value, so that differences show.
double fraction(double value, double lowest, double highest) {
  return highest > lowest ? (value - lowest) / (highest - lowest) : 0;
}

}  // namespace

std::string plan_chart(const Scores& scores, const Plan& plan) {
  std::map<int, LayerRow> layers;
  std::vector<std::string> modules;  // columns, in the order of their first layer
  for (const Assignment& assignment : plan.assignments) {
    const PlanPlace place = place_of(assignment.tensor);
    LayerRow& row = layers[place.layer];
    row.bits += assignment.scheme.stored_bits(assignment.rows, assignment.cols);
    row.params += assignment.rows * assignment.cols;
    row.schemes[place.module] = assignment.scheme.name();
    if (std::find(modules.begin(), modules.end(), place.module) == modules.end())
      modules.push_back(place.module);
  }
  if (layers.empty()) return "";

  std::map<int, double> values = layer_scores(scores);
  const bool scored = !values.empty();
  if (!scored)
    for (const auto& [layer, row] : layers) values[layer] = row.bits_per_weight();
  double lowest = values.begin()->second, highest = lowest;
  for (const auto& [layer, value] : values) {
    lowest = std::min(lowest, value);
    highest = std::max(highest, value);
  }

  Table table;
  table.column("layer");
  table.column(scored ? "score" : "bits");
  table.column("", Table::Align::Left);
  table.column("bpw");
  for (const std::string& module : modules) table.column(short_name(module), Table::Align::Left);
  for (const auto& [layer, row] : layers) {
    const auto value = values.find(layer);
    const bool known = value != values.end();
    std::vector<std::string> cells = {layer < 0 ? "-" : fmt::format("{}", layer),
                                      known ? fmt::format("{:.4g}", value->second) : "-",
                                      known ? bar(fraction(value->second, lowest, highest), 12) : "",
                                      fmt::format("{:.3f}", row.bits_per_weight())};
    for (const std::string& module : modules) {
      const auto scheme = row.schemes.find(module);
      cells.push_back(scheme == row.schemes.end() ? "-" : scheme->second);
    }
    table.row(std::move(cells));
  }
  return table.text();
}

std::string optimality(double gap) {
  return gap <= 0 ? "the optimum, proven" : fmt::format("within {:.2g} % of the optimum, proven", 100 * gap);
}

std::string plan_summary(const Plan& plan) {
  std::string text = fmt::format(
      "asked for    {}\nlayers       {:.4f} stored bits a weight ({:.4f} code bits), {} in {} matrices\n",
      plan.budget.empty() ? "no budget" : plan.budget, plan.bits_per_weight, plan.average_code_bits,
      format_bytes(plan.bytes), plan.assignments.size());
  const auto add = [&](const std::string& name, const std::optional<Scheme>& scheme,
                       const std::optional<double>& bits) {
    if (bits) text += fmt::format("{:<12} {:.4f}, {}\n", name, *bits, scheme ? scheme->name() : "as it was");
  };
  const bool tied = plan.embedding_bits && !plan.head_bits;
  add(tied ? "emb. + head" : "embedding", plan.embedding, plan.embedding_bits);
  add("head", plan.head, plan.head_bits);
  add("layer emb.", plan.layer_embedding, plan.layer_embedding_bits);
  text += fmt::format("method       {}, allocator {}", plan.method, plan.allocator);
  if (plan.gap) text += " (" + optimality(*plan.gap) + ")";
  return text + "\n";
}

}  // namespace strata
