#include "strata/forward/runtime_rounding.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "strata/core/error.h"
#include "strata/forward/decoder.h"
#include "tests/forward/reference_decoder.h"
#include "tests/support/error_of.h"
#include "tests/support/temporary_directory.h"
#include "tests/support/tiny_gguf.h"

namespace strata {
namespace {

float to_half(double x) {
  return static_cast<float>(c10::Half(static_cast<float>(x)));
}

// ggml's quantize_row_q8_0 and quantize_row_q8_K, then back.
std::vector<double> in_8_bits(const std::vector<double>& x, size_t group) {
  std::vector<double> y(x.size());
  for (size_t first = 0; first < x.size(); first += group) {
    double largest = 0;  // with its sign
    for (size_t i = first; i < first + group; ++i)
      if (std::abs(x[i]) > std::abs(largest)) largest = x[i];
    const double scale = group == 256 ? largest / -127 : std::abs(largest) / 127;
    for (size_t i = first; i < first + group && scale != 0; ++i)
      y[i] = std::min(127.0, std::nearbyint(x[i] / scale)) * (group == 256 ? scale : to_half(scale));
  }
  return y;
}

TEST(RuntimeRounding, FollowsTheDefinitionOfEveryType) {
  at::manual_seed(4);
  at::Tensor x = at::randn({5, 512});
  x[1][3] = -1000;  // takes what is near it down to zero
  x[2].zero_();
  for (const GgufTypeTraits& traits : gguf_types()) {
    const std::string type(traits.name);
    const at::Tensor found = round_as_llama_cpp(x, type);
    if (traits.block_elements == 1) {
      const at::ScalarType kept = type == "F32" ? at::kFloat : type == "F16" ? at::kHalf : at::kBFloat16;
      EXPECT_TRUE(at::equal(found, x.to(kept).to(at::kFloat))) << type;
      continue;
    }
    const bool large =
        type.find("_K") != std::string::npos || (type.substr(0, 2) == "IQ" && type != "IQ4_NL");
    for (int64_t r = 0; r < x.size(0); ++r) {
      const float* row = x[r].data_ptr<float>();
      const std::vector<double> expected = in_8_bits({row, row + 512}, large ? 256 : 32);
      for (int64_t i = 0; i < 512; ++i)
        EXPECT_NEAR(found[r][i].item<float>(), expected[static_cast<size_t>(i)], 1e-4) << type << r << i;
    }
  }
  EXPECT_NE(error_of([&] { round_as_llama_cpp(at::zeros({1, 48}), "Q8_0"); }), "");
  EXPECT_NE(error_of([&] { round_as_llama_cpp(x, "FP8"); }), "");
}

// In every product and in the kept keys and values, the head's too.
TEST(RuntimeRounding, TheDecoderRoundsLikeTheReference) {
  TemporaryDirectory directory;
  for (const GgufType type : {GgufType::Q8_0, GgufType::Q6_K}) {
    TinyModel tiny;
    tiny.tied = type == GgufType::Q6_K;
    tiny.hidden = tiny.intermediate = type == GgufType::Q6_K ? 256 : 64;
    tiny.head_dim = tiny.hidden / tiny.heads;
    write_tiny_gguf(directory / "model.gguf", tiny, random_weights(tiny), tiny_gguf_keys(tiny), type);
    const Model model = open_model(directory / "model.gguf");
    TinyWeights stored = random_weights(tiny);
    for (const std::string& name : stored.names) stored.values[name] = model.checkpoint->read(name);
    const ReferenceDecoder exact(tiny, stored);
    ReferenceDecoder reference = exact;
    const size_t group = type == GgufType::Q6_K ? 256 : 32;
    reference.take_input = [=](const std::vector<double>& x) { return in_8_bits(x, group); };
    reference.keep = to_half;
    DecoderOptions options;
    options.rounding = RuntimeRounding::LlamaCpp;
    Decoder decoder(model, options);

    // Pairs of tokens: a value halfway between two codes may go either way in float, and changes what
    // follows.
    constexpr int64_t kPairs = 16;
    int alike = 0;
    for (int64_t pair = 0; pair < kPairs; ++pair) {
      const std::vector<int64_t> ids = {3 * pair, 60 - pair};
      const at::Tensor found = decoder.forward(at::tensor(ids, at::kLong).unsqueeze(0))[0][1];
      const std::vector<double> rounded = reference.logits(ids)[1], unrounded = exact.logits(ids)[1];
      double apart = 0, lost = 0;
      for (size_t i = 0; i < rounded.size(); ++i) {
        apart = std::max(apart, std::abs(found[static_cast<int64_t>(i)].item<double>() - rounded[i]));
        lost = std::max(lost, std::abs(unrounded[i] - rounded[i]));
      }
      EXPECT_GT(lost, 1e-3);
      alike += apart < 1e-4;
    }
    EXPECT_GE(alike, kPairs / 2) << static_cast<int>(type);
  }
}

TEST(RuntimeRounding, NeedsTypesToGoByAndFloats) {
  TemporaryDirectory directory;
  write_tiny_model(directory / "model", {});
  DecoderOptions options;
  options.rounding = RuntimeRounding::LlamaCpp;
  const Model model = open_model(directory / "model");
  EXPECT_NE(error_of([&] { Decoder(model, options); }).find("no GGUF"), std::string::npos);
  options.dtype = at::kBFloat16;
  EXPECT_NE(error_of([&] { Decoder(model, options); }).find("float32"), std::string::npos);
  EXPECT_EQ(parse_runtime_rounding("llama.cpp"), RuntimeRounding::LlamaCpp);
  EXPECT_NE(error_of([] { parse_runtime_rounding("mlx"); }), "");
}

}  // namespace
}  // namespace strata
