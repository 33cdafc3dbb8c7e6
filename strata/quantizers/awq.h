#pragma once

#include <map>
#include <string>

#include "strata/calibration/activations.h"
#include "strata/calibration/calibration.h"
#include "strata/checkpoint/scaled_checkpoint.h"
#include "strata/quantization/quantizer.h"

namespace strata {

// Activation-aware weight quantization (Lin et al. 2023, arXiv 2306.00978): columns of a matrix that read
// large inputs are scaled up before quantization, which makes their relative error smaller, and what gives
// those inputs is scaled down by the same factors, so that the model computes what it did:
//   q, k, v <- the norm before attention;  o <- rows of v;  gate, up <- the norm before the feed-forward
//   block;  down <- rows of up.
// Matrices that read the residual stream itself, as those of layers with norms behind their blocks do, keep
// their values' scales, and so do those of a block of experts that read what its router reads; every expert's
// down has factors of its own. With grouped queries a row of v feeds a column of o in every head of its
// group; they share a factor.

struct AwqOptions {
  int grid = 20;                // exponents 0, 1/grid, ..., 1 - 1/grid
  int64_t sample_tokens = 512;  // on which output errors are compared
  ActivationOptions activations;
  QuantizerOptions quantizer = {"rtn", nullptr, 20};  // quantizes in the search
};

// The factors s_j = (mean |x_j|)^alpha, for every group of matrices that share an input the alpha on the grid
// that gives the lowest sum of squared output errors when the matrices are quantized as `schemes` says
// (matrices that it does not name count no error). Inputs are those of the unquantized model. Gives the
// scaling of every tensor that changes.
std::map<std::string, TensorScaling> search_awq_scales(const Model& model,
                                                       const std::map<std::string, Scheme>& schemes,
                                                       const Calibration& calibration,
                                                       const AwqOptions& options);

// The same model with scaled weights. `model` is not needed afterwards.
Model scale_model(const Model& model, std::map<std::string, TensorScaling> scalings);

}  // namespace strata
