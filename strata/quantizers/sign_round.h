#pragma once

#include <ATen/ATen.h>

#include <map>
#include <memory>
#include <string>

#include "strata/calibration/calibration.h"
#include "strata/core/options.h"
#include "strata/quantizers/layer_output_quantizer.h"
#include "strata/quantizers/stored_grid.h"

namespace strata {

// Signed rounding (SignRound, Cheng et al. 2023, arXiv 2309.05516) of the weights W of one grid:
//   W~ = s (clip(round((W + o) / s + z + V), 0, top) - z) - o,   s = s0 a,  o = o0 b
// with steps s0, zero points z and offsets o0 of the grid at the start. V, one a weight, begins at 0 and
// stays in [-1/2, 1/2]; a and b, one for every stored scale and minimum, begin at 1 and stay in [1/2, 3/2].
// Scales and minimums are those that are stored, so that W~ is too. Rounding, of codes and of what is stored,
// passes gradients on as the identity does. Where codes stand for levels that are not evenly spaced, the
// argument of round() is their position between levels.
class SignRound {
 public:
  // weights: [rows, cols] float on the grid's device.
  SignRound(const at::Tensor& weights, StoredGrid start);

  at::Tensor weights(at::ScalarType dtype);  // W~ [rows, cols]

  // Takes a step of this length against the sign of the gradient [rows, cols] by the last weights().
  void descend(const at::Tensor& gradient, double length);

  StoredGrid grid() const;  // the codes and floats of the last weights()

 private:
  struct Chunk;
  template <class Body>
  void for_chunks(const Body& body) const;
  void update_steps();

  StoredGrid start_;
  at::Tensor target_, rounding_;          // W and V, [groups, length]
  at::Tensor scale_factor_, min_factor_;  // a and b, [blocks, 1]; b undefined without offsets
  at::Tensor first_step_, first_offset_;  // s0 and o0, [groups, 1]
  GridFloats floats_;                     // as stored under a and b
  at::Tensor step_, inverse_step_, offset_;
};

struct SignRoundOptions {
  LayerLearning layers;

  SignRoundOptions();
};

Options sign_round_options(OptionValues& values);

// Whether a scheme has codes of its own, which signed rounding learns.
bool learned_by_sign_round(const Scheme& scheme);

// How many of a model's matrices are planned, by tensor, in types without codes of their own, and the names
// of these: "3 of 14 matrices are in types without codes of their own (IQ3_S)". Empty where none is. Throws
// UsageError where all are.
std::string left_by_sign_round(const Model& model, const std::map<std::string, Scheme>& schemes);

// Learns the codes of a layer's matrices by signed rounding, from the plain grid (searched_grid.h). Matrices
// in types without codes of their own stay as that search leaves them. Throws UsageError where there are too
// few blocks to hold any out.
std::shared_ptr<CalibratedQuantizer> make_sign_round_quantizer(const Model& model,
                                                               std::shared_ptr<const Calibration> calibration,
                                                               const SignRoundOptions& options);

}  // namespace strata
