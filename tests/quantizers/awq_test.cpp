#include "strata/quantizers/awq.h"

#include <gtest/gtest.h>

#include "strata/calibration/second_moments.h"
#include "strata/core/error.h"
#include "strata/core/random.h"
#include "strata/core/threads.h"
#include "strata/forward/load_tensor.h"
#include "tests/support/architecture_models.h"
#include "tests/support/random_ids.h"
#include "tests/support/temporary_directory.h"
#include "tests/support/tiny_model.h"

namespace strata {
namespace {

std::map<std::string, Scheme> uniform(const Model& model, const std::string& scheme) {
  std::map<std::string, Scheme> schemes;
  for (const Module& module : model.modules) schemes[module.tensor] = parse_scheme(scheme);
  return schemes;
}

double largest_difference(const Model& a, const Model& b, const at::Tensor& ids) {
  const at::Tensor expected = Decoder(a, {}).forward(ids), given = Decoder(b, {}).forward(ids);
  return ((given - expected).abs().max() / expected.abs().max()).item<double>();
}

int64_t scaled_tensors(const std::map<std::string, TensorScaling>& scalings) {
  int64_t count = 0;
  for (const auto& [tensor, scaling] : scalings)
    for (const std::vector<float>* factors : {&scaling.rows, &scaling.cols})
      for (const float factor : *factors)
        if (std::abs(factor - 1) > 0.1f) {
          ++count;
          break;
        }
  return count;
}

class AwqTest : public testing::Test {
 protected:
  TemporaryDirectory directory_;
};

// Grouped queries, biases of all kinds, norms of heads, fused matrices, norms behind the blocks.
TEST_F(AwqTest, TheScaledModelComputesWhatTheModelDoes) {
  set_thread_count(1);  // threads would wait for each other most of the time in models as small as these
  for (const std::string& architecture : architecture_models()) {
    const Model model = open_model(architecture_model(architecture).directory);
    const Calibration calibration = make_calibration(random_ids(4, 16), "test");
    const auto scalings = search_awq_scales(model, uniform(model, "w2g32"), calibration, {});
    EXPECT_GT(scaled_tensors(scalings), 6) << architecture;
    const Model scaled = scale_model(model, scalings);
    EXPECT_LT(largest_difference(model, scaled, calibration.ids), 1e-4) << architecture;
  }
  set_thread_count(0);
}

TEST(AwqOfTinyLlama, EqualsTheModelBeforeQuantizationAndLosesLessAfter) {
  const std::filesystem::path source = STRATA_SOURCE_DIR;
  const Model model = open_model(source / "models/tiny-llama");
  CalibrationOptions from;
  from.source = source / "data/wikitext-2/wiki.train.first-1MB.raw";
  from.tokens = 512;
  const Calibration calibration = load_calibration(model, from);
  const auto schemes = uniform(model, "w3g128");
  const Model scaled = scale_model(model, search_awq_scales(model, schemes, calibration, {}));
  const at::Tensor ids = calibration.ids.narrow(0, 0, 1);
  EXPECT_LT(largest_difference(model, scaled, ids), 1e-4);

  const at::Tensor expected = Decoder(model, {}).forward(ids);
  const auto divergence = [&](const Model& quantized_model) {
    Decoder decoder(quantized_model, {});
    QuantizerOptions rtn;
    rtn.name = "rtn";
    for (const Module& module : model.modules) {
      at::Tensor weights =
          load_tensor(*quantized_model.checkpoint, module.tensor, at::kCPU, at::kFloat).contiguous();
      fake_quantize({weights.data_ptr<float>(), module.rows, module.cols}, schemes.at(module.tensor), rtn);
      decoder.replace(module.tensor, weights);
    }
    const at::Tensor p = at::log_softmax(expected, -1), q = at::log_softmax(decoder.forward(ids), -1);
    return (p.exp() * (p - q)).sum(-1).mean().item<double>();
  };
  EXPECT_LT(divergence(scaled), divergence(model));
}

TEST_F(AwqTest, AScaledCheckpointChecksItsFactors) {
  TinyModel tiny;
  write_tiny_model(directory_ / "model", tiny);
  const Model model = open_model(directory_ / "model");
  const std::string q = model.modules[0].tensor;
  const ScaledCheckpoint scaled(model.checkpoint, {{q, {{}, std::vector<float>(32, 2.0f)}}});
  const std::vector<float> before = model.checkpoint->read(q), after = scaled.read(q);
  for (size_t i = 0; i < before.size(); ++i) EXPECT_EQ(after[i], 2 * before[i]);
  EXPECT_TRUE(scaled.altered(q));
  EXPECT_FALSE(scaled.altered(model.modules[1].tensor));
  EXPECT_THROW(ScaledCheckpoint(model.checkpoint, {{q, {{}, {1, 2}}}}), Error);
  EXPECT_THROW(ScaledCheckpoint(model.checkpoint, {{"no.such", {}}}), Error);
}

// An expert that few tokens reach has no factors: they would be those of noise.
TEST(AwqOfExperts, LeavesThoseAloneThatFewTokensReach) {
  const Model model = open_model(architecture_model("qwen3-moe").directory);
  const Calibration calibration = make_calibration(random_ids(7, 16, model.config.vocab_size), "test");
  ActivationStream stream(model, calibration, {});
  std::map<std::string, int64_t> tokens;
  while (!stream.at_end()) {
    const std::string layer = model.layer_tensor(stream.layer(), "");
    stream.advance(
        [&](const std::string& input, const at::Tensor& values) { tokens[layer + input] += values.size(0); });
  }
  const auto scalings = search_awq_scales(model, uniform(model, "w3g32"), calibration, {});
  int few = 0, scaled = 0;
  for (const Module& module : model.modules) {
    const auto found = scalings.find(module.tensor);
    if (module.name != "mlp.experts.down_proj" || found == scalings.end()) continue;
    for (int64_t expert = 0; expert < module.experts; ++expert) {
      const float* own = found->second.cols.data() + expert * module.cols;
      const bool is_left = std::all_of(own, own + module.cols, [](float factor) { return factor == 1; });
      const bool has_few = tokens.at(model.layer_tensor(module.layer, input_of(module, expert))) < kFewTokens;
      EXPECT_TRUE(is_left || !has_few) << module.tensor << " " << expert;
      few += has_few;
      scaled += !is_left;
    }
  }
  EXPECT_GT(few, 0);
  EXPECT_GT(scaled, 0);
}

}  // namespace
}  // namespace strata
