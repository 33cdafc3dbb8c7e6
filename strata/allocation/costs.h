#pragma once

#include <map>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "strata/allocation/scores.h"
#include "strata/core/matrix.h"
#include "strata/quantization/scheme.h"

namespace strata {

// What it costs to store a module in a scheme.
//
// A file with costs is taken as it is. With scores alone, cost(m, c) = weight(m) * e(c), where e(c) is the
// squared error of scheme c relative to the weights' own squares, measured on a fixed sample of standard
// normal weights by round-to-nearest, and weight(m) is the score of the module or its layer times the
// module's share of the layer's weights. When a score is zero or negative, weight = score - smallest +
// (largest - smallest) / 10 instead for all of them (1 when all scores are equal): positive, and in the same
// order.
class CostTable {
 public:
  CostTable(const std::vector<AllocationModule>& modules, const Scores& scores);

  // Nothing where the file has neither this cost nor a score for the module.
  std::optional<double> cost(size_t module, const Scheme& scheme) const;

  // Throws Error naming the tensor and the scheme where cost() has nothing.
  double required(size_t module, const Scheme& scheme) const;

 private:
  double relative_error(const Scheme& scheme, int64_t cols) const;
  void weigh_by_scores(const Scores& scores);

  std::vector<AllocationModule> modules_;
  std::string method_;
  bool has_costs_ = false;
  std::vector<std::map<std::string, double>> costs_;  // by module and scheme, from the file
  std::vector<std::optional<double>> weights_;        // by module, from the scores
  Matrix<float> sample_;
  mutable std::map<std::string, double> errors_;  // by stored scheme
};

// The rule for zero and negative scores above.
std::vector<double> positive_weights(std::vector<double> scores);

}  // namespace strata
