#pragma once

#include <memory>

#include "strata/calibration/calibration.h"
#include "strata/calibration/imatrix.h"
#include "strata/quantization/mixed_rows.h"

namespace strata {

struct WeightErrors;

// What is known of a model beside its weights, as it is handed to a method that scores; null where it is not
// known. pipeline/workbench.h reads and measures it.
struct Evidence {
  std::shared_ptr<const Calibration> calibration;  // tokens
  std::shared_ptr<const Imatrix> imatrix;  // mean squares of inputs: serve output-error instead of tokens,
                                           // and weigh the errors that encoders of GGUF types make
  std::shared_ptr<const RowImpacts> row_impacts;  // which rows have high bits in schemes that mix rows
  std::shared_ptr<const WeightErrors> errors;     // of the options' schemes and quantizer
};

}  // namespace strata
