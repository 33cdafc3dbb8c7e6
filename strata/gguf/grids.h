#pragma once

#include <cstdint>
#include <vector>

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

const Grid& iq2_xxs_grid();
const Grid& iq2_xs_grid();
const Grid& iq2_s_grid();
const Grid& iq3_xxs_grid();
const Grid& iq3_s_grid();

}  // namespace strata
