#pragma once

#include <cstdint>
#include <vector>

#include "strata/gguf/type.h"

namespace strata {

// The magnitudes that groups of 8 (IQ2) or 4 (IQ3) weights may take together, in units of the group's scale:
// constants of the format. Points are numbered as the files number them; signs are stored apart.
struct Grid {
  int count = 0, dimensions = 0;
  int level_count = 0;  // 3 or 8
  const float* levels = nullptr;
  std::vector<float> by_point;  // [count, dimensions]

  // Points by their halves: of all combinations of levels that half the dimensions can take (numbered with
  // the first dimension as the lowest digit), those with first half h are members[starts[h]] to starts[h +
  // 1].
  struct Member {
    uint16_t second_half, point;
  };
  int half_count = 0;  // 3^4 or 8^2
  std::vector<int> starts;
  std::vector<Member> members;

  // Of all combinations of levels, first_half + half_count * second_half, the points' numbers and -1 for the
  // others; and the combination of each point.
  std::vector<int16_t> point_of;
  std::vector<uint16_t> combination_of;
};

// Of IQ2_XXS, IQ2_XS, IQ2_S, IQ3_XXS and IQ3_S.
const Grid& grid_of(GgufType type);

}  // namespace strata
