#pragma once

namespace strata {

struct QuadraticOptions {
  bool interactions = true;  // count what pairs of modules cost together
};

}  // namespace strata
