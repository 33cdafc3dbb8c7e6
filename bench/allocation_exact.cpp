// Exact allocation of 1,000 modules among the 12 rungs of the papers' ladder under two budgets: seconds,
// proven gap, and the plain integer program beside it (CBC alone: no Lagrangian bound, first solution or
// fixing).
#include <benchmark/benchmark.h>

#include <cmath>
#include <limits>

#include "strata/allocation/allocator.h"
#include "strata/allocation/choice_problem.h"
#include "strata/allocation/exact.h"
#include "strata/allocation/integer_program.h"
#include "strata/core/error.h"
#include "strata/core/random.h"

namespace strata {
namespace {

constexpr int kModules = 1000;
constexpr double kGap = 1e-4, kPlainSeconds = 20;

// Layers of Llama-3.1-8B's shapes whose costs spread over several decades, as measured sensitivities do.
std::vector<AllocationModule> make_modules() {
  struct Shape {
    const char* module;
    int64_t rows, cols;
  };
  const Shape shapes[] = {{"self_attn.q_proj", 4096, 4096}, {"self_attn.k_proj", 1024, 4096},
                          {"self_attn.v_proj", 1024, 4096}, {"self_attn.o_proj", 4096, 4096},
                          {"mlp.gate_proj", 14336, 4096},   {"mlp.up_proj", 14336, 4096},
                          {"mlp.down_proj", 4096, 14336}};
  std::vector<AllocationModule> modules;
  for (int m = 0; m < kModules; ++m) {
    const Shape& shape = shapes[m % 7];
    modules.push_back({m / 7, shape.module, fmt::format("model.layers.{}.{}.weight", m / 7, shape.module),
                       shape.rows, shape.cols});
  }
  return modules;
}

Scores make_scores(const std::vector<AllocationModule>& modules, const std::vector<Scheme>& schemes) {
  Random random(1);
  Scores scores;
  scores.method = "measured";
  for (const AllocationModule& module : modules) {
    const double weight = std::exp(1.5 * random.normal()) * static_cast<double>(module.params());
    for (const Scheme& scheme : schemes) {
      const double bits = static_cast<double>(scheme.stored_bits(module.rows, module.cols)) /
                          static_cast<double>(module.params());
      scores.costs.push_back({module.tensor, module.rows, module.cols, scheme.name(),
                              weight * std::exp(-1.4 * bits + 0.2 * random.normal())});
    }
  }
  return scores;
}

AllocatorOptions make_options(Ties ties) {
  AllocatorOptions options;
  options.schemes = parse_schemes("ladder");
  options.ties = ties;
  options.own.get<ExactOptions>().relative_gap = kGap;
  options.budget.bits_per_weight = 3.3;
  options.budget.average_code_bits = 3.0;
  return options;
}

void exact_allocation(benchmark::State& state, Ties ties) {
  const auto modules = make_modules();
  const AllocatorOptions options = make_options(ties);
  const Scores scores = make_scores(modules, options.schemes);
  Plan plan;
  for (auto unused : state) plan = allocate(modules, scores, options);
  state.counters["gap"] = *plan.gap;
  state.counters["cost"] = *plan.cost;
}

// The same program without ties, as a choice problem.
ChoiceProblem make_problem() {
  const auto modules = make_modules();
  const AllocatorOptions options = make_options(Ties::None);
  const Scores scores = make_scores(modules, options.schemes);
  ChoiceProblem problem;
  double weights = 0;
  auto cost = scores.costs.begin();
  for (const AllocationModule& module : modules) {
    auto& group = problem.groups.emplace_back();
    const auto params = static_cast<double>(module.params());
    weights += params;
    for (const Scheme& scheme : options.schemes)
      group.push_back({(cost++)->cost,
                       {static_cast<int64_t>(scheme.stored_bits(module.rows, module.cols)),
                        std::llround(scheme.code_bits_per_weight(module.rows, module.cols) * params)}});
  }
  problem.limits = {static_cast<int64_t>(*options.budget.bits_per_weight * weights),
                    static_cast<int64_t>(*options.budget.average_code_bits * weights)};
  return problem;
}

void with_first_solution(benchmark::State& state) {
  const ChoiceProblem problem = make_problem();
  ChoiceSettings settings;
  settings.relative_gap = kGap;
  std::optional<ChoiceSolution> solution;
  for (auto unused : state) solution = solve(problem, settings);
  state.counters["gap"] = solution->gap();
  state.counters["cost"] = solution->cost;
}

void plain_cbc(benchmark::State& state) {
  const ChoiceProblem problem = make_problem();
  ChoiceSettings settings;
  settings.relative_gap = kGap;
  const double cost = solve(problem, settings)->cost;
  BranchAndBoundResult result;
  for (auto unused : state)
    result = branch_and_bound(problem, std::numeric_limits<double>::infinity(), kGap * cost, kPlainSeconds);
  const bool finished = result.status == BranchAndBoundResult::Status::Finished;
  state.counters["finished"] = finished;
  if (result.chosen) state.counters["cost"] = cost_of(problem, *result.chosen);
}

BENCHMARK_CAPTURE(exact_allocation, no_ties, Ties::None)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(exact_allocation, fused_ties, Ties::Fused)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(exact_allocation, layer_ties, Ties::Layer)->Unit(benchmark::kMillisecond);
BENCHMARK(with_first_solution)->Unit(benchmark::kMillisecond);
BENCHMARK(plain_cbc)->Unit(benchmark::kMillisecond)->Iterations(1);

}  // namespace
}  // namespace strata

BENCHMARK_MAIN();
