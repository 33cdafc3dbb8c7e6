// Allocation with pairwise costs within layers: 32 layers of Llama-2-7B's seven matrices, which share their
// layer's interactions, with 5, 7 or 10 ratios of rows at more bits (78,125, 823,543 and 10,000,000 choices a
// layer) and one or two limits: seconds, proven gap, and the cost beside that of the plan without
// interactions.
#include <benchmark/benchmark.h>

#include <cmath>
#include <map>

#include "strata/allocation/allocator.h"
#include "strata/allocation/coupled_block.h"
#include "strata/allocation/exact.h"
#include "strata/allocation/quadratic.h"
#include "strata/core/error.h"
#include "strata/core/random.h"

namespace strata {
namespace {

constexpr int kLayers = 32;

std::vector<Scheme> make_menu(int64_t options) {
  std::vector<Scheme> menu = parse_schemes("w2g64+w3");
  for (int64_t o = 5; o < options; ++o) {
    menu.push_back(menu.back());
    menu.back().high_ratio = o == 5 ? 0.3 : o == 6 ? 0.4 : 0.4 + 0.1 * static_cast<double>(o - 6);
  }
  return menu;
}

// Costs that fall as rows get more bits, spread over decades as measured ones are, and interactions of either
// sign of up to a fifth of what two modules cost.
Scores make_scores(const std::vector<Scheme>& menu) {
  struct Shape {
    const char* module;
    int64_t rows, cols;
  };
  const Shape shapes[] = {{"self_attn.q_proj", 4096, 4096}, {"self_attn.k_proj", 4096, 4096},
                          {"self_attn.v_proj", 4096, 4096}, {"self_attn.o_proj", 4096, 4096},
                          {"mlp.gate_proj", 11008, 4096},   {"mlp.up_proj", 11008, 4096},
                          {"mlp.down_proj", 4096, 11008}};
  Random random(1);
  Scores scores;
  scores.method = "high-impact";
  for (int layer = 0; layer < kLayers; ++layer) {
    const size_t first = scores.costs.size();
    for (const Shape& shape : shapes) {
      const double weight = std::exp(1.5 * random.normal()), decay = 1 + 4 * random.uniform();
      for (const Scheme& scheme : menu)
        scores.costs.push_back(
            {fmt::format("model.layers.{}.{}.weight", layer, shape.module), shape.rows, shape.cols,
             scheme.name(), weight * std::exp(-decay * scheme.high_ratio) * (1 + 0.02 * random.normal())});
    }
    for (size_t a = first; a < scores.costs.size(); ++a)
      for (size_t b = a + 1; b < scores.costs.size(); ++b) {
        const Cost &one = scores.costs[a], &other = scores.costs[b];
        if (one.tensor != other.tensor)
          scores.pair_costs.push_back({one.tensor, one.scheme, other.tensor, other.scheme,
                                       0.2 * random.normal() * std::sqrt(one.cost * other.cost)});
      }
  }
  return scores;
}

double cost_with_pairs(const Scores& scores, const Plan& plan) {
  std::map<std::string, std::string> scheme_of;
  for (const Assignment& assignment : plan.assignments)
    scheme_of[assignment.tensor] = assignment.scheme.name();
  double cost = 0;
  for (const Cost& line : scores.costs)
    if (scheme_of[line.tensor] == line.scheme) cost += line.cost;
  for (const PairCost& pair : scores.pair_costs)
    if (scheme_of[pair.first_tensor] == pair.first_scheme &&
        scheme_of[pair.second_tensor] == pair.second_scheme)
      cost += pair.cost;
  return cost;
}

// Arguments: options a module; limits; whether the optimum is to be proven or a gap of 1e-4.
void quadratic_allocation(benchmark::State& state) {
  AllocatorOptions options;
  options.name = "quadratic";
  options.schemes = make_menu(state.range(0));
  options.budget.bits_per_weight = 2.62;
  if (state.range(1) == 2) options.budget.average_code_bits = 2.115;
  options.own.get<ExactOptions>().relative_gap = state.range(2) == 1 ? 0 : 1e-4;
  const Scores scores = make_scores(options.schemes);
  const std::vector<AllocationModule> modules = modules_of(scores);
  Plan plan;
  for (auto unused : state) plan = allocate(modules, scores, options);
  state.counters["gap"] = *plan.gap;
  state.counters["cost"] = *plan.cost;
  options.own.get<QuadraticOptions>().interactions = false;
  state.counters["without"] = cost_with_pairs(scores, allocate(modules, scores, options));
}

// The Pareto front of one layer.
void front_of_layer(benchmark::State& state) {
  Random random(1);
  const auto menu = make_menu(state.range(0));
  const Scores scores = make_scores(menu);
  CoupledBlock block;
  for (size_t m = 0; m < 7; ++m) {
    auto& options = block.elements.emplace_back();
    for (size_t s = 0; s < menu.size(); ++s) {
      const Cost& cost = scores.costs[m * menu.size() + s];
      options.push_back({cost.cost, {static_cast<int64_t>(menu[s].stored_bits(cost.rows, cost.cols))}});
    }
    for (size_t before = 0; before < m; ++before) {
      PairTable table{before, m, Matrix<double>(state.range(0), state.range(0))};
      for (double& cost : table.costs.values) cost = 0.2 * random.normal();
      block.pairs.push_back(std::move(table));
    }
  }
  std::vector<BlockChoice> front;
  for (auto unused : state) front = pareto_front(block);
  state.counters["choices"] = static_cast<double>(count_choices(block));
  state.counters["front"] = static_cast<double>(front.size());
}

BENCHMARK(quadratic_allocation)
    ->Args({5, 1, 1})
    ->Args({7, 1, 1})
    ->Args({7, 1, 0})
    ->Args({5, 2, 0})
    ->Args({7, 2, 0})
    ->Args({10, 1, 0})
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();
BENCHMARK(front_of_layer)->Arg(5)->Arg(7)->Arg(10)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace strata

BENCHMARK_MAIN();
