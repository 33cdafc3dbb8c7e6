#pragma once

#include <memory>
#include <vector>

#include "strata/allocation/allocator.h"
#include "strata/sensitivity/method.h"

namespace strata {

// Costs of the method kl where a plan can come to them, for the allocator `exact` under its budget.
//
// One backward pass (the method fisher) predicts the cost of every matrix in every scheme. Then, again and
// again until nothing is asked for that is not measured yet: the plan is made from the costs known by now;
// what it chose is measured, and whatever else might be in its place, were the predictions off by
// kPredictionError. At the multiplier of the budget an option's price is cost + multiplier * bits, and it is
// measured where the lowest price that it may have is not above the highest that another one of its matrix
// may. Predictions are corrected by the ratios of what was measured of the same matrix to what had been
// predicted for it, between two measured schemes by interpolation over the logarithm of the prediction.
class ReachableCosts {
 public:
  // Everything is measured when it is first asked for. The model must outlive this.
  ReachableCosts(const Model& model, SensitivityOptions options, const Evidence& evidence);
  ~ReachableCosts();

  // Measured costs, and corrected predictions for all other pairs; details say how many there are of each.
  // They depend on this plan's budget and ties alone, not on what was measured for others before.
  Scores for_plan(const AllocatorOptions& plan);

 private:
  class Search;
  std::unique_ptr<Search> search_;
};

// Predictions of one matrix, corrected by what was measured: [scheme], `measured` is NaN where it was not;
// `usual_ratio` of measured to predicted costs stands in where nothing was.
std::vector<double> corrected_predictions(const std::vector<double>& predicted,
                                          const std::vector<double>& measured, double usual_ratio);

}  // namespace strata
