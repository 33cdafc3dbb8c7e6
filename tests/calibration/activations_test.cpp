#include "strata/calibration/activations.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <vector>

#include "strata/core/error.h"
#include "strata/core/random.h"
#include "tests/support/random_ids.h"
#include "tests/support/temporary_directory.h"
#include "tests/support/tiny_model.h"

namespace strata {
namespace {

class Activations : public testing::Test {
 protected:
  void SetUp() override {
    TinyModel tiny;
    tiny.layers = 3;
    write_tiny_model(directory_ / "model", tiny);
    model_ = open_model(directory_ / "model");
    calibration_ = make_calibration(random_ids(7, 16), "test");
  }

  TemporaryDirectory directory_;
  Model model_;
  Calibration calibration_;
};

TEST_F(Activations, AreThoseOfTheWholeModelWithTheWeightsReplacedSoFar) {
  ActivationStream stream(model_, calibration_, {});
  Decoder whole(model_, {});
  const std::string down = model_.module(1, Role::Down).tensor;
  const at::Tensor other = 0.5 * whole.weight(down);

  for (; !stream.at_end(); stream.advance()) {
    if (stream.layer() == 1) {
      stream.decoder().replace(down, other);
      whole.replace(down, other);
    }
    std::map<int, std::map<Role, at::Tensor>> expected;
    whole.observe([&](int layer, std::string_view what, const at::Tensor& value) {
      if (what == "layer") return;
      at::Tensor& seen = expected[layer][role_of(what)];
      const at::Tensor rows = value.reshape({-1, value.size(-1)}).clone();
      seen = seen.defined() ? at::cat({seen, rows}) : rows;
    });
    whole.forward(calibration_.ids);
    whole.observe(nullptr);
    std::map<Role, at::Tensor> inputs;
    stream.observe([&](Role role, const at::Tensor& input) {
      at::Tensor& seen = inputs[role];
      seen = seen.defined() ? at::cat({seen, input}) : input.clone();
    });
    ASSERT_EQ(inputs.size(), 4u);
    for (const auto& [role, input] : expected[stream.layer()])
      EXPECT_TRUE(at::allclose(inputs.at(input_role(role)), input, 1e-4, 1e-4))
          << stream.layer() << name_of(role);
  }
  EXPECT_TRUE(at::allclose(stream.decoder().logits(stream.hidden(0, 7)), whole.forward(calibration_.ids),
                           1e-4, 1e-5));
  EXPECT_THROW(stream.advance(), Error);
}

// A layer that goes from input to input, some of them left out, sees and gives what one whole run does.
TEST_F(Activations, ALayerProceedsFromInputToInput) {
  const std::vector<std::vector<Role>> ways = {
      {}, {Role::Q}, {Role::O}, {Role::Gate}, {Role::Down}, {Role::Q, Role::O, Role::Gate, Role::Down}};
  for (const std::vector<Role>& way : ways) {
    ActivationStream whole(model_, calibration_, {}), parted(model_, calibration_, {});
    for (; !whole.at_end(); whole.advance(), parted.advance()) {
      for (const Role role : {Role::K, Role::O, Role::Up, Role::Down}) {
        const std::string tensor = model_.module(whole.layer(), role).tensor;
        const at::Tensor other = 0.7 * whole.decoder().weight(tensor);
        whole.decoder().replace(tensor, other);
      }
      std::map<Role, at::Tensor> expected;
      whole.observe([&](Role role, const at::Tensor& input) { expected[role] = input.clone(); });
      for (const Role role : {Role::Q, Role::O, Role::Gate, Role::Down}) {
        if (std::find(way.begin(), way.end(), role) != way.end()) {
          at::Tensor seen;
          parted.proceed_to(role, [&](const at::Tensor& input) { seen = input.clone(); });
          EXPECT_TRUE(at::allclose(seen, expected.at(role), 1e-4, 1e-5)) << name_of(role);
        }
        // A role's matrices are replaced once its inputs have been seen.
        for (const Module& module : model_.modules)
          if (module.layer == whole.layer() && input_role(module.role) == role)
            parted.decoder().replace(module.tensor, whole.decoder().weight(module.tensor));
      }
    }
    EXPECT_TRUE(at::allclose(parted.hidden(0, 7), whole.hidden(0, 7), 1e-4, 1e-5)) << way.size();
  }
}

TEST_F(Activations, ALayerDoesNotGoBack) {
  ActivationStream stream(model_, calibration_, {});
  const auto ignore = [](const at::Tensor&) {};
  EXPECT_THROW(stream.proceed_to(Role::K, ignore), Error);
  stream.proceed_to(Role::O, ignore);
  for (const Role role : {Role::Q, Role::O}) EXPECT_THROW(stream.proceed_to(role, ignore), Error);
  EXPECT_THROW(stream.observe([](Role, const at::Tensor&) {}), Error);
  EXPECT_THROW(stream.advance([](Role, const at::Tensor&) {}), Error);
  stream.proceed_to(Role::Down, ignore);
  EXPECT_THROW(stream.proceed_to(Role::Gate, ignore), Error);
  stream.advance();
  stream.proceed_to(Role::Q, ignore);
}

TEST_F(Activations, AreKeptInBfloat16AndThenOnDisk) {
  const int64_t elements = 7 * 16 * 32;
  at::Tensor last[3];
  for (int way = 0; way < 3; ++way) {
    ActivationOptions options;
    options.states.memory_limit = way == 0 ? 4 * elements : way == 1 ? 4 * elements - 1 : 2 * elements - 1;
    options.states.directory = directory_.path();
    ActivationStream stream(model_, calibration_, options);
    while (!stream.at_end()) stream.advance();
    last[way] = stream.hidden(0, 7);
    HiddenStates states(7, 16, 32, options.states);
    EXPECT_EQ(states.on_disk(), way == 2);
    EXPECT_EQ(states.stored_type(), way == 0 ? at::kFloat : at::kBFloat16);
  }
  EXPECT_TRUE(at::equal(last[1], last[2]));
  EXPECT_FALSE(at::equal(last[0], last[1]));
  const double apart = (last[0] - last[1]).norm().item<double>() / last[0].norm().item<double>();
  EXPECT_LT(apart, 0.03);
}

TEST_F(Activations, ADirectoryThatCannotHoldThemIsNamed) {
  ActivationOptions options;
  options.states.memory_limit = 0;
  options.states.directory = "/nowhere/at/all";
  EXPECT_THROW(ActivationStream(model_, calibration_, options), Error);
}

}  // namespace
}  // namespace strata
