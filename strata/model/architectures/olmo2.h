#pragma once

#include "strata/model/architecture.h"

namespace strata {

// OLMo 2's record, which OLMo 3's goes out from.
Architecture olmo2();

}  // namespace strata
