#include "strata/gguf/type.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <limits>
#include <map>
#include <sstream>
#include <string>

#include "strata/core/error.h"
#include "strata/gguf/block_codec.h"
#include "tests/support/files.h"

namespace strata {
namespace {

TEST(GgufType, NamesParseInAnyCase) {
  for (const GgufTypeTraits& traits : gguf_types()) {
    EXPECT_EQ(parse_gguf_type(traits.name), traits.type);
    EXPECT_TRUE(is_known_gguf_type(static_cast<uint32_t>(traits.type)));
  }
  EXPECT_EQ(parse_gguf_type("q4_k"), GgufType::Q4_K);
  EXPECT_EQ(parse_gguf_type("iq4_nl"), GgufType::IQ4_NL);
}

TEST(GgufType, UnknownNameIsRefusedWithTheKnownOnes) {
  try {
    parse_gguf_type("Q4");
    FAIL();
  } catch (const UsageError& error) {
    EXPECT_NE(std::string(error.what()).find("Q4_K"), std::string::npos);
  }
  EXPECT_FALSE(is_known_gguf_type(99));
  EXPECT_THROW(traits_of(static_cast<GgufType>(99)), Error);
  EXPECT_THROW(parse_gguf_type("TQ1_0"), UsageError);  // known by its size, to be copied
  EXPECT_EQ(traits_of(GgufType::TQ1_0).block_bytes, 54);
  EXPECT_FALSE(is_coded(GgufType::TQ1_0));
}

// Every row of the table beside what the gguf package knows of the type.
TEST(GgufType, TheGgufPackageKnowsTheSameTypes) {
  const std::string python = python_with("gguf");
  if (python.empty()) GTEST_SKIP() << "Python's gguf package is not installed";
  TemporaryDirectory directory;
  const std::string command =
      python + " '" STRATA_SOURCE_DIR "/tests/gguf/list_types.py' > '" + (directory / "out").string() + "'";
  ASSERT_EQ(std::system(command.c_str()), 0);
  std::istringstream output(read_text(directory / "out"));
  std::map<std::string, int> files;
  int known = 0;
  for (std::string kind, name; output >> kind >> name;) {
    uint32_t number = 0;
    output >> number;
    if (kind == "file") {
      files[name] = static_cast<int>(number);
      continue;
    }
    int elements = 0, bytes = 0;
    output >> elements >> bytes;
    if (!is_known_gguf_type(number)) continue;
    ++known;
    const GgufTypeTraits& traits = traits_of(static_cast<GgufType>(number));
    EXPECT_EQ(traits.name, name);
    EXPECT_EQ(traits.block_elements, elements) << name;
    // The package gives Q8_1, which no file holds, the float scales that ggml once had.
    if (traits.type != GgufType::Q8_1) {
      EXPECT_EQ(traits.block_bytes, bytes) << name;
    }
  }
  EXPECT_EQ(known, 32);
  for (const GgufTypeTraits& traits : gguf_types()) {
    const std::string mostly = "MOSTLY_" + std::string(traits.name);
    const std::string name = traits.type == GgufType::F32                         ? "ALL_F32"
                             : traits.type == GgufType::MXFP4                     ? mostly + "_MOE"
                             : files.count(mostly + "_M") && !files.count(mostly) ? mostly + "_M"
                                                                                  : mostly;
    ASSERT_EQ(files.count(name), 1u) << name;
    EXPECT_EQ(traits.file_type, files.at(name)) << name;
  }
}

TEST(GgufType, TypesThatAreOnlyCarriedHaveNoCodec) {
  EXPECT_THROW(codec_of(GgufType::TQ1_0), Error);
  EXPECT_EQ(stored_type(GgufType::IQ1_S, 256), GgufType::IQ1_S);
  EXPECT_THROW(stored_type(GgufType::IQ1_S, 255), Error);
  EXPECT_FALSE(takes_whole_blocks(GgufType::IQ4_NL));
  EXPECT_TRUE(takes_whole_blocks(GgufType::IQ4_XS));
  EXPECT_FALSE(takes_whole_blocks(GgufType::F16));
}

// Bits per weight as llama.cpp's users know them.
TEST(GgufType, BitsPerWeight) {
  const auto bits = [](GgufType type) { return 8.0 * static_cast<double>(row_bytes(type, 4096)) / 4096; };
  EXPECT_EQ(bits(GgufType::F32), 32);
  EXPECT_EQ(bits(GgufType::F16), 16);
  EXPECT_EQ(bits(GgufType::BF16), 16);
  EXPECT_EQ(bits(GgufType::Q8_0), 8.5);
  EXPECT_EQ(bits(GgufType::Q4_0), 4.5);
  EXPECT_EQ(bits(GgufType::Q4_1), 5.0);
  EXPECT_EQ(bits(GgufType::Q5_0), 5.5);
  EXPECT_EQ(bits(GgufType::Q5_1), 6.0);
  EXPECT_EQ(bits(GgufType::Q2_K), 2.625);
  EXPECT_EQ(bits(GgufType::Q3_K), 3.4375);
  EXPECT_EQ(bits(GgufType::Q4_K), 4.5);
  EXPECT_EQ(bits(GgufType::Q5_K), 5.5);
  EXPECT_EQ(bits(GgufType::Q6_K), 6.5625);
  EXPECT_EQ(bits(GgufType::IQ4_NL), 4.5);
  EXPECT_EQ(bits(GgufType::IQ4_XS), 4.25);
  EXPECT_EQ(bits(GgufType::IQ3_S), 3.4375);
  EXPECT_EQ(bits(GgufType::IQ3_XXS), 3.0625);
  EXPECT_EQ(bits(GgufType::IQ2_S), 2.5625);
  EXPECT_EQ(bits(GgufType::IQ2_XS), 2.3125);
  EXPECT_EQ(bits(GgufType::IQ2_XXS), 2.0625);
}

TEST(GgufType, RowsThatBlocksDoNotDivideFallBack) {
  EXPECT_EQ(stored_type(GgufType::Q2_K, 512), GgufType::Q2_K);
  EXPECT_EQ(stored_type(GgufType::Q2_K, 288), GgufType::IQ4_NL);
  EXPECT_EQ(stored_type(GgufType::Q3_K, 288), GgufType::IQ4_NL);
  EXPECT_EQ(stored_type(GgufType::IQ2_XXS, 288), GgufType::IQ4_NL);
  EXPECT_EQ(stored_type(GgufType::IQ4_XS, 288), GgufType::IQ4_NL);
  EXPECT_EQ(stored_type(GgufType::Q4_K, 288), GgufType::Q5_0);
  EXPECT_EQ(stored_type(GgufType::Q5_K, 288), GgufType::Q5_1);
  EXPECT_EQ(stored_type(GgufType::Q6_K, 288), GgufType::Q8_0);
  EXPECT_EQ(stored_type(GgufType::Q8_0, 288), GgufType::Q8_0);
  EXPECT_EQ(stored_type(GgufType::Q4_0, 100), GgufType::F16);
  EXPECT_EQ(stored_type(GgufType::Q6_K, 100), GgufType::F16);
  EXPECT_EQ(stored_type(GgufType::F32, 100), GgufType::F32);
  EXPECT_EQ(stored_type(GgufType::BF16, 1), GgufType::BF16);
}

TEST(GgufType, RowLengthsThatCannotBeAreRefused) {
  EXPECT_THROW(row_bytes(GgufType::Q4_K, 288), Error);
  EXPECT_THROW(row_bytes(GgufType::Q8_0, -32), Error);
  EXPECT_THROW(row_bytes(GgufType::F32, std::numeric_limits<int64_t>::max()), Error);
  EXPECT_EQ(row_bytes(GgufType::Q4_K, 0), 0);
}

}  // namespace
}  // namespace strata
