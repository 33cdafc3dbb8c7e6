#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "strata/allocation/scores.h"
#include "strata/core/matrix.h"
#include "strata/model/model.h"
#include "strata/quantization/scheme.h"

namespace strata {

// Reads modules one by one as float, of a stack one expert's matrix at a time, and hands each to `visit`,
// with a progress bar over modules.
using SeeMatrix = std::function<void(const Module& module, int64_t expert, MatrixView<const float> weights)>;
void for_each_matrix(const Model& model, const std::vector<Module>& modules, const std::string& what,
                     const SeeMatrix& visit);

// A value of each of the model's modules, of a stack the mean over its matrices.
std::vector<double> module_values(const Model& model, const std::string& what,
                                  const std::function<double(MatrixView<const float>)>& value);

// As allocators know them.
std::vector<AllocationModule> allocation_modules(const std::vector<Module>& modules);

// Sum of f(w) over all weights, computed in threads over fixed chunks: the result does not depend on their
// number. `chunk_sum(values, n)` gives the sum of one chunk.
double sum_over(MatrixView<const float> weights,
                const std::function<double(const float* values, int64_t n)>& chunk_sum);
double sum_of_squares(MatrixView<const float> weights);

// The scheme that takes the fewest bits over the whole model; w2g64 when there is none to choose from.
Scheme lowest_scheme(const Model& model, const std::vector<Scheme>& schemes);

// Scores with one line a layer, but none for layers without matrices to quantize; `values` has one a layer.
Scores layer_scores(const Model& model, std::string method, const std::vector<double>& values);

// Scores with one line a module; `values` has one a module. Details give the means of the layers.
Scores per_module_scores(const Model& model, std::string method, const std::vector<double>& values);

// One line a layer, the mean over its modules. Details give the values of the modules.
Scores mean_layer_scores(const Model& model, std::string method, const std::vector<double>& values);

}  // namespace strata
