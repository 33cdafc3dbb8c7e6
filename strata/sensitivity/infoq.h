#pragma once

#include <cstdint>

namespace strata {

struct InfoqOptions {
  int64_t tokens = 2048;      // of the calibration's, in whole windows
  int64_t buckets = 16;       // of next tokens, about equally frequent
  int64_t directions = 128;   // of sliced mutual information
  int neighbours = 3;         // of its estimator
  int observers = 8;          // layers behind which the residual stream is read, at most
  bool inverse_width = true;  // the factor 1 / bits
};

}  // namespace strata
