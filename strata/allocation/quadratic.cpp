// Blocks of modules whose costs interact are enumerated, each on its own; a multiple-choice knapsack over the
// blocks' Pareto fronts then gives the plan of least cost x' M x (arXiv 2511.17801), M definite or not.
#include <algorithm>
#include <map>
#include <numeric>
#include <unordered_map>

#include "strata/allocation/coupled_block.h"
#include "strata/allocation/exact.h"
#include "strata/allocation/problem.h"
#include "strata/allocation/quadratic.h"
#include "strata/core/error.h"
#include "strata/core/threads.h"

namespace strata {
namespace {

// Pairwise costs between classes of tied modules, the first class before the second; those within a class are
// part of its options' own costs.
struct ClassCosts {
  std::vector<std::vector<double>> own;                          // by class and scheme
  std::map<std::pair<size_t, size_t>, Matrix<double>> together;  // [schemes, schemes]
};

std::vector<size_t> class_of_modules(const AllocationProblem& problem) {
  std::vector<size_t> class_of(problem.modules.size());
  for (size_t c = 0; c < problem.classes.size(); ++c)
    for (const size_t m : problem.classes[c]) class_of[m] = c;
  return class_of;
}

// Calls add(class, scheme, class, scheme, cost) for every pair cost between modules of the problem.
template <class Add>
void for_each_pair(const AllocationProblem& problem, const Add& add) {
  std::unordered_map<std::string, size_t> class_of_tensor;
  std::unordered_map<std::string, int64_t> scheme_of_name;
  const std::vector<size_t> class_of = class_of_modules(problem);
  for (size_t m = 0; m < problem.modules.size(); ++m)
    class_of_tensor.emplace(problem.modules[m].tensor, class_of[m]);
  for (size_t s = 0; s < problem.menu.size(); ++s)
    scheme_of_name.emplace(problem.menu[s].name(), static_cast<int64_t>(s));
  for (const PairCost& pair : problem.scores.pair_costs) {
    const auto first = class_of_tensor.find(pair.first_tensor);
    const auto second = class_of_tensor.find(pair.second_tensor);
    const auto first_scheme = scheme_of_name.find(pair.first_scheme);
    const auto second_scheme = scheme_of_name.find(pair.second_scheme);
    if (first == class_of_tensor.end() || second == class_of_tensor.end() ||
        first_scheme == scheme_of_name.end() || second_scheme == scheme_of_name.end())
      continue;
    add(first->second, first_scheme->second, second->second, second_scheme->second, pair.cost);
  }
}

ClassCosts class_costs(const AllocationProblem& problem) {
  const auto schemes = static_cast<int64_t>(problem.menu.size());
  ClassCosts costs;
  for (const auto& members : problem.classes) {
    auto& own = costs.own.emplace_back(problem.menu.size(), 0.0);
    for (size_t s = 0; s < problem.menu.size(); ++s)
      for (const size_t m : members) own[s] += problem.costs.required(m, problem.menu[s]);
  }
  if (!problem.options.own.get<QuadraticOptions>().interactions) return costs;
  for_each_pair(problem,
                [&](size_t first, int64_t first_scheme, size_t second, int64_t second_scheme, double cost) {
                  if (first == second) {
                    if (first_scheme == second_scheme)
                      costs.own[first][static_cast<size_t>(first_scheme)] += cost;
                    return;
                  }
                  if (second < first) {
                    std::swap(first, second);
                    std::swap(first_scheme, second_scheme);
                  }
                  Matrix<double>& table = costs.together[{first, second}];
                  if (table.values.empty()) table = Matrix<double>(schemes, schemes);
                  table.row(first_scheme)[second_scheme] += cost;
                });
  return costs;
}

// Classes that are joined by pair costs, directly or through others; each set in rising order.
std::vector<std::vector<size_t>> connected_classes(const ClassCosts& costs) {
  std::vector<size_t> root(costs.own.size());
  std::iota(root.begin(), root.end(), 0);
  const auto root_of = [&](size_t c) {
    while (root[c] != c) c = root[c] = root[root[c]];
    return c;
  };
  for (const auto& [pair, table] : costs.together) {
    const size_t a = root_of(pair.first), b = root_of(pair.second);
    root[std::max(a, b)] = std::min(a, b);
  }
  std::vector<std::vector<size_t>> sets;
  std::vector<size_t> set_of(root.size());
  for (size_t c = 0; c < root.size(); ++c) {
    const size_t first = root_of(c);
    if (first == c) {
      set_of[c] = sets.size();
      sets.emplace_back();
    }
    sets[set_of[first]].push_back(c);
  }
  return sets;
}

CoupledBlock make_block(const AllocationProblem& problem, const ClassCosts& costs,
                        const std::vector<size_t>& classes) {
  CoupledBlock block;
  std::map<size_t, size_t> element_of;
  for (const size_t c : classes) {
    element_of[c] = block.elements.size();
    auto& options = block.elements.emplace_back();
    for (size_t s = 0; s < problem.menu.size(); ++s) {
      ChoiceOption option;
      option.cost = costs.own[c][s];
      for (const Limit& limit : problem.limits.list())
        option.use.push_back(problem.uses[c][s][limit.resource]);
      options.push_back(std::move(option));
    }
  }
  for (const size_t c : classes)
    for (auto at = costs.together.lower_bound({c, 0}); at != costs.together.end() && at->first.first == c;
         ++at)
      block.pairs.push_back({element_of.at(c), element_of.at(at->first.second), at->second});
  return block;
}

void check_count(const AllocationProblem& problem, const CoupledBlock& block,
                 const std::vector<size_t>& classes) {
  if (count_choices(block) <= kMostBlockChoices) return;
  fail_usage(
      "{} and {} others have costs together, and their {} schemes make more than the {} choices that can be "
      "searched; choose fewer schemes (--schemes), tie modules (--ties), or leave these costs out "
      "(--interactions off)",
      problem.modules[problem.classes[classes.front()].front()].tensor, classes.size() - 1,
      problem.menu.size(), kMostBlockChoices);
}

std::vector<std::vector<BlockChoice>> fronts_of(const std::vector<CoupledBlock>& blocks) {
  std::vector<std::vector<BlockChoice>> fronts(blocks.size());
  parallel_for(static_cast<int64_t>(blocks.size()), 1, [&](int64_t begin, int64_t end) {
    for (auto b = static_cast<size_t>(begin); b < static_cast<size_t>(end); ++b)
      fronts[b] = pareto_front(blocks[b]);
  });
  return fronts;
}

}  // namespace

Options quadratic_options(OptionValues& values) {
  Options options = exact_options(values);  // of the integer program
  options.push_back(choice("interactions", values.get<QuadraticOptions>().interactions,
                           {{"on", true}, {"off", false}},
                           "on, or off to leave out what pairs of matrices cost together"));
  return options;
}

Allocation allocate_quadratic(const AllocationProblem& problem) {
  problem.check_each_limit();
  const ClassCosts costs = class_costs(problem);
  const std::vector<std::vector<size_t>> sets = connected_classes(costs);
  std::vector<CoupledBlock> blocks;
  for (const std::vector<size_t>& classes : sets) {
    blocks.push_back(make_block(problem, costs, classes));
    check_count(problem, blocks.back(), classes);
  }
  const std::vector<std::vector<BlockChoice>> fronts = fronts_of(blocks);

  ChoiceProblem choices;
  for (const Limit& limit : problem.limits.list()) choices.limits.push_back(limit.amount);
  for (const std::vector<BlockChoice>& front : fronts) {
    auto& group = choices.groups.emplace_back();
    for (const BlockChoice& choice : front) group.push_back(choice.total);
  }
  const auto solution = solve(choices, problem.options.own.get<ExactOptions>());
  if (!solution) problem.fail_together();

  Allocation allocation;
  allocation.chosen.resize(problem.classes.size());
  for (size_t b = 0; b < sets.size(); ++b) {
    const std::vector<int>& chosen = fronts[b][static_cast<size_t>(solution->chosen[b])].chosen;
    for (size_t i = 0; i < sets[b].size(); ++i) allocation.chosen[sets[b][i]] = chosen[i];
  }
  allocation.gap = solution->gap();
  allocation.cost = solution->cost;
  return allocation;
}

}  // namespace strata
