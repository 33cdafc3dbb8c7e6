// The stages of a layer against what its plan says of its matrices, for every architecture.
#include <gtest/gtest.h>

#include "strata/forward/layer.h"
#include "strata/model/model.h"
#include "strata/model/readers.h"
#include "tests/support/architecture_models.h"

namespace strata {
namespace {

class Stages : public testing::TestWithParam<std::string> {};

TEST_P(Stages, ReadTheMatricesThatThePlanSaysReadOneInput) {
  const ModelConfig config = open_model(architecture_model(GetParam()).directory).config;
  for (int layer = 0; layer < config.num_layers; ++layer) {
    const LayerPlan plan = architecture_of(config).plan(config, layer);
    std::vector<std::vector<std::string>> read;
    for (const Stage& stage : stages_of(plan))
      if (!stage.matrices.empty()) read.push_back(stage.matrices);
    EXPECT_EQ(readers_of(plan), read) << layer;
  }
}

INSTANTIATE_TEST_SUITE_P(All, Stages, testing::ValuesIn(architecture_models()),
                         [](const auto& model) { return test_name(model.param); });

}  // namespace
}  // namespace strata
