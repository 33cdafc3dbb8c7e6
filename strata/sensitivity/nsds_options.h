#pragma once

namespace strata {

// The choices that NSDS's sources leave open.
struct NsdsOptions {
  double tau = 0.90;  // share of the squared singular values that the leading ones hold
  bool multiply_entropy =
      true;                    // SE = (sum s) exp(H); otherwise (sum s) / exp(H), as the released code has it
  bool consistent_mad = true;  // z uses 1.4826 MAD; otherwise the bare MAD, as the released code has it
};

}  // namespace strata
