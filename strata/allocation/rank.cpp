#include <algorithm>
#include <map>

#include "strata/allocation/problem.h"
#include "strata/core/error.h"

namespace strata {
namespace {

// A layer's score, or the mean of its modules' scores.
std::map<int, double> layer_scores(const AllocationProblem& problem) {
  std::map<int, double> sum, count, mean;
  for (const Score& score : problem.scores.scores) {
    sum[score.layer] += score.score;
    count[score.layer] += 1;
  }
  for (const AllocationModule& module : problem.modules) {
    if (count[module.layer] == 0)
      fail("the scores of {} have no score for layer {}, which the allocator \"rank\" needs",
           problem.scores.method, module.layer);
    mean[module.layer] = sum[module.layer] / count[module.layer];
  }
  return mean;
}

std::vector<int> layers_by_score(const AllocationProblem& problem) {
  const std::map<int, double> score = layer_scores(problem);
  std::vector<int> layers;
  for (const auto& [layer, unused] : score) layers.push_back(layer);
  std::stable_sort(layers.begin(), layers.end(), [&](int a, int b) { return score.at(a) > score.at(b); });
  return layers;
}

}  // namespace

Allocation allocate_by_rank(const AllocationProblem& problem) {
  const auto is_smaller = [&](int a, int b) {
    return problem.total_of_scheme(a)[kStoredBits] < problem.total_of_scheme(b)[kStoredBits];
  };
  int low = 0, high = 0;
  for (int s = 1; s < static_cast<int>(problem.menu.size()); ++s) {
    if (is_smaller(s, low)) low = s;
    if (is_smaller(high, s)) high = s;
  }
  problem.limits.check_smallest(problem.total_of_scheme(low), problem.possible_with());

  std::vector<int> chosen(problem.classes.size(), low);
  for (int layer : layers_by_score(problem)) {
    std::vector<int> raised = chosen;
    for (size_t c = 0; c < problem.classes.size(); ++c)
      if (problem.modules[problem.classes[c].front()].layer == layer) raised[c] = high;
    if (!problem.limits.allow(problem.total(raised))) break;
    chosen = std::move(raised);
  }
  return {chosen, std::nullopt};
}

}  // namespace strata
