#include "strata/information/information_loss.h"

#include <cmath>

namespace strata {

double information_loss(const std::vector<double>& reference, const std::vector<double>& probed, double bits,
                        bool inverse_width) {
  double lost = 0, known = 0;
  for (size_t o = 0; o < reference.size(); ++o) {
    if (std::isnan(probed[o])) continue;
    lost += std::abs(reference[o] - probed[o]);
    known += reference[o];
  }
  if (!(known > 0)) return 0;
  return lost / known / (inverse_width ? bits : 1);
}

}  // namespace strata
