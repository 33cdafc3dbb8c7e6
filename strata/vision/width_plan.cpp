#include "strata/vision/width_plan.h"

#include <algorithm>
#include <cmath>

#include "strata/allocation/choice_problem.h"
#include "strata/core/error.h"
#include "strata/core/units.h"

namespace strata::vision {
namespace {

constexpr int64_t kFloatBits = 32;
constexpr Widths kNarrowest = {kLowestWidth, kLowestWidth}, kWidest = {kHighestWidth, kHighestWidth};

int64_t packed_bits(const LayerSize& size, int bits) {
  return (size.weights * bits + 7) / 8 * 8 + 2 * kFloatBits * size.outputs;
}

// The budget's limits in whole numbers, in one order for all layers.
class Limits {
 public:
  Limits(const std::vector<LayerSize>& sizes, const WidthBudget& budget) : sizes_(sizes), budget_(budget) {
    double weights = 0, multiplications = 0;
    for (const LayerSize& size : sizes) {
      weights += static_cast<double>(size.weights);
      multiplications += static_cast<double>(size.multiplications);
    }
    const auto positive = [](double value, const char* what) {
      if (!(value > 0 && std::isfinite(value))) fail_usage("a {} of {} is not a number above 0", what, value);
      return value;
    };
    if (budget.bytes) add(8.0 * static_cast<double>(*budget.bytes));
    if (budget.compression) add(kFloatBits * weights / positive(*budget.compression, "compression"));
    if (budget.bitops) add(positive(*budget.bitops, "number of bit operations"));
    if (budget.bitops_ratio)
      add(kFloatBits * kFloatBits * multiplications *
          positive(*budget.bitops_ratio, "ratio of bit operations"));
    if (amounts_.empty())
      fail_usage("a budget is needed: give --size, --compression, --bitops or --bitops-ratio");
  }

  const std::vector<int64_t>& amounts() const { return amounts_; }

  std::vector<int64_t> use(size_t layer, Widths widths) const {
    const LayerSize& size = sizes_[layer];
    std::vector<int64_t> uses;
    if (budget_.bytes) uses.push_back(packed_bits(size, widths.weight));
    if (budget_.compression) uses.push_back(size.weights * widths.weight);
    const int64_t bitops = size.multiplications * widths.weight * widths.activation;
    if (budget_.bitops) uses.push_back(bitops);
    if (budget_.bitops_ratio) uses.push_back(bitops);
    return uses;
  }

  bool allow(const std::vector<Widths>& plan) const {
    std::vector<int64_t> total(amounts_.size(), 0);
    for (size_t l = 0; l < plan.size(); ++l) {
      const std::vector<int64_t> one = use(l, plan[l]);
      for (size_t i = 0; i < one.size(); ++i) total[i] += one[i];
    }
    for (size_t i = 0; i < total.size(); ++i)
      if (total[i] > amounts_[i]) return false;
    return true;
  }

 private:
  void add(double amount) {
    amounts_.push_back(static_cast<int64_t>(std::min(amount * (1 + 1e-12), 0x1p52)));
  }

