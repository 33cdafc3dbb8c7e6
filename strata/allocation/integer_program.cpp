#include "strata/allocation/integer_program.h"

#include <algorithm>
#include <cmath>
#include <coin/CbcModel.hpp>
#include <coin/CglKnapsackCover.hpp>
#include <coin/CoinPackedMatrix.hpp>
#include <coin/OsiClpSolverInterface.hpp>
#include <limits>

namespace strata {
namespace {

// Knapsacks of many like matrices can occupy a tree search for hours over the last hundredth of a per cent. A
// limit on its nodes, unlike one on seconds, gives the same plan on every machine; the gap that is left is
// reported.
constexpr int kMostNodes = 200;

// Largest spread of costs within a group, which is what the solver's absolute tolerances must be small to.
double largest_spread(const ChoiceProblem& problem) {
  double spread = 0;
  for (const auto& group : problem.groups) {
    const auto [low, high] =
        std::minmax_element(group.begin(), group.end(),
                            [](const ChoiceOption& a, const ChoiceOption& b) { return a.cost < b.cost; });
    spread = std::max(spread, high->cost - low->cost);
  }
  return spread;
}

// The 0/1 program: one column an option, one row a group (exactly one option) and one row a limit. Costs are
// divided by `unit` after taking off each group's first cost, so that columns and objective are of order one.
struct Program {
  OsiClpSolverInterface solver;
  double unit = 1;
  double offset = 0;  // total cost = offset + unit * objective

  explicit Program(const ChoiceProblem& problem) {
    const double spread = largest_spread(problem);
    if (spread > kSmallestSpread) unit = spread * 1e-3;
    const int groups = static_cast<int>(problem.groups.size());
    const int limits = static_cast<int>(problem.limits.size());
    std::vector<double> objective, elements;
    std::vector<int> rows;
    std::vector<CoinBigIndex> starts = {0};
    for (int g = 0; g < groups; ++g) {
      const double first = problem.groups[g].front().cost;
      offset += first;
      for (const ChoiceOption& option : problem.groups[g]) {
        objective.push_back((option.cost - first) / unit);
        rows.push_back(g);
        elements.push_back(1.0);
        for (int l = 0; l < limits; ++l) {
          if (option.use[l] == 0) continue;
          rows.push_back(groups + l);
          elements.push_back(static_cast<double>(option.use[l]));
        }
        starts.push_back(static_cast<CoinBigIndex>(rows.size()));
      }
    }
    const CoinPackedMatrix matrix(/*colordered=*/true, groups + limits, static_cast<int>(objective.size()),
                                  starts.back(), elements.data(), rows.data(), starts.data(), nullptr);
    const std::vector<double> zeros(objective.size(), 0.0), ones(objective.size(), 1.0);
    std::vector<double> row_low(groups, 1.0), row_high(groups, 1.0);
    for (int64_t limit : problem.limits) {
      row_low.push_back(-COIN_DBL_MAX);
      row_high.push_back(static_cast<double>(limit));
    }
    solver.messageHandler()->setLogLevel(0);
    solver.getModelPtr()->setLogLevel(0);
    solver.loadProblem(matrix, zeros.data(), ones.data(), objective.data(), row_low.data(), row_high.data());
  }
};

std::vector<int> chosen_columns(const ChoiceProblem& problem, const double* values) {
  std::vector<int> chosen;
  for (const auto& group : problem.groups) {
    chosen.push_back(static_cast<int>(std::max_element(values, values + group.size()) - values));
    values += group.size();
  }
  return chosen;
}

}  // namespace

BranchAndBoundResult branch_and_bound(const ChoiceProblem& problem, double cutoff, double absolute_gap,
                                      double seconds) {
  Program program(problem);
  for (int c = 0; c < program.solver.getNumCols(); ++c) program.solver.setInteger(c);
  const double offset = program.offset, unit = program.unit;

  CbcModel model(program.solver);
  model.setLogLevel(0);
  model.messageHandler()->setLogLevel(0);
  model.solver()->messageHandler()->setLogLevel(0);
  model.setMaximumSeconds(seconds);
  model.setMaximumNodes(kMostNodes);
  model.setAllowableGap(absolute_gap / unit);
  model.setAllowableFractionGap(0);
  model.setCutoffIncrement(1e-9);
  if (std::isfinite(cutoff)) model.setCutoff((cutoff - offset) / unit);
  CglKnapsackCover covers;
  model.addCutGenerator(&covers, 10, "knapsack covers");
  model.branchAndBound();

  BranchAndBoundResult result;
  if (model.isSecondsLimitReached() || model.isNodeLimitReached() ||
      !(model.isProvenOptimal() || model.isProvenInfeasible())) {
    result.status = BranchAndBoundResult::Status::OutOfTime;
    result.bound = offset + unit * model.getBestPossibleObjValue();
  }
  if (model.bestSolution() != nullptr) result.chosen = chosen_columns(problem, model.bestSolution());
  return result;
}

}  // namespace strata
