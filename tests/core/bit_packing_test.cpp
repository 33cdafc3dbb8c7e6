#include "strata/core/bit_packing.h"

#include <gtest/gtest.h>

#include <vector>

#include "strata/core/random.h"

namespace strata {
namespace {

// Sets the bits of every code one by one, straight from the definition of the stream.
std::vector<uint32_t> pack_bit_by_bit(const std::vector<uint8_t>& codes, int bits) {
  std::vector<uint32_t> words((codes.size() * bits + 31) / 32, 0);
  for (size_t i = 0; i < codes.size(); ++i) {
    for (int b = 0; b < bits; ++b) {
      const size_t position = i * bits + b;
      if ((codes[i] >> b) & 1) words[position / 32] |= 1u << (position % 32);
    }
  }
  return words;
}

std::vector<uint8_t> random_codes(size_t count, int bits, uint64_t seed) {
  Random random(seed);
  std::vector<uint8_t> codes(count);
  for (uint8_t& code : codes) code = static_cast<uint8_t>(random.below(1u << bits));
  return codes;
}

TEST(BitPacking, AgreesWithTheDefinitionForEveryWidthAndLength) {
  for (int bits = 1; bits <= 8; ++bits) {
    for (size_t count : {0, 1, 2, 3, 4, 5, 7, 8, 10, 11, 16, 31, 32, 33, 63, 64, 65, 96, 100, 257}) {
      const auto codes = random_codes(count, bits, 100 * bits + count);
      const auto expected = pack_bit_by_bit(codes, bits);
      ASSERT_EQ(packed_words(static_cast<int64_t>(count), bits), static_cast<int64_t>(expected.size()));

      std::vector<uint32_t> words(expected.size() + 1, 0xdeadbeefu);
      pack_codes(codes.data(), static_cast<int64_t>(count), bits, words.data());
      EXPECT_EQ(words.back(), 0xdeadbeefu) << "wrote past the end: bits " << bits << ", count " << count;
      words.pop_back();
      EXPECT_EQ(words, expected) << "bits " << bits << ", count " << count;

      std::vector<uint8_t> unpacked(count + 1, 0xab);
      unpack_codes(words.data(), static_cast<int64_t>(count), bits, unpacked.data());
      EXPECT_EQ(unpacked.back(), 0xab);
      unpacked.pop_back();
      EXPECT_EQ(unpacked, codes) << "bits " << bits << ", count " << count;
    }
  }
}

TEST(BitPacking, CodesTooLargeDoNotSpillIntoTheirNeighbours) {
  const std::vector<uint8_t> codes = {0xff, 0x00, 0xff, 0x00};
  uint32_t word = 0;
  pack_codes(codes.data(), 4, 3, &word);
  EXPECT_EQ(word, 0b000'111'000'111u);
}

TEST(BitPacking, ThreeBitCodesCrossWordsAsGptqLaysThemOut) {
  // Code 10 has its lowest two bits at the top of word 0 and its highest bit at the bottom of word 1.
  std::vector<uint8_t> codes(32, 0);
  codes[10] = 0b101;
  uint32_t words[3] = {};
  pack_codes(codes.data(), 32, 3, words);
  EXPECT_EQ(words[0], 0b01u << 30);
  EXPECT_EQ(words[1], 0b1u);
  EXPECT_EQ(words[2], 0u);
}

}  // namespace
}  // namespace strata
