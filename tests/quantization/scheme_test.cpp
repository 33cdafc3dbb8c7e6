#include "strata/quantization/scheme.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "strata/core/error.h"

namespace strata {
namespace {

std::vector<Scheme> every_affine_scheme() {
  std::vector<Scheme> schemes;
  for (int bits : {2, 3, 4, 5, 6, 8})
    for (int group_size : {0, 32, 64, 128})
      for (bool symmetric : {false, true})
        for (int axis : {0, 1})
          for (ScaleStorage scales : {ScaleStorage::Half, ScaleStorage::SecondLevel}) {
            Scheme scheme;
            scheme.affine = {bits, group_size, symmetric, axis, scales};
            schemes.push_back(scheme);
          }
  return schemes;
}

TEST(Scheme, NamesAreParsedBackAndDiffer) {
  std::set<std::string> names;
  for (const Scheme& scheme : every_affine_scheme()) {
    const Scheme parsed = parse_scheme(scheme.name());
    EXPECT_EQ(parsed.kind, Scheme::Kind::Affine);
    EXPECT_EQ(parsed.affine.bits, scheme.affine.bits);
    EXPECT_EQ(parsed.affine.group_size, scheme.affine.group_size);
    EXPECT_EQ(parsed.affine.symmetric, scheme.affine.symmetric);
    EXPECT_EQ(parsed.affine.axis, scheme.affine.axis);
    EXPECT_EQ(parsed.affine.scales, scheme.affine.scales);
    EXPECT_TRUE(names.insert(scheme.name()).second) << scheme.name();
  }
  for (const GgufTypeTraits& type : gguf_types()) {
    const Scheme parsed = parse_scheme(type.name);
    EXPECT_EQ(parsed.kind, Scheme::Kind::Gguf);
    EXPECT_EQ(parsed.gguf, type.type);
    EXPECT_EQ(parsed.name(), type.name);
  }
}

TEST(Scheme, NamesAreReadInAnyLetterCase) {
  EXPECT_TRUE(parse_scheme("W3G64Z").affine.integer_zero);
  EXPECT_EQ(parse_scheme("w7rowZ").name(), "w7rowz");
  EXPECT_EQ(parse_scheme("W3G64SMA0").name(), "w3g64sma0");
  EXPECT_EQ(parse_scheme("w8ROW").name(), "w8row");
  EXPECT_EQ(parse_scheme("q4_k").name(), "Q4_K");
  EXPECT_EQ(parse_scheme(" iq4_nl ").name(), "IQ4_NL");
}

TEST(Scheme, WrongNamesAreRefused) {
  for (const char* name : {"",
                           "w",
                           "w3",
                           "3g64",
                           "w9g64",
                           "w4g64zs",
                           "w4g64zm",
                           "w1g64",
                           "w3g",
                           "w3g48",
                           "w3g064",
                           "w03g64",
                           "w3g0",
                           "w3g64ms",
                           "w3g64a1",
                           "w3g64x",
                           "w3g64 s",
                           "w-3g64",
                           "w99999999999999999999g64",
                           "w3g99999999999999999999",
                           "Q9_K",
                           "Q4_K_M"}) {
    EXPECT_THROW(parse_scheme(name), UsageError) << name;
  }
  try {
    parse_scheme("w9g64");
    FAIL();
  } catch (const UsageError& error) {
    const std::string message = error.what();
    EXPECT_NE(message.find("'w9g64'"), std::string::npos) << message;
    EXPECT_NE(message.find("Q4_K"), std::string::npos) << message;
  }
}

std::vector<std::string> names_of(const std::vector<Scheme>& schemes) {
  std::vector<std::string> names;
  for (const Scheme& scheme : schemes) names.push_back(scheme.name());
  return names;
}

TEST(Scheme, ListsAndMenus) {
  EXPECT_EQ(names_of(parse_schemes("w2g64, Q4_K,w2g64")), (std::vector<std::string>{"w2g64", "Q4_K"}));
  EXPECT_EQ(names_of(parse_schemes("gguf")),
            (std::vector<std::string>{"Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "Q8_0"}));
  EXPECT_EQ(names_of(parse_schemes("GGUF,F16,Q2_K")).back(), "F16");
  EXPECT_EQ(parse_schemes("affine").size(), 18u);
  for (const Scheme& scheme : parse_schemes("affine")) EXPECT_EQ(scheme.affine.scales, ScaleStorage::Half);
  EXPECT_THROW(parse_schemes(""), UsageError);
  EXPECT_THROW(parse_schemes("w2g64,"), UsageError);
  EXPECT_THROW(parse_schemes("w2g64,ladders"), UsageError);
}

TEST(Scheme, LadderHasThePapersBits) {
  const std::vector<double> published = {2.13, 2.25, 2.51, 3.13, 3.25, 3.51,
                                         4.13, 4.25, 4.51, 8.13, 8.25, 8.51};
  const auto ladder = parse_schemes("ladder");
  ASSERT_EQ(ladder.size(), published.size());
  for (size_t i = 0; i < ladder.size(); ++i) {
    const int64_t n = 4096;
    const double bits = static_cast<double>(ladder[i].stored_bits(n, n)) / (4096.0 * 4096.0);
    EXPECT_NEAR(std::round(bits * 100) / 100, published[i], 1e-9) << ladder[i].name();
    // b1 + 2*8/g1 + 32/(g1*128), and 32 bits a matrix that the formula leaves out.
    const double g = ladder[i].affine.group_size;
    EXPECT_DOUBLE_EQ(bits, ladder[i].affine.bits + 16 / g + 32 / (g * 128) + 32 / (4096.0 * 4096.0));
  }
  const auto papers = parse_schemes("paper-ladder");
  ASSERT_EQ(papers.size(), ladder.size());
  for (size_t i = 0; i < ladder.size(); ++i) EXPECT_EQ(papers[i].name(), ladder[i].name() + "a0");
}

TEST(Scheme, StoredBitsByHand) {
  // 3 rows of 100 codes of 3 bits: 10 words a row; 4 groups of 32 a row (the last has 4 weights).
  EXPECT_EQ(parse_scheme("w3g32").stored_bits(3, 100), 3u * 10 * 32 + 12 * 32);
  EXPECT_EQ(parse_scheme("w3g32s").stored_bits(3, 100), 3u * 10 * 32 + 12 * 16);
  EXPECT_EQ(parse_scheme("w3row").stored_bits(3, 100), 3u * 10 * 32 + 3 * 32);
  // Second level: 12 groups share one fp16 pair; the zero points another.
  EXPECT_EQ(parse_scheme("w3g32m").stored_bits(3, 100), 3u * 10 * 32 + 12 * 16 + 32 + 32);
  EXPECT_EQ(parse_scheme("w3g32sm").stored_bits(3, 100), 3u * 10 * 32 + 12 * 8 + 32);
  // Zero points that are codes: 4 columns of 3 of them, a word each; 33 rows of 4 bits make 5 words.
  EXPECT_EQ(parse_scheme("w3g32z").stored_bits(3, 100), 3u * 10 * 32 + 12 * 16 + 4 * 32);
  EXPECT_EQ(parse_scheme("w4g64z").stored_bits(33, 128), 33u * 128 * 4 + 66 * 16 + 2 * 5 * 32);
  // Axis 0: 300 codes in one stream of 29 words; ceil(300 / 32) = 10 groups, or one for each of the 100
  // columns.
  EXPECT_EQ(parse_scheme("w3g32a0").stored_bits(3, 100), 29u * 32 + 10 * 32);
  EXPECT_EQ(parse_scheme("w3rowa0").stored_bits(3, 100), 29u * 32 + 100 * 32);
  EXPECT_EQ(parse_scheme("w4g64").stored_bits(0, 100), 0u);
  EXPECT_EQ(parse_scheme("w4g64a0").stored_bits(5, 0), 0u);
}

TEST(Scheme, StoredBitsOfGgufTypesFollowTheFallback) {
  EXPECT_EQ(parse_scheme("Q4_K").stored_bits(3, 512), 3u * 2 * 144 * 8);
  EXPECT_EQ(parse_scheme("Q4_K").stored_bits(3, 288), 3u * 9 * 22 * 8);  // Q5_0
  EXPECT_EQ(parse_scheme("Q2_K").stored_bits(3, 288), 3u * 9 * 18 * 8);  // IQ4_NL
  EXPECT_EQ(parse_scheme("Q6_K").stored_bits(3, 100), 3u * 100 * 16);    // F16
  EXPECT_EQ(parse_scheme("F32").stored_bits(2, 5), 2u * 5 * 32);
}

TEST(Scheme, CodeBits) {
  EXPECT_EQ(parse_scheme("w5g32m").code_bits_per_weight(1, 7), 5);
  const std::pair<const char*, int> nominal[] = {{"Q2_K", 2}, {"Q3_K", 3}, {"Q4_K", 4}, {"Q5_K", 5},
                                                 {"Q6_K", 6}, {"Q8_0", 8}, {"F16", 16}, {"BF16", 16},
                                                 {"F32", 32}, {"Q4_1", 4}, {"Q5_0", 5}, {"IQ4_NL", 4}};
  for (const auto& [name, bits] : nominal)
    EXPECT_EQ(parse_scheme(name).code_bits_per_weight(1, 512), bits) << name;
  EXPECT_EQ(parse_scheme("Q2_K").code_bits_per_weight(1, 288), 4);
  EXPECT_EQ(parse_scheme("Q2_K").code_bits_per_weight(1, 100), 16);
}

TEST(Scheme, ImpossibleShapesAreRefused) {
  for (const char* name : {"w3g64", "w3g64ma0", "Q8_0"}) {
    EXPECT_THROW(parse_scheme(name).stored_bits(-1, 64), Error);
    EXPECT_THROW(parse_scheme(name).stored_bits(64, -1), Error);
    EXPECT_THROW(parse_scheme(name).stored_bits(int64_t{1} << 40, int64_t{1} << 40), Error);
    EXPECT_THROW(parse_scheme(name).stored_bits(INT64_MAX, 32), Error);
  }
}

}  // namespace
}  // namespace strata
