#include "strata/pipeline/plans.h"

#include <gtest/gtest.h>

#include "strata/allocation/allocator.h"
#include "strata/sensitivity/method.h"
#include "tests/support/error_of.h"
#include "tests/support/temporary_directory.h"
#include "tests/support/tiny_gguf.h"

namespace strata {
namespace {

class PlansForModels : public testing::Test {
 protected:
  void SetUp() override {
    write_tiny_model(directory_ / "model", {});
    model_ = open_model(directory_ / "model");
    plan_.model = "model";
    for (const Module& module : model_.modules)
      plan_.assignments.push_back({module.tensor, module.rows, module.cols, parse_scheme("Q8_0")});
    plan_.sum_up();
  }

  Plan read_back(const Plan& plan) const {
    write_plan(directory_ / "plan.json", plan);
    return read_plan_for(model_, directory_ / "plan.json");
  }

  std::string refusal_of(const Plan& plan) const {
    return error_of([&] { read_back(plan); });
  }

  TemporaryDirectory directory_;
  Model model_;
  Plan plan_;
};

TEST_F(PlansForModels, APlanOfTheWholeModelIsTaken) {
  EXPECT_EQ(read_back(plan_).bytes, plan_.bytes);
  Plan without_shapes = plan_;
  for (Assignment& assignment : without_shapes.assignments) assignment.rows = assignment.cols = 0;
  without_shapes.bytes = 1;
  const Plan read = read_back(without_shapes);
  EXPECT_EQ(read.bytes, plan_.bytes);
  EXPECT_EQ(read.assignments.front().cols, 32);
}

TEST_F(PlansForModels, APlanKnowsHowManyLayersTheModelHas) {
  SensitivityOptions options;
  options.schemes = parse_schemes("Q4_0,Q8_0");
  AllocatorOptions allocator;
  allocator.schemes = options.schemes;
  allocator.budget.bits_per_weight = 9;
  Scores scores = score(model_, "uniform", options);
  EXPECT_EQ(read_back(allocate(modules_of(scores), scores, allocator)).layers, 2);
  scores.modules.clear();  // as another program may leave them out
  EXPECT_EQ(allocate(modules_of(scores), scores, allocator).layers, 0);
}

TEST_F(PlansForModels, APlanOfAPartIsRefused) {
  Plan part = plan_;
  part.assignments.resize(9);
  part.assignments.erase(part.assignments.begin() + 7);
  const std::string message = refusal_of(part);
  EXPECT_NE(message.find("gives no scheme to model.layers.1.self_attn.q_proj.weight (6 of 14 matrices"),
            std::string::npos)
      << message;
}

TEST_F(PlansForModels, AnotherShapeOrNameIsRefused) {
  Plan wrong = plan_;
  wrong.assignments[2].rows = 4096;
  EXPECT_NE(refusal_of(wrong).find(
                "its model.layers.0.self_attn.v_proj.weight has the shape [4096, 32], and that of"),
            std::string::npos);
  wrong = plan_;
  wrong.assignments[2].tensor = "model.layers.9.self_attn.v_proj.weight";
  EXPECT_NE(refusal_of(wrong).find("names the tensor model.layers.9.self_attn.v_proj.weight, which"),
            std::string::npos);
}

}  // namespace
}  // namespace strata
