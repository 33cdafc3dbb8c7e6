#include "strata/calibration/gradients.h"

#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "strata/core/random.h"
#include "strata/core/threads.h"
#include "strata/forward/decoder.h"
#include "strata/model/boundary_modules.h"
#include "tests/support/architecture_models.h"
#include "tests/support/random_ids.h"

namespace strata {
namespace {

at::Tensor random_like(const at::Tensor& tensor, uint64_t seed) {
  Random random(seed);
  at::Tensor values = at::empty_like(tensor);
  for (int64_t i = 0; i < values.numel(); ++i)
    values.data_ptr<float>()[i] = static_cast<float>(random.normal());
  return values;
}

// Mean next-token cross-entropy of one block.
double loss_of(Decoder& decoder, const at::Tensor& ids) {
  const at::Tensor log_p = at::log_softmax(decoder.forward(ids)[0].to(at::kDouble), -1);
  const int64_t predicted = ids.size(1) - 1;
  return -log_p.narrow(0, 0, predicted)
              .gather(1, ids[0].narrow(0, 1, predicted).unsqueeze(1))
              .mean()
              .item<double>();
}

class Gradients : public testing::TestWithParam<std::string> {};

TEST_P(Gradients, AgreeWithFiniteDifferencesForEveryModuleAndBlock) {
  Model model = open_model(architecture_model(GetParam()).directory);
  // Where the router chooses others the loss jumps: all experts are used.
  model.config.experts.used = model.config.experts.count;
  model.config.experts.groups_used = model.config.experts.groups;
  const Calibration calibration = make_calibration(random_ids(2, 12), "test");
  GradientOptions options;
  options.boundaries = boundary_modules(model);
  std::vector<Module> modules = model.modules;
  modules.insert(modules.end(), options.boundaries.begin(), options.boundaries.end());

  std::map<std::string, std::map<int64_t, at::Tensor>> gradients;
  GradientSums sums;
  std::vector<int> layers;
  const double loss = for_each_gradient(
      model, calibration, options,
      [&](const Module& module, int64_t block, const at::Tensor& gradient) {
        gradients[module.tensor][block] = gradient.clone();
        sums.add(module, gradient);
      },
      [&](int layer) { layers.push_back(layer); });
  std::vector<int> backwards;
  for (int layer = static_cast<int>(model.config.num_layers); layer-- > 0;) backwards.push_back(layer);
  backwards.push_back(kNoLayer);
  EXPECT_EQ(layers, backwards);

  set_thread_count(1);  // threads would wait for each other most of the time in models as small as these
  Decoder decoder(model, {});
  const auto block = [&](int64_t b) { return calibration.ids.narrow(0, b, 1); };
  EXPECT_NEAR(loss, (loss_of(decoder, block(0)) + loss_of(decoder, block(1))) / 2, 1e-5);
  ASSERT_EQ(modules.size(), model.modules.size() + (model.config.tied_embeddings ? 1 : 2));
  ASSERT_EQ(gradients.size(), modules.size());
  for (const Module& module : modules) {
    const at::Tensor weight = decoder.weight(module.tensor);
    for (const int64_t b : {0, 1}) {
      const at::Tensor& gradient = gradients.at(module.tensor).at(b);
      // Along the gradient itself the change is largest; a random direction sees the other components.
      const at::Tensor direction = gradient / gradient.norm() + 0.02 * random_like(weight, 1);
      const double step = 0.005 / direction.norm().item<double>();
      const auto loss_at = [&](double distance) {
        decoder.replace(module.tensor, weight + distance * direction);
        return loss_of(decoder, block(b));
      };
      // Central differences of the fourth order.
      const double found =
          (8 * (loss_at(step) - loss_at(-step)) - (loss_at(2 * step) - loss_at(-2 * step))) / (12 * step);
      decoder.restore(module.tensor);
      const double expected = (gradient * direction).sum(at::kDouble).item<double>();
      EXPECT_NEAR(found, expected, 0.02 * std::abs(expected)) << module.tensor << " in block " << b;
    }
    const auto& of_blocks = gradients.at(module.tensor);
    EXPECT_TRUE(at::allclose(sums.sum(module), of_blocks.at(0) + of_blocks.at(1)));
    EXPECT_TRUE(
        at::allclose(sums.sum_of_squares(module), of_blocks.at(0).square() + of_blocks.at(1).square()));
    EXPECT_EQ(sums.blocks(module), 2);
  }
  set_thread_count(0);
}

TEST_P(Gradients, AreTheSameBitsForEveryNumberOfThreads) {
  const Model model = open_model(architecture_model(GetParam()).directory);
  const Calibration calibration = make_calibration(random_ids(3, 40), "test");
  GradientOptions options;
  options.boundaries = boundary_modules(model);
  std::map<std::string, at::Tensor> first;
  for (const int threads : {1, 3}) {
    set_thread_count(threads);
    for_each_gradient(model, calibration, options,
                      [&](const Module& module, int64_t block, const at::Tensor& gradient) {
                        const std::string key = module.tensor + std::to_string(block);
                        const auto [found, is_new] = first.emplace(key, gradient.clone());
                        EXPECT_TRUE(at::equal(found->second, gradient)) << key;
                      });
  }
  set_thread_count(0);
}

INSTANTIATE_TEST_SUITE_P(Architectures, Gradients, testing::ValuesIn(architecture_models()),
                         [](const auto& name) { return test_name(name.param); });

}  // namespace
}  // namespace strata
