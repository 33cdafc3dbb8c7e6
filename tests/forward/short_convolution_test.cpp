#include <gtest/gtest.h>

#include "strata/core/json.h"
#include "strata/forward/convolution.h"
#include "strata/model/config_json.h"
#include "strata/model/model.h"
#include "tests/support/architecture_models.h"
#include "tests/support/error_of.h"
#include "tests/support/temporary_directory.h"

namespace strata {
namespace {

at::Tensor convolved_in_double(const at::Tensor& x, const at::Tensor& filters) {
  const at::Tensor result = at::zeros(x.sizes(), at::kDouble);
  auto to = result.accessor<double, 3>();
  const auto from = x.accessor<float, 3>(), taps = filters.accessor<float, 3>();
  const int64_t width = filters.size(2);
  for (int64_t b = 0; b < x.size(0); ++b)
    for (int64_t t = 0; t < x.size(1); ++t)
      for (int64_t c = 0; c < x.size(2); ++c)
        for (int64_t tap = 0; tap < width; ++tap)
          if (const int64_t source = t - width + 1 + tap; source >= 0)
            to[b][t][c] += static_cast<double>(taps[c][0][tap]) * from[b][source][c];
  return result;
}

TEST(CausalConvolution, IsThatOfTheDefinition) {
  at::manual_seed(1);
  for (const int64_t width : {1, 3, 4}) {
    const at::Tensor x = at::randn({2, 9, 5}), filters = at::randn({5, 1, width});
    const at::Tensor found = causal_convolution(x, filters, {}, nullptr);
    EXPECT_LT(relative_difference(found.to(at::kDouble), convolved_in_double(x, filters)), 1e-6) << width;
  }
}

// To the last bit, wherever the text is cut.
TEST(CausalConvolution, GoesOnBehindWhatItKeeps) {
  at::manual_seed(2);
  const at::Tensor x = at::randn({2, 9, 5}), filters = at::randn({5, 1, 4}), bias = at::randn({5});
  const at::Tensor whole = causal_convolution(x, filters, bias, nullptr);
  at::Tensor kept;
  std::vector<at::Tensor> parts;
  for (const auto& [first, count] : {std::pair{0, 1}, {1, 1}, {2, 5}, {7, 2}})
    parts.push_back(causal_convolution(x.narrow(1, first, count), filters, bias, &kept));
  EXPECT_TRUE(at::equal(at::cat(parts, 1), whole));
}

class Lfm2 : public testing::Test {
 protected:
  Lfm2() { std::filesystem::copy(architecture_model("lfm2").directory, directory_ / "model"); }

  std::string error_with(const Json& changes) {
    Json config = read_json(directory_ / "model" / "config.json");
    config.update(changes);
    write_json(directory_ / "model" / "config.json", config);
    return error_of([&] { open_model(directory_ / "model"); });
  }

  const TemporaryDirectory directory_;
};

TEST_F(Lfm2, SizesItsFeedForwardBlockByItsConfig) {
  const auto size_with = [&](const Json& changes) {
    Json config = read_json(directory_ / "model" / "config.json");
    config.update(changes);
    write_json(directory_ / "config.json", config);
    return read_config(directory_ / "config.json").intermediate_size;
  };
  EXPECT_EQ(size_with({{"intermediate_size", 12288}, {"block_multiple_of", 256}}), 8192);
  EXPECT_EQ(size_with({{"block_ff_dim", 6656}, {"block_multiple_of", 256}}), 4608);
  EXPECT_EQ(size_with({{"block_ff_dim", 6000}, {"block_ffn_dim_multiplier", 1.3}, {"block_multiple_of", 1}}),
            5200);
  EXPECT_EQ(size_with({{"block_ff_dim", 6656}, {"block_auto_adjust_ff_dim", false}}), 6656);
}

TEST_F(Lfm2, RefusesLayersOfNoKnownKind) {
  std::string message = error_with({{"layer_types", {"conv", "full_attention"}}});
  EXPECT_NE(message.find("layer_types is not a list of 3 names, one a layer"), std::string::npos) << message;
  message = error_with({{"layer_types", {"conv", "full_attention", "rwkv"}}});
  EXPECT_NE(message.find("layer_types has \"rwkv\"; known are conv and full_attention"), std::string::npos)
      << message;
}

TEST_F(Lfm2, RefusesAFilterOfAnotherWidth) {
  std::string message = error_with({{"conv_L_cache", 4}});
  EXPECT_NE(message.find("model.layers.0.conv.conv.weight has shape [64, 1, 3], but the config asks for "
                         "[64, 1, 4]"),
            std::string::npos)
      << message;
  message = error_with({{"conv_L_cache", 0}});
  EXPECT_NE(message.find("the width of the convolution is 0"), std::string::npos) << message;
}

}  // namespace
}  // namespace strata
