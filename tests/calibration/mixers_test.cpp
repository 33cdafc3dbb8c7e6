// Importance matrices of layers without attention.

#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include "strata/calibration/imatrix.h"
#include "strata/model/value_heads.h"
#include "tests/support/architecture_models.h"
#include "tests/support/random_ids.h"
#include "tests/support/temporary_directory.h"

namespace strata {
namespace {

// llama.cpp's has value heads in llama.cpp's order, whatever order the model is in.
TEST(MixerImatrix, IsReadInTheOrderOfTheModel) {
  const Model model = open_model(architecture_model("qwen3-5").directory);
  const Model tiled = with_value_heads(model, true);
  const Calibration calibration = make_calibration(random_ids(2, 24, model.config.vocab_size), "test");
  const TemporaryDirectory directory;
  write_imatrix(directory / "imatrix.gguf", measure_imatrix(tiled, calibration, at::kCPU));
  const Imatrix own = measure_imatrix(model, calibration, at::kCPU);
  const std::string output = "model.layers.0.linear_attn.out_proj.weight";
  for (const Model* reader : {&model, &tiled}) {
    const Imatrix read = read_imatrix(directory / "imatrix.gguf", *reader);
    ASSERT_EQ(read.entries.size(), own.entries.size());
    const std::vector<float>& found = read.entries.at(output).squares;
    const std::vector<float>& expected = own.entries.at(output).squares;
    const size_t order[] = {0, 2, 1, 3};
    for (size_t column = 0; column < expected.size(); ++column) {
      const size_t in_model = reader == &model ? column : order[column / 16] * 16 + column % 16;
      EXPECT_NEAR(found[column], expected[in_model], 1e-4 * expected[in_model]) << column;
    }
  }
}

// Of parts that stand apart in GGUF files llama.cpp's has an entry each.
TEST(MixerImatrix, MayHaveAnEntryForEveryPartOfAMatrix) {
  const Model model = open_model(architecture_model("granite4").directory);
  const TemporaryDirectory directory;
  Imatrix imatrix =
      measure_imatrix(model, make_calibration(random_ids(1, 24, model.config.vocab_size), "test"), at::kCPU);
  const auto gate = imatrix.entries.at("model.layers.1.shared_mlp.input_linear.weight");
  imatrix.entries["blk.1.ffn_up.weight"] = gate;
  write_imatrix(directory / "imatrix.gguf", imatrix);
  EXPECT_EQ(read_imatrix(directory / "imatrix.gguf", model)
                .entries.at("model.layers.1.shared_mlp.input_linear.weight")
                .squares,
            gate.squares);
}

}  // namespace
}  // namespace strata
