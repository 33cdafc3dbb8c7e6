#pragma once

#include <string>
#include <vector>

#include "strata/allocation/scores.h"
#include "strata/model/model.h"
#include "strata/quantization/quantizer.h"
#include "strata/quantization/scheme.h"

namespace strata {

struct SensitivityOptions;

// What quantizing every module of a model with every scheme does to its weights.
struct WeightErrors {
  struct Row {
    Module module;
    double squared_norm = 0;             // sum w^2
    std::vector<double> squared_errors;  // sum (w - w')^2, one a scheme
  };
  std::vector<Scheme> schemes;
  std::string quantizer;
  std::vector<Row> rows;  // in the order of the model's modules; then its embedding and head, where asked for

  // Squared error over squared norm, in [0, 1] for any sensible scheme; 0 for a matrix of zeros.
  double relative(size_t row, size_t scheme) const;
};

// Measures them, holding one matrix at a time.
WeightErrors measure_weight_errors(const Model& model, const std::vector<Scheme>& schemes,
                                   const QuantizerOptions& quantizer,
                                   const std::vector<Module>& boundaries = {});

// Costs from scores, by the rule that allocation follows where a file has scores alone (CostTable): the
// weight of a module's or its layer's score (positive_weights), times its share of the layer's weights, times
// the error; here the relative error of the weights themselves. Embedding and head weigh as much beside all
// layers together as prior.h says. Throws when a module has no score.
std::vector<Cost> weighed_costs(const Scores& scores, const WeightErrors& errors);

// The squared errors themselves.
std::vector<Cost> absolute_costs(const WeightErrors& errors);

// Costs of the options' boundaries beside measured ones of the layers, where the method gives none: those of
// all layers together in the same scheme, times what prior.h says of them beside all layers.
void add_boundary_costs(Scores& scores, const SensitivityOptions& options);

}  // namespace strata
