#include "strata/allocation/frontier.h"

#include <algorithm>
#include <cmath>

#include "strata/allocation/problem.h"

namespace strata {
namespace {

// A class moves from one corner of its hull to the next.
struct HullStep {
  double saving;  // of cost, a byte
  size_t group;
  int to;
};

struct Corner {
  int64_t bytes;
  double cost;
  int option;
};

double saving_between(const Corner& from, const Corner& to) {
  return (from.cost - to.cost) / static_cast<double>(to.bytes - from.bytes);
}

// Corners of the lower convex hull, from the smallest option to the cheapest.
std::vector<Corner> lower_hull(std::vector<Corner> options) {
  std::sort(options.begin(), options.end(), [](const Corner& a, const Corner& b) {
    return a.bytes != b.bytes ? a.bytes < b.bytes : a.cost < b.cost;
  });
  std::vector<Corner> hull;
  for (const Corner& corner : options) {
    if (!hull.empty() && corner.cost >= hull.back().cost) continue;  // larger and no better
    while (hull.size() > 1 &&
           saving_between(hull.back(), corner) >= saving_between(hull[hull.size() - 2], hull.back()))
      hull.pop_back();
    hull.push_back(corner);
  }
  return hull;
}

FrontierPoint point_of(const AllocationProblem& problem, const ChoiceProblem& choices, const Use& use,
                       const std::vector<int>& chosen, double weights) {
  FrontierPoint point;
  point.bytes = static_cast<uint64_t>(use[kStoredBytes]);
  point.bits_per_weight = weights > 0 ? static_cast<double>(use[kStoredBits]) / weights : 0;
  point.cost = cost_of(choices, chosen);
  return point;
}

}  // namespace

Frontier frontier(const std::vector<AllocationModule>& modules, const Scores& scores,
                  const AllocatorOptions& options) {
  AllocatorOptions unlimited = options;
  unlimited.budget = {};
  const AllocationProblem problem(modules, scores, unlimited);
  const ChoiceProblem choices = choice_problem(problem);
  double weights = 0;
  for (const AllocationModule& module : problem.modules)
    if (!module.is_boundary()) weights += static_cast<double>(module.params());

  std::vector<int> chosen;
  std::vector<HullStep> steps;
  for (size_t c = 0; c < choices.groups.size(); ++c) {
    std::vector<Corner> corners;
    for (size_t s = 0; s < problem.menu.size(); ++s)
      corners.push_back({problem.uses[c][s][kStoredBytes], choices.groups[c][s].cost, static_cast<int>(s)});
    const std::vector<Corner> hull = lower_hull(std::move(corners));
    chosen.push_back(hull.front().option);
    for (size_t i = 1; i < hull.size(); ++i)
      steps.push_back({saving_between(hull[i - 1], hull[i]), c, hull[i].option});
  }
  std::stable_sort(steps.begin(), steps.end(),
                   [](const HullStep& a, const HullStep& b) { return a.saving > b.saving; });

  Frontier found;
  Use use = problem.total(chosen);
  found.points.push_back(point_of(problem, choices, use, chosen, weights));
  for (const HullStep& step : steps) {
    use -= problem.uses[step.group][chosen[step.group]];
    use += problem.uses[step.group][step.to];
    chosen[step.group] = step.to;
    found.points.push_back(point_of(problem, choices, use, chosen, weights));
  }
  for (size_t s = 0; s < problem.menu.size(); ++s)
    found.uniform.emplace_back(
        problem.menu[s].name(),
        point_of(problem, choices, problem.total_of_scheme(s),
                 std::vector<int>(problem.classes.size(), static_cast<int>(s)), weights));
  return found;
}

std::vector<size_t> knees(const std::vector<FrontierPoint>& points) {
  constexpr double kProminence = 0.02;
  size_t count = 0;
  while (count < points.size() && points[count].cost > 0) ++count;
  if (count < 3) return {};
  const FrontierPoint &first = points.front(), &last = points[count - 1];
  const double width = static_cast<double>(last.bytes - first.bytes);
  const double height = std::log(first.cost) - std::log(last.cost);
  std::vector<double> below;  // the chord
  for (size_t i = 0; i < count; ++i)
    below.push_back((std::log(first.cost) - std::log(points[i].cost)) / height -
                    static_cast<double>(points[i].bytes - first.bytes) / width);
  std::vector<size_t> found;
  size_t peak = 0;
  double valley = below[0];  // the lowest since the last knee
  bool rising = false;
  for (size_t i = 1; i < count; ++i) {
    if (!rising) {
      valley = std::min(valley, below[i]);
      rising = below[i] - valley >= kProminence;
      peak = i;
    } else if (below[i] > below[peak]) {
      peak = i;
    } else if (below[peak] - below[i] >= kProminence) {
      found.push_back(peak);
      rising = false;
      valley = below[i];
    }
  }
  return found;
}

const FrontierPoint* point_within(const Frontier& frontier, uint64_t bytes) {
  const auto next = std::upper_bound(frontier.points.begin(), frontier.points.end(), bytes,
                                     [](uint64_t limit, const FrontierPoint& p) { return limit < p.bytes; });
  return next == frontier.points.begin() ? nullptr : &*(next - 1);
}

}  // namespace strata
