// Quantizers that look at activations, on stacks of experts.

#include <gtest/gtest.h>

#include <map>

#include "strata/calibration/second_moments.h"
#include "strata/forward/load_tensor.h"
#include "strata/model/layout.h"
#include "strata/quantizers/layerwise_quantizer.h"
#include "strata/quantizers/sign_round.h"
#include "tests/support/architecture_models.h"
#include "tests/support/random_ids.h"

namespace strata {
namespace {

at::Tensor tensor_of_stack(const QuantizedMatrix& matrix) {
  at::Tensor values = at::empty({matrix.rows, matrix.cols}, at::kFloat);
  matrix.dequantize(values.data_ptr<float>());
  return values;
}

class QuantizedExperts : public testing::Test {
 protected:
  // Rows that a decoder shows of every expert's input.
  std::map<std::string, at::Tensor> inputs_of(const std::string& stack) const {
    std::map<std::string, at::Tensor> inputs;
    Decoder decoder(model_, {});
    decoder.observe([&](int layer, std::string_view what, const at::Tensor& value) {
      for (int64_t expert = 0; layer == 0 && expert < model_.config.experts.count; ++expert)
        if (what == expert_name(stack, expert)) inputs[std::string(what)] = value.to(at::kDouble);
    });
    decoder.forward(calibration_->ids);
    return inputs;
  }

  const Model model_ = open_model(architecture_model("qwen3-moe").directory);
  const std::shared_ptr<const Calibration> calibration_ =
      std::make_shared<Calibration>(make_calibration(random_ids(12, 20), "test"));
};

// With the others of its layer kept, an expert's gate and up see what its tokens are, times their gates.
TEST_F(QuantizedExperts, SeeTheirOwnTokensWeighedByTheirGates) {
  const Module& stack = model_.module(0, "mlp.experts.up_proj");
  const std::map<std::string, at::Tensor> inputs = inputs_of(stack.input);
  ASSERT_EQ(inputs.size(), 6u);
  const auto quantizer = make_gptq_quantizer(model_, calibration_, {}, {});
  quantizer->begin({{stack.tensor, parse_scheme("w3g32")}});
  const QuantizedMatrix taken = quantizer->take(stack.tensor);
  ASSERT_EQ(taken.parts.size(), 6u);
  at::Tensor sum = at::zeros({64, 64}, at::kDouble);
  for (const auto& [name, rows] : inputs) sum += at::mm(rows.t(), rows);
  for (int64_t expert = 0; expert < 6; ++expert) {
    const at::Tensor& rows = inputs.at(input_of(stack, expert));
    const at::Tensor moments = rows.size(0) < kFewTokens ? sum : at::mm(rows.t(), rows);
    at::Tensor weights = load_rows(*model_.checkpoint, model_.checkpoint->info(stack.tensor), expert * 32, 32,
                                   at::kCPU, at::kFloat);
    const at::Tensor expected = tensor_of_stack(
        gptq({weights.data_ptr<float>(), 32, 64}, factor_inverse(moments, {}), parse_scheme("w3g32"), {}));
    const at::Tensor given = tensor_of_stack(taken.parts[static_cast<size_t>(expert)]);
    // Sums in float on one side: a code at a tie may differ, and with it the rest of its row.
    EXPECT_LE((given - expected).abs().amax(1).gt(1e-5).sum().item<int64_t>(), 1) << expert;
  }
}

// Each 32 tokens or more, or the average of all.
TEST_F(QuantizedExperts, ThatFewTokensReachTakeTheAverageAndAreNamed) {
  const auto few = std::make_shared<Calibration>(make_calibration(random_ids(1, 20), "test"));
  const Module& stack = model_.module(0, "mlp.experts.down_proj");
  const auto quantizer = make_gptq_quantizer(model_, few, {}, {});
  quantizer->begin({{stack.tensor, parse_scheme("w3g32")}});
  testing::internal::CaptureStderr();
  quantizer->take(stack.tensor);
  const std::string note = testing::internal::GetCapturedStderr();
  EXPECT_NE(note.find("layer 0: 6 of the 6 experts of mlp.experts.down_proj"), std::string::npos) << note;
  EXPECT_NE(note.find("sends nearly nothing to half of them"), std::string::npos) << note;

  EXPECT_EQ(mean_squares({2, 4, 300, 500}, {1, 100}), (std::vector<float>{302.0f / 101, 504.0f / 101, 3, 5}));
}

// Learning a layer's stacks brings its output closer than where they start.
TEST_F(QuantizedExperts, AreLearnedTogether) {
  std::map<std::string, Scheme> schemes;
  for (const Module* module : model_.layer_modules(0)) schemes[module->tensor] = parse_scheme("w2g32");
  const auto error_of_layer = [&](int64_t steps) {
    SignRoundOptions options;
    options.layers.steps = steps;
    options.layers.mean_squares = true;
    options.layers.tokens_per_step = 80;
    const auto quantizer = make_sign_round_quantizer(model_, calibration_, options);
    quantizer->begin(schemes);
    Decoder exact(model_, {}), quantized(model_, {});
    for (const auto& [tensor, scheme] : schemes)
      quantized.replace(tensor, tensor_of_stack(quantizer->take(tensor)));
    const at::Tensor hidden = exact.embed(calibration_->ids);
    return (exact.layer(0, hidden) - quantized.layer(0, hidden)).square().mean().item<double>();
  };
  EXPECT_LT(error_of_layer(60), 0.9 * error_of_layer(0));
}

}  // namespace
}  // namespace strata
