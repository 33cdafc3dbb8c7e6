// Speed of the bit packer on one core, in bytes of codes (one a weight) and of packed stream a second.
#include <fmt/format.h>

#include <algorithm>
#include <ctime>
#include <vector>

#include "strata/core/bit_packing.h"
#include "strata/core/random.h"

namespace {

// Processor seconds of the fastest of several runs: other programs may be running.
template <class Work>
double fastest(const Work& work) {
  double seconds = 1e9;
  for (int run = 0; run < 20; ++run) {
    const std::clock_t start = std::clock();
    for (int repeat = 0; repeat < 16; ++repeat) work();
    seconds = std::min(seconds, static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC / 16);
  }
  return seconds;
}

}  // namespace

int main() {
  constexpr int64_t kCodes = 1 << 20;
  std::vector<uint8_t> codes(kCodes), back(kCodes);
  strata::Random random(1);
  for (uint8_t& code : codes) code = static_cast<uint8_t>(random.below(256));
  fmt::print("bits  packing: GB/s of codes, of stream  unpacking: GB/s of codes\n");
  for (int bits = 2; bits <= 8; ++bits) {
    std::vector<uint32_t> words(static_cast<size_t>(strata::packed_words(kCodes, bits)));
    const double pack = fastest([&] { strata::pack_codes(codes.data(), kCodes, bits, words.data()); });
    const double unpack = fastest([&] { strata::unpack_codes(words.data(), kCodes, bits, back.data()); });
    const double packed_bytes = 4.0 * static_cast<double>(words.size());
    fmt::print("{:4} {:26.2f} {:10.2f} {:25.2f}\n", bits, kCodes / pack * 1e-9, packed_bytes / pack * 1e-9,
               kCodes / unpack * 1e-9);
  }
}
