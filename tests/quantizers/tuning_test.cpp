#include "strata/quantizers/tuning.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <stdexcept>

#include "strata/core/threads.h"
#include "strata/forward/decoder.h"
#include "strata/forward/load_tensor.h"
#include "strata/quantizers/tuning_state.h"
#include "tests/support/architecture_models.h"
#include "tests/support/error_of.h"
#include "tests/support/random_ids.h"
#include "tests/support/temporary_directory.h"

namespace strata {
namespace {

Model random_llama() {
  return open_model(architecture_model("llama").directory);
}

std::map<std::string, QuantizedMatrix> rounded_to(const Model& model, const std::string& scheme) {
  QuantizerOptions plain;
  plain.name = "rtn";
  std::map<std::string, QuantizedMatrix> matrices;
  for (const Module& module : model.modules) {
    const at::Tensor weights = load_tensor(*model.checkpoint, module.tensor, at::kCPU, at::kFloat);
    matrices[module.tensor] =
        quantize_matrix({weights.data_ptr<float>(), module.rows, module.cols}, parse_scheme(scheme), plain);
  }
  return matrices;
}

TuningOptions few_steps() {
  TuningOptions options;
  options.steps = 12;
  options.tokens_per_step = 48;
  options.checks = 4;
  return options;
}

const Calibration& tokens() {
  static const Calibration calibration = make_calibration(random_ids(24, 24), "random tokens");
  return calibration;
}

// Mean KL(p || q) over positions by its definition, of the windows that tuning holds back.
double held_back_divergence(const Model& model, const TunedModel& tuned) {
  const Model changed = replace_vectors(model, tuned.vectors);
  Decoder teacher(model, {}), student(changed, {});
  for (const auto& [tensor, matrix] : tuned.matrices) {
    at::Tensor weights = at::empty({matrix.rows, matrix.cols}, at::kFloat);
    matrix.dequantize(weights.data_ptr<float>());
    student.replace(tensor, weights);
  }
  const int64_t held_back = tokens().blocks() / 8;
  const at::Tensor ids = tokens().ids.narrow(0, tokens().blocks() - held_back, held_back);
  const at::Tensor log_p = at::log_softmax(teacher.forward(ids).to(at::kDouble), -1);
  const at::Tensor log_q = at::log_softmax(student.forward(ids).to(at::kDouble), -1);
  return (log_p.exp() * (log_p - log_q)).sum().item<double>() / static_cast<double>(ids.numel());
}

std::string fingerprint(const TunedModel& tuned) {
  std::string text = stored_fingerprint(tuned.matrices);
  for (const auto& [tensor, values] : tuned.vectors)
    for (const float value : values) text += fmt::format(" {}", value);
  return text;
}

class Tuning : public testing::TestWithParam<std::string> {};

TEST_P(Tuning, LeavesLessDivergenceAsItIsStored) {
  const Model model = random_llama();
  const TunedModel tuned = tune(model, model, rounded_to(model, GetParam()), tokens(), few_steps());
  EXPECT_LT(tuned.divergence_after, 0.97 * tuned.divergence_before);
  EXPECT_NEAR(held_back_divergence(model, tuned), tuned.divergence_after, 1e-4 * tuned.divergence_after);
  TunedModel start;
  start.matrices = rounded_to(model, GetParam());
  EXPECT_NEAR(held_back_divergence(model, start), tuned.divergence_before, 1e-4 * tuned.divergence_before);
  // Codes stay.
  for (const auto& [tensor, matrix] : tuned.matrices)
    EXPECT_EQ(matrix.affine.codes, start.matrices.at(tensor).affine.codes) << tensor;
}

INSTANTIATE_TEST_SUITE_P(Schemes, Tuning,
                         testing::Values("w2g32", "w2g32z", "w3g32s", "w2g32m", "Q4_1", "Q4_0", "nf4"),
                         [](const auto& name) { return name.param; });

TEST(TuningRuns, GiveTheSameBytesWithEveryNumberOfThreadsAndAfterAnInterruption) {
  const Model model = random_llama();
  TuningOptions options = few_steps();
  std::string expected;
  for (const int threads : {1, 2, 3}) {
    set_thread_count(threads);
    const std::string found = fingerprint(tune(model, model, rounded_to(model, "w2g32"), tokens(), options));
    if (expected.empty()) expected = found;
    EXPECT_EQ(found, expected) << threads;
  }
  set_thread_count(0);
  const TemporaryDirectory cache;
  options.cache = cache.path();
  const auto killed_after = [](int64_t last) {
    return [last](int64_t step, double) {
      if (step == last) throw std::runtime_error("killed");
    };
  };
  for (const int64_t last : {3, 9}) {
    options.checked = killed_after(last);
    EXPECT_THROW(tune(model, model, rounded_to(model, "w2g32"), tokens(), options), std::runtime_error);
  }
  std::vector<int64_t> steps;
  options.checked = [&](int64_t step, double) { steps.push_back(step); };
  EXPECT_EQ(fingerprint(tune(model, model, rounded_to(model, "w2g32"), tokens(), options)), expected);
  EXPECT_EQ(steps, (std::vector<int64_t>{12}));
  // Other options are another run.
  options.learning_rate = 0.01;
  steps.clear();
  EXPECT_NE(fingerprint(tune(model, model, rounded_to(model, "w2g32"), tokens(), options)), expected);
  EXPECT_EQ(steps.size(), 4U);
}

TEST(TuningRuns, TellStacksOfOtherCodesApart) {
  const auto stack = [](float last) {
    std::vector<float> weights(2 * 4 * 32, 0.5f);
    weights.back() = last;
    QuantizerOptions options;
    options.matrices = 2;
    return stored_fingerprint(
        {{"experts", quantize_matrix({weights.data(), 8, 32}, parse_scheme("w4g32"), options)}});
  };
  EXPECT_EQ(stack(1), stack(1));
  EXPECT_NE(stack(1), stack(-1));
}

TEST(TuningRuns, KeepTheStartWhereNothingIsBetter) {
  const Model model = random_llama();
  TuningOptions options = few_steps();
  options.learning_rate = 5;  // which makes everything worse
  const TunedModel tuned = tune(model, model, rounded_to(model, "w4g32"), tokens(), options);
  EXPECT_EQ(tuned.divergence_after, tuned.divergence_before);
  EXPECT_TRUE(tuned.vectors.empty());
  EXPECT_EQ(stored_fingerprint(tuned.matrices), stored_fingerprint(rounded_to(model, "w4g32")));
}

TEST(TuningRuns, RoundNormsToTheTypeOfTheFile) {
  const Model model = random_llama();
  TuningOptions options = few_steps();
  options.form.vector = [](const TensorInfo&) { return DType::BF16; };
  const TunedModel tuned = tune(model, model, rounded_to(model, "w2g32"), tokens(), options);
  ASSERT_FALSE(tuned.vectors.empty());
  for (const auto& [tensor, values] : tuned.vectors)
    for (const float value : values) {
      uint32_t bits = 0;
      std::memcpy(&bits, &value, sizeof(bits));
      EXPECT_EQ(bits & 0xffffu, 0u) << tensor;
    }
}

TEST(TuningRuns, AreRefusedWithoutWindowsToHoldBackOrMatricesThatLost) {
  const Model model = random_llama();
  const Calibration one = make_calibration(random_ids(1, 24), "one window");
  EXPECT_EQ(
      error_of([&] { tune(model, model, rounded_to(model, "w4g32"), one, few_steps()); }),
      "tuning holds windows back to check on, but one window gives 1 of 24 tokens; give a longer text, or "
      "a smaller --calib-window");
  const std::string nothing = error_of([&] { tune(model, model, {}, tokens(), few_steps()); });
  EXPECT_NE(nothing.find("the plan keeps all matrices as they are"), std::string::npos) << nothing;
}

TEST(TuningRuns, AreRefusedWhereTheDivergenceIsNotFinite) {
  const Model model = random_llama();
  auto matrices = rounded_to(model, "w4g32");
  for (float& scale : matrices.begin()->second.affine.scales) scale = std::numeric_limits<float>::quiet_NaN();
  const std::string before = error_of([&] { tune(model, model, matrices, tokens(), few_steps()); });
  EXPECT_NE(before.find("cannot be tuned"), std::string::npos) << before;
  TuningOptions options = few_steps();
  options.learning_rate = 1e30;
  const std::string during =
      error_of([&] { tune(model, model, rounded_to(model, "w4g32"), tokens(), options); });
  EXPECT_NE(during.find("choose a smaller --tune-rate"), std::string::npos) << during;
}

}  // namespace
}  // namespace strata
