#include "strata/allocation/lagrangian.h"

#include <algorithm>
#include <cmath>
#include <coin/CoinPackedVector.hpp>
#include <coin/OsiClpSolverInterface.hpp>

namespace strata {
namespace {

double price(const ChoiceOption& option, const std::vector<double>& multipliers) {
  double sum = option.cost;
  for (size_t l = 0; l < multipliers.size(); ++l) sum += multipliers[l] * static_cast<double>(option.use[l]);
  return sum;
}

// Sum of the groups' differences between their dearest and cheapest option.
double spread_of_costs(const ChoiceProblem& problem) {
  double spread = 0;
  for (const auto& group : problem.groups) {
    const auto [low, high] =
        std::minmax_element(group.begin(), group.end(),
                            [](const ChoiceOption& a, const ChoiceOption& b) { return a.cost < b.cost; });
    spread += high->cost - low->cost;
  }
  return spread;
}

// The planes found so far, in costs of `unit` above `origin` and multipliers of a whole limit: maximise the
// height subject to height <= excess . multipliers + cost for each.
class Planes {
 public:
  Planes(const ChoiceProblem& problem, double origin, double unit)
      : problem_(problem), origin_(origin), unit_(unit) {
    constexpr double kLargestMultiplier = 1e4, kLargestHeight = 1e5;
    solver_.messageHandler()->setLogLevel(0);
    solver_.getModelPtr()->setLogLevel(0);
    solver_.setObjSense(-1);
    for (size_t l = 0; l < problem.limits.size(); ++l)
      solver_.addCol(0, nullptr, nullptr, 0, kLargestMultiplier, 0);
    solver_.addCol(0, nullptr, nullptr, -kLargestHeight, kLargestHeight, 1);
  }

  void add(const std::vector<int>& chosen) {
    CoinPackedVector row;
    double cost = 0;
    std::vector<double> use(problem_.limits.size(), 0);
    for (size_t g = 0; g < chosen.size(); ++g) {
      const ChoiceOption& option = problem_.groups[g][chosen[g]];
      cost += option.cost;
      for (size_t l = 0; l < use.size(); ++l) use[l] += static_cast<double>(option.use[l]);
    }
    for (size_t l = 0; l < use.size(); ++l)
      row.insert(static_cast<int>(l), -(use[l] - static_cast<double>(problem_.limits[l])) / scale(l));
    row.insert(static_cast<int>(use.size()), 1.0);
    solver_.addRow(row, -solver_.getInfinity(), (cost - origin_) / unit_);
  }

  std::vector<double> highest() {
    solver_.resolve();
    std::vector<double> multipliers;
    for (size_t l = 0; l < problem_.limits.size(); ++l)
      multipliers.push_back(std::max(0.0, solver_.getColSolution()[l]) * unit_ / scale(l));
    height_ = origin_ + unit_ * solver_.getObjValue();
    return multipliers;
  }

  double height() const { return height_; }

 private:
  double scale(size_t l) const { return static_cast<double>(std::max<int64_t>(1, problem_.limits[l])); }

  const ChoiceProblem& problem_;
  double origin_, unit_, height_ = 0;
  OsiClpSolverInterface solver_;
};

}  // namespace

Lagrangian lagrangian(const ChoiceProblem& problem, const std::vector<double>& multipliers) {
  Lagrangian result;
  result.multipliers = multipliers;
  for (const auto& group : problem.groups) {
    auto& prices = result.reduced.emplace_back();
    for (const ChoiceOption& option : group) prices.push_back(price(option, multipliers));
    const auto lowest = std::min_element(prices.begin(), prices.end());
    result.chosen.push_back(static_cast<int>(lowest - prices.begin()));
    const double base = *lowest;
    result.bound += base;
    for (double& value : prices) value -= base;
  }
  for (size_t l = 0; l < multipliers.size(); ++l)
    result.bound -= multipliers[l] * static_cast<double>(problem.limits[l]);
  return result;
}

Lagrangian best_lagrangian(const ChoiceProblem& problem) {
  constexpr int kMostPlanes = 300;
  constexpr double kPrecision = 1e-9;
  Lagrangian best = lagrangian(problem, std::vector<double>(problem.limits.size(), 0.0));
  const double unit = spread_of_costs(problem);
  if (unit <= kSmallestSpread || meets_limits(problem, best.chosen))
    return best;  // the cheapest of everything fits
  Planes planes(problem, best.bound, unit);
  planes.add(best.chosen);
  for (int i = 0; i < kMostPlanes; ++i) {
    Lagrangian next = lagrangian(problem, planes.highest());
    planes.add(next.chosen);
    if (next.bound > best.bound) best = std::move(next);
    if (planes.height() - best.bound <= kPrecision * unit) break;
  }
  return best;
}

}  // namespace strata
