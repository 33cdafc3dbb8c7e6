// Exports weigh the errors of GGUF types with the plan's importance.
#include <cstring>

#include "strata/gguf/codec.h"
#include "strata/gguf/file.h"
#include "tests/export/export_test_model.h"

namespace strata {
namespace {

class ImportanceExportTest : public ExportTest {
 protected:
  // A plan in Q4_0 whose first layer's `down` has a few inputs that matter.
  ExportPlan weighed_plan(const Model& model) {
    ExportPlan plan = uniform_plan(model, "Q4_0", "F16");
    const Module& module = model.module(0, Role::Down);
    std::vector<float> importance(static_cast<size_t>(module.cols), 0.01f);
    for (size_t i = 0; i < importance.size(); i += 7) importance[i] = 5;
    plan.importance[module.tensor] = importance;
    return plan;
  }
};

TEST_F(ImportanceExportTest, AGgufHoldsTheWeighedBlocks) {
  const Model model = make_model("llama");
  const ExportPlan plan = weighed_plan(model);
  export_gguf(model, plan, target("weighed.gguf"));
  const GgufFile file(target("weighed.gguf"));
  for (const int layer : {0, 1}) {
    const Module& module = model.module(layer, Role::Down);
    const std::vector<float> weights = model.checkpoint->read(module.tensor);
    const auto found = plan.importance.find(module.tensor);
    const float* importance = found == plan.importance.end() ? nullptr : found->second.data();
    const GgufTensor* tensor = file.find_tensor("blk." + std::to_string(layer) + ".ffn_down.weight");
    ASSERT_NE(tensor, nullptr);
    std::vector<std::byte> expected(tensor->bytes()), unweighed(tensor->bytes());
    encode_gguf(tensor->type, weights.data(), module.rows, module.cols, importance, expected.data());
    encode_gguf(tensor->type, weights.data(), module.rows, module.cols, nullptr, unweighed.data());
    EXPECT_EQ(std::memcmp(file.data(*tensor), expected.data(), expected.size()), 0) << layer;
    EXPECT_EQ(expected == unweighed, layer == 1);
  }
}

TEST_F(ImportanceExportTest, ADirectoryHoldsTheSameValues) {
  const Model model = make_model("llama");
  const ExportPlan plan = weighed_plan(model);
  export_gguf(model, plan, target("weighed.gguf"));
  export_hf(model, plan, target("weighed"));
  const Module& module = model.module(0, Role::Down);
  EXPECT_EQ(open_model(target("weighed")).checkpoint->read(module.tensor),
            open_model(target("weighed.gguf")).checkpoint->read(module.tensor));
}

TEST_F(ImportanceExportTest, ImportanceOfAnotherLengthIsRefused) {
  const Model model = make_model("llama");
  ExportPlan plan = weighed_plan(model);
  plan.importance.begin()->second.pop_back();
  EXPECT_NE(error_of([&] { export_gguf(model, plan, target("x.gguf")); }).find("has 95 values"),
            std::string::npos);
}

}  // namespace
}  // namespace strata
