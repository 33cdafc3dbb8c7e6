#include "strata/gguf/codec.h"

#include <gtest/gtest.h>
#include <hwy/targets.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fstream>
#include <limits>
#include <string>
#include <vector>

#include "strata/core/dtype.h"
#include "strata/core/error.h"
#include "strata/core/random.h"
#include "strata/core/threads.h"
#include "strata/gguf/grid_blocks.h"

namespace strata {
namespace {

using Weights = std::vector<float>;
using Bytes = std::vector<std::byte>;

template <class T>
std::vector<T> read_file(const std::string& name) {
  std::ifstream file(std::string(STRATA_SOURCE_DIR "/tests/data/gguf/") + name,
                     std::ios::binary | std::ios::ate);
  EXPECT_TRUE(file) << name;
  std::vector<T> values(static_cast<size_t>(file.tellg()) / sizeof(T));
  file.seekg(0);
  file.read(reinterpret_cast<char*>(values.data()), static_cast<std::streamsize>(values.size() * sizeof(T)));
  return values;
}

Weights gaussian(size_t n, uint64_t seed = 1) {
  Random random(seed);
  Weights weights(n);
  for (float& w : weights) w = static_cast<float>(random.normal());
  return weights;
}

// Log-normal, as mean squares of activations look.
Weights importance_of(size_t n) {
  Random random(99);
  Weights importance(n);
  for (float& w : importance) w = static_cast<float>(std::exp(1.5 * random.normal()));
  return importance;
}

Bytes encode(GgufType type, const Weights& weights, int64_t cols, const float* importance = nullptr) {
  const int64_t rows = static_cast<int64_t>(weights.size()) / cols;
  Bytes blocks(static_cast<size_t>(rows * row_bytes(type, cols)));
  encode_gguf(type, weights.data(), rows, cols, importance, blocks.data());
  return blocks;
}

Weights decode(GgufType type, const Bytes& blocks, size_t n) {
  Weights weights(n);
  decode_gguf(type, blocks.data(), static_cast<int64_t>(n), weights.data());
  return weights;
}

Weights round_trip(GgufType type, const Weights& weights, int64_t cols, const float* importance = nullptr) {
  return decode(type, encode(type, weights, cols, importance), weights.size());
}

double squared_error(const Weights& a, const Weights& b, const float* importance = nullptr, size_t cols = 1) {
  double error = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double difference = static_cast<double>(a[i]) - b[i];
    error += difference * difference * (importance ? importance[i % cols] : 1);
  }
  return error;
}

double energy(const Weights& weights) {
  return squared_error(weights, Weights(weights.size(), 0.0f));
}

// The types with blocks, which lose something.
class GgufBlocks : public ::testing::TestWithParam<GgufTypeTraits> {
 protected:
  GgufType type() const { return GetParam().type; }
  std::string name() const { return std::string(GetParam().name); }
  size_t block() const { return static_cast<size_t>(GetParam().block_elements); }
};

std::vector<GgufTypeTraits> block_types() {
  std::vector<GgufTypeTraits> types;
  for (const GgufTypeTraits& traits : gguf_types())
    if (traits.block_elements > 1) types.push_back(traits);
  return types;
}

INSTANTIATE_TEST_SUITE_P(Types, GgufBlocks, ::testing::ValuesIn(block_types()),
                         [](const auto& test) { return std::string(test.param.name); });

// The types whose levels are evenly spaced and have a zero among them.
std::vector<GgufTypeTraits> even_types() {
  std::vector<GgufTypeTraits> types = block_types();
  types.erase(std::remove_if(types.begin(), types.end(),
                             [](const auto& type) { return type.name[0] == 'I' || type.name[0] == 'M'; }),
              types.end());
  return types;
}

class EvenGgufBlocks : public GgufBlocks {};

INSTANTIATE_TEST_SUITE_P(Types, EvenGgufBlocks, ::testing::ValuesIn(even_types()),
                         [](const auto& test) { return std::string(test.param.name); });

// Random blocks decoded by llama.cpp's dequantize_row_* and by the gguf package (tests/data/gguf).
TEST_P(GgufBlocks, DecodesAsLlamaCppDoes) {
  const Bytes blocks = read_file<std::byte>(name() + ".blocks");
  const Weights expected = read_file<float>(name() + ".f32");
  ASSERT_EQ(expected.size(), 2 * block());
  ASSERT_EQ(blocks.size(), 2 * static_cast<size_t>(GetParam().block_bytes));
  const Weights decoded = decode(type(), blocks, expected.size());
  for (size_t i = 0; i < expected.size(); ++i)
    ASSERT_NEAR(decoded[i], expected[i], 1e-6 * std::fabs(expected[i]) + 1e-5) << i;
}

// Relative squared error on Gaussian weights: below that of llama.cpp's encoders on such rows (second
// column, by bench/ggml_encoders.py).
struct Ceiling {
  GgufType type;
  double error, llama_cpp;
};
constexpr Ceiling ceilings[] = {
    {GgufType::Q8_0, 2.33e-5, 2.84e-5},   {GgufType::Q4_0, 6.66e-3, 7.35e-3},
    {GgufType::Q4_1, 5.25e-3, 6.09e-3},   {GgufType::Q5_0, 1.63e-3, 1.80e-3},
    {GgufType::Q5_1, 1.22e-3, 1.42e-3},   {GgufType::Q2_K, 6.80e-2, 8.71e-2},
    {GgufType::Q3_K, 2.11e-2, 2.26e-2},   {GgufType::Q4_K, 4.92e-3, 5.06e-3},
    {GgufType::Q5_K, 1.23e-3, 1.30e-3},   {GgufType::Q6_K, 2.83e-4, 3.13e-4},
    {GgufType::IQ4_NL, 5.50e-3, 5.77e-3}, {GgufType::IQ4_XS, 5.75e-3, 6.02e-3},
    {GgufType::IQ3_S, 1.86e-2, 2.81e-2},  {GgufType::IQ3_XXS, 3.50e-2, 4.69e-2},
    {GgufType::IQ2_S, 6.15e-2, 7.17e-2},  {GgufType::IQ2_XS, 8.95e-2, 9.24e-2},
    {GgufType::IQ2_XXS, 0.115, 0.1202},   {GgufType::MXFP4, 1.27e-2, 1.34e-2},
};

TEST_P(GgufBlocks, ErrorStaysBelowItsCeiling) {
  const Weights weights = gaussian(32 * 1024);
  const double error = squared_error(weights, round_trip(type(), weights, 1024)) / energy(weights);
  for (const Ceiling& ceiling : ceilings)
    if (ceiling.type == type()) {
      EXPECT_LT(error, ceiling.error);
      EXPECT_LT(ceiling.error, ceiling.llama_cpp);
      EXPECT_GT(error, 0.5 * ceiling.error);  // nothing encodes that well: the decoder would be wrong
    }
}

// Weights that blocks can represent come back. Codes use their whole range, scales and mins theirs.
TEST_P(EvenGgufBlocks, RepresentableWeightsComeBack) {
  const bool minimum = type() == GgufType::Q4_1 || type() == GgufType::Q5_1 || type() == GgufType::Q2_K ||
                       type() == GgufType::Q4_K || type() == GgufType::Q5_K;
  const size_t n = 256;
  const int levels = type() == GgufType::Q2_K   ? 4
                     : type() == GgufType::Q3_K ? 8
                     : type() == GgufType::Q6_K ? 64
                     : type() == GgufType::Q8_0 ? 255
                     : name()[1] == '5'         ? 32
                                                : 16;
  Random random(3);
  Weights weights(n);
  for (size_t i = 0; i < n; ++i) {
    int code = static_cast<int>(random.below(static_cast<uint64_t>(levels)));
    if (i % 16 == 0) code = 0;
    if (i % 16 == 1) code = levels - 1;
    // Integer scales 63 and 21, 15 and 5 or -32 and -16.
    const float scale = i / 32 % 2 ? 0.25f : minimum ? 0.75f : 0.5f;
    const int middle = minimum ? levels / 4 : levels / 2;
    weights[i] = scale * static_cast<float>(code - middle);
  }
  EXPECT_LT(squared_error(weights, round_trip(type(), weights, 256)), 2e-6 * energy(weights));
}

TEST_P(GgufBlocks, ZerosStayZeros) {
  for (const float w : round_trip(type(), Weights(512, 0.0f), 512)) EXPECT_EQ(w, 0.0f);
}

TEST_P(GgufBlocks, ConstantsAreKept) {
  for (const float value : {1.0f, -1.0f, 3.14159f, -0.007f}) {
    const Weights weights(512, value);
    // Scales of MXFP4 are powers of two.
    EXPECT_LT(squared_error(weights, round_trip(type(), weights, 512)),
              (name() == "MXFP4" ? 0.03 : 1e-4) * energy(weights))
        << value;
  }
}

TEST_P(EvenGgufBlocks, OneLargeWeightAmongZerosIsKept) {
  Weights weights(256, 0.0f);
  weights[77] = -5;
  EXPECT_LT(squared_error(weights, round_trip(type(), weights, 256)), 1e-4 * 25);
}

// No magnitude gives infinities or more error than storing zeros would, fp16's limits notwithstanding.
TEST_P(GgufBlocks, MagnitudesBeyondHalfPrecision) {
  for (const float magnitude : {1e-38f, 1e-20f, 1e-7f, 1e-5f, 1e4f, 1e7f, 1e20f, 3e37f}) {
    Weights weights = gaussian(512);
    for (float& w : weights) w *= magnitude;
    const Weights decoded = round_trip(type(), weights, 512);
    for (const float w : decoded) ASSERT_TRUE(std::isfinite(w)) << magnitude;
    EXPECT_LE(squared_error(weights, decoded), energy(weights) * (1 + 1e-6)) << magnitude;
    if (magnitude == 1e-5f || magnitude == 1e4f) {
      EXPECT_LT(squared_error(weights, decoded), 0.12 * energy(weights)) << magnitude;
    }
  }
}

TEST_P(GgufBlocks, NonFiniteWeightsDoNoHarm) {
  Weights weights = gaussian(256);
  weights[3] = std::numeric_limits<float>::infinity();
  weights[40] = -std::numeric_limits<float>::infinity();
  weights[99] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(round_trip(type(), weights, 256).size(), weights.size());
  const Weights importance(256, std::numeric_limits<float>::quiet_NaN());
  EXPECT_EQ(round_trip(type(), weights, 256, importance.data()).size(), weights.size());
}

// Symmetric types: the negated weights get the negated approximation.
TEST_P(GgufBlocks, SignFlips) {
  const Weights weights = gaussian(1024);
  Weights negated = weights;
  for (float& w : negated) w = -w;
  const Weights a = round_trip(type(), weights, 1024), b = round_trip(type(), negated, 1024);
  const bool minimum = name().back() == '1' || type() == GgufType::Q2_K || type() == GgufType::Q4_K ||
                       type() == GgufType::Q5_K;
  if (minimum) {
    EXPECT_NEAR(squared_error(weights, a) / squared_error(negated, b), 1, 0.1);
  } else {
    for (size_t i = 0; i < a.size(); ++i) ASSERT_EQ(a[i], -b[i]) << i;
  }
}

TEST_P(GgufBlocks, ImportanceLowersTheWeightedError) {
  const size_t cols = 1024;
  const Weights weights = gaussian(16 * cols), importance = importance_of(cols);
  const double with =
      squared_error(weights, round_trip(type(), weights, cols, importance.data()), importance.data(), cols);
  const double without = squared_error(weights, round_trip(type(), weights, cols), importance.data(), cols);
  EXPECT_LT(with, (name() == "MXFP4" ? 0.99 : 0.9) * without);  // which has three scales to choose from
}

TEST_P(GgufBlocks, EqualImportanceIsNoImportance) {
  const Weights weights = gaussian(8 * 512);
  const double plain = squared_error(weights, round_trip(type(), weights, 512));
  for (const float value : {0.0f, 1e-30f, 1.0f, 1e30f}) {
    const Weights importance(512, value);
    EXPECT_LT(squared_error(weights, round_trip(type(), weights, 512, importance.data())), 1.005 * plain)
        << value;
  }
}

// Columns without importance cost nothing, but still get codes near their weights.
TEST_P(GgufBlocks, UnimportantColumnsStayReasonable) {
  const Weights weights = gaussian(512);
  Weights importance(512, 1.0f);
  for (size_t i = 0; i < 256; ++i) importance[i] = 0;
  const Weights decoded = round_trip(type(), weights, 512, importance.data());
  EXPECT_LT(squared_error(weights, decoded), (name().substr(0, 3) == "IQ2" ? 0.3 : 0.15) * energy(weights));
}

TEST_P(GgufBlocks, BytesDoNotDependOnThreads) {
  const Weights weights = gaussian(140 * 512), importance = importance_of(512);
  set_thread_count(1);
  const Bytes one = encode(type(), weights, 512),
              one_weighted = encode(type(), weights, 512, importance.data());
  set_thread_count(4);
  EXPECT_EQ(encode(type(), weights, 512), one);
  EXPECT_EQ(encode(type(), weights, 512, importance.data()), one_weighted);
  EXPECT_EQ(decode(type(), one, weights.size()).size(), weights.size());
  set_thread_count(0);
}

// Every instruction set that was compiled and that this machine has gives the same quality.
TEST_P(GgufBlocks, InstructionSetsAgree) {
  const Weights weights = gaussian(2 * 512), importance = importance_of(512);
  const double plain = squared_error(weights, round_trip(type(), weights, 512));
  const double weighted = squared_error(weights, round_trip(type(), weights, 512, importance.data()));
  for (const int64_t target : {static_cast<int64_t>(HWY_STATIC_TARGET), static_cast<int64_t>(HWY_AVX2)}) {
    if (target != HWY_STATIC_TARGET && (hwy::SupportedTargets() & target) == 0) continue;
    hwy::GetChosenTarget().Update(target);
    EXPECT_NEAR(squared_error(weights, round_trip(type(), weights, 512)), plain, 0.01 * plain) << target;
    EXPECT_NEAR(squared_error(weights, round_trip(type(), weights, 512, importance.data())), weighted,
                0.01 * weighted)
        << target;
  }
  hwy::GetChosenTarget().Update(hwy::SupportedTargets());
}

// Blocks are independent: rows whose blocks do not fill the vectors give the same bytes.
TEST_P(GgufBlocks, BlocksDoNotDependOnTheirNeighbours) {
  const size_t n = 11 * block();
  const Weights weights = gaussian(n), importance = importance_of(n);
  const Bytes whole = encode(type(), weights, static_cast<int64_t>(n), importance.data());
  const size_t bytes = static_cast<size_t>(GetParam().block_bytes);
  for (size_t k = 0; k < 11; ++k) {
    const Weights part(weights.begin() + static_cast<long>(k * block()),
                       weights.begin() + static_cast<long>((k + 1) * block()));
    const Bytes alone = encode(type(), part, static_cast<int64_t>(block()), importance.data() + k * block());
    EXPECT_EQ(std::memcmp(alone.data(), whole.data() + k * bytes, bytes), 0) << k;
  }
}

TEST_P(GgufBlocks, RowsThatTheBlockDoesNotDivideAreRefused) {
  Weights weights(block() + 1);
  Bytes blocks(1024);
  EXPECT_THROW(
      encode_gguf(type(), weights.data(), 1, static_cast<int64_t>(block()) + 1, nullptr, blocks.data()),
      Error);
  EXPECT_THROW(decode_gguf(type(), blocks.data(), 31, weights.data()), Error);
  encode_gguf(type(), weights.data(), 0, static_cast<int64_t>(block()), nullptr, blocks.data());
}

// The least squared error over ten thousand scales, in double precision.
double brute_force_error(const float* x, int low, int high) {
  double largest = 0, best = std::numeric_limits<double>::infinity();
  for (int i = 0; i < 32; ++i) largest = std::max(largest, std::fabs(static_cast<double>(x[i])));
  for (int k = 1; k <= 10000; ++k) {
    const double d = (k % 2 ? 2.0 : -2.0) * largest / high * k / 10000;
    double error = 0;
    for (int i = 0; i < 32; ++i) {
      const double q = std::min<double>(high, std::max<double>(low, std::nearbyint(x[i] / d)));
      error += (x[i] - d * q) * (x[i] - d * q);
    }
    best = std::min(best, error);
  }
  return best;
}

TEST(GgufCodec, ScalesAreNearlyOptimal) {
  const Weights weights = gaussian(64 * 32);
  for (const auto& [type, high] : {std::pair{GgufType::Q4_0, 7}, std::pair{GgufType::Q5_0, 15}}) {
    double least = 0;
    for (size_t i = 0; i < weights.size(); i += 32) least += brute_force_error(&weights[i], -high - 1, high);
    const double error = squared_error(weights, round_trip(type, weights, 32));
    EXPECT_LT(error, 1.03 * least);
    EXPECT_GT(error, 0.999 * least);
  }
}

// Weights that are points of the grid with signs come back: every point is found, in every sub-block.
TEST(GgufCodec, PointsOfTheGridsComeBack) {
  for (const GgufType type :
       {GgufType::IQ2_XXS, GgufType::IQ2_XS, GgufType::IQ2_S, GgufType::IQ3_XXS, GgufType::IQ3_S}) {
    Random random(5);
    Bytes blocks(static_cast<size_t>(row_bytes(type, 16 * 256)));
    for (std::byte& byte : blocks) byte = static_cast<std::byte>(random.below(256));
    for (int64_t b = 0; b < 16; ++b) {
      const uint16_t d = float_to_half(0.5f + static_cast<float>(b));
      std::memcpy(blocks.data() + b * row_bytes(type, 256), &d, 2);
    }
    const Weights weights = decode(type, blocks, 16 * 256);
    const Weights again = round_trip(type, weights, 16 * 256);
    EXPECT_LT(squared_error(weights, again), 0.01 * energy(weights)) << traits_of(type).name;
  }
}

// Beside all points of the grid with signs, tried one by one in double precision with the scales that the
// encoder chose: no group could be nearer.
TEST(GgufCodec, GridGroupsAreTheNearest) {
  const Weights weights = gaussian(4 * 256), importance = importance_of(256);
  const auto type = GgufType::IQ2_S;
  const Grid& grid = BlockIQ2_S::grid();
  const Bytes blocks = encode(type, weights, 256, importance.data());
  for (int b = 0; b < 4; ++b) {
    const GridFields fields = unpack_block<BlockIQ2_S>(blocks.data() + b * row_bytes(type, 256));
    double chosen = 0, nearest = 0;
    for (int g = 0; g < 32; ++g) {
      const double scale = half_to_float(fields.d) * 0.25 * (0.5 + fields.scales[g / 2]);
      double least = HUGE_VAL;
      for (int point = 0; point < grid.count; ++point) {
        double error = 0;
        for (int i = 0; i < 8; ++i) {
          const double rest = std::fabs(weights[static_cast<size_t>(256 * b + 8 * g + i)]) -
                              scale * grid.by_point[static_cast<size_t>(8 * point + i)];
          error += importance[static_cast<size_t>(8 * g + i)] * rest * rest;
        }
        least = std::min(least, error);
        if (point == fields.points[g]) chosen += error;
      }
      nearest += least;
    }
    EXPECT_LT(chosen, 1.01 * nearest);  // the block's scale was refitted after the points were chosen
  }
}

TEST(GgufCodec, PlainTypes) {
  const Weights weights = {0.0f, 1.5f, -2.25f, 3.1415927f, 65504.0f, 1e9f, -1e9f, 6e-8f};
  EXPECT_EQ(round_trip(GgufType::F32, weights, 8), weights);
  const Weights half = round_trip(GgufType::F16, weights, 8);
  EXPECT_EQ(half[3], 3.140625f);
  EXPECT_EQ(half[5], 65504.0f);  // saturates
  EXPECT_EQ(half[6], -65504.0f);
  EXPECT_EQ(half[7], 0x1.0p-24f);
  const Weights brain = round_trip(GgufType::BF16, weights, 8);
  EXPECT_EQ(brain[3], 3.140625f);
  EXPECT_EQ(brain[4], 65536.0f);
  const Weights largest = {std::numeric_limits<float>::max(), -std::numeric_limits<float>::max()};
  for (const float w : round_trip(GgufType::BF16, largest, 2)) EXPECT_TRUE(std::isfinite(w));
}

// An exponent of 255 is no number; 6 x 2^126 is beyond what float holds, and 1.5 x 2^126 is not.
TEST(Mxfp4, KnowsBlocksThatAreNotFinite) {
  const GgufCodec& codec = codec_of(GgufType::MXFP4);
  const auto finite = [&](int exponent, int code) {
    std::vector<std::byte> blocks(2 * 17, std::byte{0x22});
    blocks[17] = static_cast<std::byte>(exponent);
    blocks[17 + 5] = static_cast<std::byte>(code);
    return codec.finite(blocks.data(), 64);
  };
  EXPECT_TRUE(finite(252, 0x77));
  EXPECT_TRUE(finite(253, 0x03));
  EXPECT_FALSE(finite(253, 0x07));
  EXPECT_FALSE(finite(253, 0xF0));
  EXPECT_FALSE(finite(255, 0x00));
}

}  // namespace
}  // namespace strata
