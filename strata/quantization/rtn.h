#pragma once

#include "strata/quantization/affine_tile.h"
#include "strata/quantization/scheme.h"

namespace strata {

// Round to nearest: every group's scale and zero point come from its smallest and largest weight.

// The scale that spreads 2^bits codes over the group, before it is rounded for storage. Asymmetric: from
// lowest to highest. Symmetric: the smallest scale whose codes reach both ends, with the extra code of the
// longer side; fp16 scales are negative where that side is the positive one.
float rtn_scale(const AffineScheme& scheme, float lowest, float highest);

// The zero point under the scale that is stored: -lowest / scale; where storage made the scale too small for
// the group, the one that centres its codes on the range. 2^(bits-1) when symmetric. With integer_zero the
// nearest code, and both functions take the group's range to include zero, so that there is one.
float rtn_zero(const AffineScheme& scheme, float lowest, float highest, float stored_scale);

}  // namespace strata
