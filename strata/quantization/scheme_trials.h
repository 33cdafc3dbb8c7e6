#pragma once

#include <string>

#include "strata/core/matrix.h"
#include "strata/quantization/scheme.h"

namespace strata {

// What a quantizer would make of single matrices of a model, each in any number of schemes, with all other
// matrices as they were: costs of schemes are measured on these weights where they are to be the weights that
// the quantizer leaves.
class SchemeTrials {
 public:
  virtual ~SchemeTrials() = default;

  // Tells trials of other quantizers, options and texts apart.
  virtual std::string identity() const = 0;

  // Replaces a layer's matrix, exact in `weights`, by what the quantizer makes of it; cheapest when matrices
  // come in the order of the layers. Throws for a matrix that is in no layer.
  virtual void quantize(const std::string& tensor, const Scheme& scheme, MatrixView<float> weights) = 0;

  // Gives back what is kept between matrices; it is measured again when it is needed.
  virtual void unload() {}
};

}  // namespace strata
