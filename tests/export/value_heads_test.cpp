#include "strata/model/value_heads.h"

#include <gtest/gtest.h>

#include "strata/export/export.h"
#include "strata/export/formats.h"
#include "strata/forward/decoder.h"
#include "strata/gguf/file.h"
#include "tests/support/architecture_models.h"
#include "tests/support/error_of.h"
#include "tests/support/temporary_directory.h"

namespace strata {
namespace {

// Four value heads over two key heads.
class ValueHeads : public testing::Test {
 protected:
  const ArchitectureModel fixture_ = architecture_model("qwen3-5");
  const Model model_ = open_model(fixture_.directory);
  const TemporaryDirectory directory_;
};

TEST_F(ValueHeads, ComputeTheSameInEitherOrder) {
  const Model tiled = with_value_heads(model_, true);
  EXPECT_TRUE(tiled.config.recurrence.tiled);
  const at::Tensor logits = Decoder(tiled, {}).forward(fixture_.ids)[0];
  EXPECT_LT(relative_difference(with_logits(logits), fixture_.logits), 1e-4);
  const Model back = with_value_heads(tiled, false);
  for (const TensorInfo& tensor : model_.checkpoint->tensors())
    EXPECT_EQ(back.checkpoint->read(tensor.name), model_.checkpoint->read(tensor.name)) << tensor.name;
}

// Heads 0 and 2 read the first key head, which heads 0 and 1 read in the checkpoint.
TEST_F(ValueHeads, StandInTilesInColumnsRowsAndVectors) {
  const std::string layer = "model.layers.0.linear_attn.";
  const Model tiled = with_value_heads(model_, true);
  const int64_t order[] = {0, 2, 1, 3};
  const auto both = [&](const std::string& name) {
    return std::pair(model_.checkpoint->read(layer + name), tiled.checkpoint->read(layer + name));
  };
  const auto [rates, tiled_rates] = both("A_log");
  const auto [columns, tiled_columns] = both("out_proj.weight");  // [64, 4 heads of 16]
  const auto [channels, tiled_channels] = both("conv1d.weight");  // [64 of q and k, 64 of v, 4]
  for (size_t head = 0; head < 4; ++head) {
    const auto from = static_cast<size_t>(order[head]);
    EXPECT_EQ(tiled_rates[head], rates[from]);
    for (size_t i = 0; i < 16; ++i) {
      EXPECT_EQ(tiled_columns[5 * 64 + head * 16 + i], columns[5 * 64 + from * 16 + i]);
      EXPECT_EQ(tiled_channels[(64 + head * 16 + i) * 4 + 2], channels[(64 + from * 16 + i) * 4 + 2]);
    }
  }
  EXPECT_TRUE(std::equal(channels.begin(), channels.begin() + 64 * 4, tiled_channels.begin()));
}

// What was measured in one order does not fit a file in the other.
TEST_F(ValueHeads, AreNotReorderedBehindWhatWasMeasured) {
  ExportPlan plan;
  plan.embedding = plan.head = parse_scheme("F32");
  plan.importance["model.layers.0.linear_attn.out_proj.weight"] = std::vector<float>(64, 1.0f);
  plan.schemes["model.layers.0.linear_attn.out_proj.weight"] = parse_scheme("Q4_0");
  const std::string message = error_of([&] { export_gguf(model_, plan, directory_ / "model.gguf"); });
  EXPECT_NE(message.find("value heads in another order"), std::string::npos) << message;
  export_gguf(with_value_heads(model_, true), plan, directory_ / "model.gguf");
  const Model written = open_model(directory_ / "model.gguf");
  EXPECT_TRUE(written.config.recurrence.tiled);
  const auto refused = error_of(
      [&] { format_for(directory_ / "packed", "strata").write(written, plan, directory_ / "packed"); });
  EXPECT_NE(refused.find("value heads in another order"), std::string::npos) << refused;
}

// A directory of packed matrices of a GGUF, in whose groups of columns heads stand as checkpoints have them.
TEST_F(ValueHeads, ComeBackIntoTheOrderOfDirectories) {
  ExportPlan plan;
  plan.embedding = plan.head = parse_scheme("F32");
  export_gguf(model_, plan, directory_ / "model.gguf");
  for (const Module& module : model_.modules) plan.schemes[module.tensor] = parse_scheme("w8g32");
  const auto packed = [&](const Model& model, const std::string& name) {
    format_for(directory_ / name, "strata").write(model, plan, directory_ / name);
    return open_model(directory_ / name);
  };
  const Model own = packed(model_, "own"), of_gguf = packed(open_model(directory_ / "model.gguf"), "gguf");
  for (const Module& module : model_.modules)
    EXPECT_EQ(of_gguf.checkpoint->read(module.tensor), own.checkpoint->read(module.tensor)) << module.tensor;
}

}  // namespace
}  // namespace strata
