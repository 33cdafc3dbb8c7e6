#include "strata/calibration/activations.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <vector>

#include "strata/core/error.h"
#include "strata/core/random.h"
#include "tests/support/random_ids.h"
#include "tests/support/three_layer_model.h"

namespace strata {
namespace {

class Activations : public ThreeLayerModel {
 protected:
  const Calibration calibration_ = make_calibration(random_ids(7, 16), "test");
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
    std::map<int, std::map<std::string, at::Tensor>> expected;
    whole.observe([&](int layer, std::string_view what, const at::Tensor& value) {
      if (what == "layer") return;
      expected[layer][std::string(what)] = value.reshape({-1, value.size(-1)}).clone();
    });
    whole.forward(calibration_.ids);
    whole.observe(nullptr);
    std::map<std::string, at::Tensor> inputs;
    stream.observe([&](const std::string& input, const at::Tensor& values) {
      at::Tensor& seen = inputs[input];
      seen = seen.defined() ? at::cat({seen, values}) : values.clone();
    });
    ASSERT_EQ(inputs.size(), 4u);
    ASSERT_EQ(expected[stream.layer()].size(), 7u);
    for (const auto& [name, input] : expected[stream.layer()])
      EXPECT_TRUE(at::equal(inputs.at(model_.module(stream.layer(), name).input), input))
          << stream.layer() << name;
  }
  EXPECT_TRUE(at::allclose(stream.decoder().logits(stream.hidden(0, 7)), whole.forward(calibration_.ids),
                           1e-4, 1e-5));
  EXPECT_THROW(stream.advance(), Error);
}

// A layer that goes from input to input, some of them left out, sees and gives what one whole run does, to
// the last bit, and so does one that nobody watches.
TEST_F(Activations, ALayerProceedsFromInputToInput) {
  const std::vector<std::string> all = {"self_attn.q_proj", "self_attn.o_proj", "mlp.gate_proj",
                                        "mlp.down_proj"};
  const std::vector<std::vector<std::string>> ways = {{}, {all[0]}, {all[1]}, {all[2]}, {all[3]}, all};
  for (const std::vector<std::string>& way : ways) {
    ActivationStream whole(model_, calibration_, {}), parted(model_, calibration_, {}),
        unwatched(model_, calibration_, {});
    for (; !whole.at_end(); whole.advance(), parted.advance(), unwatched.advance()) {
      EXPECT_EQ(parted.inputs(), all);
      for (const char* matrix : {"self_attn.k_proj", "self_attn.o_proj", "mlp.up_proj", "mlp.down_proj"}) {
        const std::string tensor = model_.module(whole.layer(), matrix).tensor;
        const at::Tensor other = 0.7 * whole.decoder().weight(tensor);
        whole.decoder().replace(tensor, other);
        unwatched.decoder().replace(tensor, other);
      }
      std::map<std::string, at::Tensor> expected;
      whole.observe([&](const std::string& input, const at::Tensor& values) { expected[input] = values; });
      for (const std::string& input : all) {
        if (std::find(way.begin(), way.end(), input) != way.end()) {
          at::Tensor seen;
          parted.proceed_to(input, [&](const std::string&, const at::Tensor& values) { seen = values; });
          EXPECT_TRUE(at::equal(seen, expected.at(input))) << input;
        }
        // Matrices are replaced once their inputs have been seen.
        for (const Module* module : model_.layer_modules(whole.layer()))
          if (module->input == input)
            parted.decoder().replace(module->tensor, whole.decoder().weight(module->tensor));
      }
    }
    EXPECT_TRUE(at::equal(parted.hidden(0, 7), whole.hidden(0, 7))) << way.size();
    EXPECT_TRUE(at::equal(unwatched.hidden(0, 7), whole.hidden(0, 7)));
  }
}

TEST_F(Activations, ALayerDoesNotGoBack) {
  ActivationStream stream(model_, calibration_, {});
  const auto ignore = [](const std::string&, const at::Tensor&) {};
  stream.proceed_to("mlp.gate_proj", ignore);
  EXPECT_THROW(stream.proceed_to("self_attn.q_proj", ignore), Error);
  EXPECT_THROW(stream.proceed_to("self_attn.o_proj", ignore), Error);
  EXPECT_THROW(stream.proceed_to("mlp.up_proj", ignore), Error);  // the first reader stands for all
  EXPECT_THROW(stream.observe(ignore), Error);
  EXPECT_THROW(stream.advance(ignore), Error);
  stream.proceed_to("mlp.gate_proj", ignore);
  stream.proceed_to("mlp.down_proj", ignore);
  stream.advance();
  EXPECT_EQ(stream.layer(), 1);
  stream.proceed_to("self_attn.q_proj", ignore);
  while (!stream.at_end()) stream.advance();
  EXPECT_THROW(stream.proceed_to("self_attn.q_proj", ignore), Error);
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