  const std::vector<LayerSize>& sizes_;
  const WidthBudget& budget_;
  std::vector<int64_t> amounts_;
};

[[noreturn]] void fail_too_small(const std::vector<LayerSize>& sizes, const std::vector<Widths>& smallest,
                                 const WidthBudget& budget) {
  WidthPlan plan;
  plan.layers = smallest;
  plan.sum_up(sizes);
  fail_usage(
      "{} cannot be met: with every layer that is free at {} bits the network takes {} bytes ({:.2f}x) and "
      "{:.4g} "
      "bit operations ({:.4g} of float); give more, or --free-ends",
      budget.text(), kLowestWidth, plan.bytes, plan.compression, plan.bitops, plan.bitops_ratio);
}

std::vector<Widths> with_free(const std::vector<LayerSize>& sizes, const std::vector<size_t>& free,
                              Widths widths) {
  std::vector<Widths> plan(sizes.size(), kWidest);
  for (size_t l : free) plan[l] = widths;
  return plan;
}

std::vector<size_t> free_of(const WidthCosts& costs) {
  std::vector<size_t> free;
  for (const LayerCosts& layer : costs.layers) free.push_back(layer.layer);
  return free;
}

double mean_cost(const WidthCosts& costs, std::vector<double> LayerCosts::*part) {
  double sum = 0;
  size_t count = 0;
  for (const LayerCosts& layer : costs.layers)
    for (double cost : layer.*part) {
      sum += cost;
      ++count;
    }
  return count > 0 && sum > 0 ? sum / static_cast<double>(count) : 1;
}

Widths option_widths(size_t option) {
  return {kLowestWidth + static_cast<int>(option / kWidths),
          kLowestWidth + static_cast<int>(option % kWidths)};
}

// Gives what the budget leaves to wider layers that cost no more.
void spend_the_rest(const ChoiceProblem& problem, const Limits& limits, const std::vector<size_t>& free,
                    std::vector<Widths>& plan, std::vector<int>& chosen) {
  for (size_t f = 0; f < free.size(); ++f) {
    const auto& options = problem.groups[f];
    for (size_t o = 0; o < options.size(); ++o) {
      const Widths now = plan[free[f]], wider = option_widths(o);
      if (wider.weight < now.weight || wider.activation < now.activation) continue;
      if (options[o].cost > options[static_cast<size_t>(chosen[f])].cost) continue;
      plan[free[f]] = wider;
      if (limits.allow(plan))
        chosen[f] = static_cast<int>(o);
      else
        plan[free[f]] = now;
    }
  }
}

}  // namespace

std::vector<LayerSize> layer_sizes(const Graph& graph) {
  std::vector<LayerSize> sizes;
  for (const Layer& layer : graph.layers())
    sizes.push_back({layer.tensor, layer.weights(), layer.outputs, 0});
  return sizes;
}

std::vector<LayerSize> layer_sizes(const Graph& graph, const Tensors& image) {
  const std::vector<int64_t> multiplications = count_multiplications(graph, image);
  std::vector<LayerSize> sizes = layer_sizes(graph);
  for (size_t l = 0; l < sizes.size(); ++l) sizes[l].multiplications = multiplications[l];
  return sizes;
}

std::string WidthBudget::text() const {
  std::string text;
  const auto add = [&](const std::string& part) { text += (text.empty() ? "" : " and ") + part; };
  if (bytes) add(format_bytes(*bytes));
  if (compression) add(fmt::format("{:g}x", *compression));
  if (bitops) add(fmt::format("{:g} bit operations", *bitops));
  if (bitops_ratio) add(fmt::format("1/{:g} of float's bit operations", 1 / *bitops_ratio));
  return text;
}

void WidthPlan::sum_up(const std::vector<LayerSize>& sizes) {
  int64_t stored = 0, code_bits = 0, weights = 0;
  double multiplications = 0;
  bitops = 0;
  for (size_t l = 0; l < sizes.size(); ++l) {
    stored += packed_bits(sizes[l], layers[l].weight);
    code_bits += sizes[l].weights * layers[l].weight;
    weights += sizes[l].weights;
    multiplications += static_cast<double>(sizes[l].multiplications);
    bitops += static_cast<double>(sizes[l].multiplications) * layers[l].weight * layers[l].activation;
  }
  bytes = static_cast<uint64_t>(stored / 8);
  compression = static_cast<double>(kFloatBits * weights) / static_cast<double>(code_bits);
  bitops_ratio = bitops / (multiplications * kFloatBits * kFloatBits);
}

Options declare(WidthAllocation& options) {
  return {positive("alpha", options.alpha, "weight of the activations' costs beside the weights'")};
}

WidthPlan allocate_widths(const std::vector<LayerSize>& sizes, const WidthCosts& costs,
                          const WidthBudget& budget, const WidthAllocation& options) {
  const Limits limits(sizes, budget);
  const std::vector<size_t> free = free_of(costs);
  WidthPlan plan{costs.method, budget.text(), with_free(sizes, free, kWidest), {}, 0, 0, 0, 0};
  if (!limits.allow(with_free(sizes, free, kNarrowest)))
    fail_too_small(sizes, with_free(sizes, free, kNarrowest), budget);

  ChoiceProblem problem;
  problem.limits = limits.amounts();
  for (size_t l = 0; l < sizes.size(); ++l) {
    if (std::find(free.begin(), free.end(), l) != free.end()) continue;
    const std::vector<int64_t> fixed = limits.use(l, kWidest);
    for (size_t i = 0; i < fixed.size(); ++i) problem.limits[i] -= fixed[i];
  }
  const double weight_scale = mean_cost(costs, &LayerCosts::weights);
  const double activation_scale = mean_cost(costs, &LayerCosts::activations) / options.alpha;
  for (const LayerCosts& layer : costs.layers) {
    auto& group = problem.groups.emplace_back();
    for (size_t o = 0; o < layer.weights.size() * layer.activations.size(); ++o) {
      const Widths widths = option_widths(o);
      const double cost =
          layer.weights[static_cast<size_t>(widths.weight - kLowestWidth)] / weight_scale +
          layer.activations[static_cast<size_t>(widths.activation - kLowestWidth)] / activation_scale;
      group.push_back({cost, limits.use(layer.layer, widths)});
    }
  }
  ChoiceSettings settings;
  settings.relative_gap = options.relative_gap;
  settings.seconds = options.seconds;
  auto solution = solve(problem, settings);
  if (!solution) fail_too_small(sizes, with_free(sizes, free, kNarrowest), budget);
  for (size_t f = 0; f < free.size(); ++f)
    plan.layers[free[f]] = option_widths(static_cast<size_t>(solution->chosen[f]));
  spend_the_rest(problem, limits, free, plan.layers, solution->chosen);
  solution->cost = cost_of(problem, solution->chosen);
  plan.gap = solution->gap();
  plan.sum_up(sizes);
  return plan;
}

WidthPlan uniform_widths(const std::vector<LayerSize>& sizes, const std::vector<size_t>& free,
                         const WidthBudget& budget) {
  const Limits limits(sizes, budget);
  const bool size_only = !budget.bitops && !budget.bitops_ratio;
  const auto at = [&](int bits) { return Widths{bits, size_only ? kHighestWidth : bits}; };
  if (!limits.allow(with_free(sizes, free, at(kLowestWidth))))
    fail_too_small(sizes, with_free(sizes, free, kNarrowest), budget);
  int bits = kLowestWidth;
  while (bits < kHighestWidth && limits.allow(with_free(sizes, free, at(bits + 1)))) ++bits;
  WidthPlan plan{"uniform", budget.text(), with_free(sizes, free, at(bits)), {}, 0, 0, 0, 0};
  for (size_t l : free) {
    if (bits == kHighestWidth) break;
    plan.layers[l] = at(bits + 1);
    if (!limits.allow(plan.layers)) plan.layers[l] = at(bits);
  }
  plan.sum_up(sizes);
  return plan;
}

Json to_json(const WidthPlan& plan, const std::vector<LayerSize>& sizes) {
  Json layers = Json::array();
  for (size_t l = 0; l < sizes.size(); ++l)
    layers.push_back({{"tensor", sizes[l].tensor},
                      {"weight_bits", plan.layers[l].weight},
                      {"activation_bits", plan.layers[l].activation},
                      {"weights", sizes[l].weights},
                      {"multiplications", sizes[l].multiplications}});
  Json json = {{"format", "strata.width-plan"}, {"version", 1},
               {"method", plan.method},         {"budget", plan.budget},
               {"bytes", plan.bytes},           {"compression", plan.compression},
               {"bitops", plan.bitops},         {"bitops_ratio", plan.bitops_ratio}};
  if (plan.gap) json["gap"] = *plan.gap;
  json["layers"] = layers;
  return json;
}

}  // namespace strata::vision
