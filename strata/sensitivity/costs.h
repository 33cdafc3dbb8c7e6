#pragma once

#include <string>
#include <vector>

#include "strata/allocation/scores.h"
#include "strata/model/model.h"
#include "strata/quantization/quantizer.h"
#include "strata/quantization/scheme.h"

namespace strata {

// What quantizing every module of a model with every scheme does to its weights.
struct WeightErrors {
  struct Row {
    Module module;
    double squared_norm = 0;             // sum w^2
    std::vector<double> squared_errors;  // sum (w - w')^2, one a scheme
  };
  std::vector<Scheme> schemes;
  std::string quantizer;
  std::vector<Row> rows;  // in the order of the model's modules

  // Squared error over squared norm, in [0, 1] for any sensible scheme; 0 for a matrix of zeros.
  double relative(size_t row, size_t scheme) const;
};

// Measures them, holding one matrix at a time.
WeightErrors measure_weight_errors(const Model& model, const std::vector<Scheme>& schemes,
                                   const QuantizerOptions& quantizer);

// Costs from scores, by the rule that allocation follows where a file has scores alone (CostTable): the
// weight of a module's or its layer's score (positive_weights), times its share of the layer's weights, times
// the error; here the relative error of the weights themselves. Throws when a module has no score.
std::vector<Cost> weighed_costs(const Scores& scores, const WeightErrors& errors);

// The squared errors themselves.
std::vector<Cost> absolute_costs(const WeightErrors& errors);

}  // namespace strata
