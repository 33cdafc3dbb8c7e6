#include "strata/quantizers/student.h"

#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include <cmath>

#include "strata/core/threads.h"
#include "strata/forward/decoder.h"
#include "strata/forward/load_tensor.h"
#include "strata/quantizers/divergence_loss.h"
#include "strata/quantizers/teacher.h"
#include "tests/support/architecture_models.h"
#include "tests/support/random_ids.h"

namespace strata {
namespace {

QuantizedMatrix rounded(const Model& model, const std::string& tensor, const std::string& scheme) {
  const at::Tensor weights = load_tensor(*model.checkpoint, tensor, at::kCPU, at::kFloat);
  QuantizerOptions plain;
  plain.name = "rtn";
  return quantize_matrix({weights.data_ptr<float>(), weights.size(0), weights.size(1)}, parse_scheme(scheme),
                         plain);
}

// The layers' matrices in these schemes by turns, embedding and head in the first.
std::map<std::string, QuantizedMatrix> rounded_matrices(const Model& model,
                                                        const std::vector<std::string>& schemes) {
  std::map<std::string, QuantizedMatrix> matrices;
  size_t next = 0;
  for (const Module& module : model.modules)
    matrices[module.tensor] = rounded(model, module.tensor, schemes[next++ % schemes.size()]);
  for (const std::string& tensor : {model.embedding, model.head})
    matrices[tensor] = rounded(model, tensor, schemes.front());
  return matrices;
}

struct Lesson {
  Model model;
  at::Tensor ids, teacher, head;

  Lesson(const std::string& name, int64_t windows, int64_t length)
      : model(open_model(architecture_model(name).directory)), ids(random_ids(windows, length)) {
    teacher = Teacher(model, ids, at::kCPU, at::kFloat).normed(0, windows);
    head = load_tensor(*model.checkpoint, model.head, at::kCPU, at::kFloat);
  }

  double loss(Student& student) const { return student.learn(ids, teacher, head).item<double>(); }
  double stored_divergence(Student& student) const {
    return student.stored_divergence(
        ids, [&](int64_t first, int64_t count) { return teacher.narrow(0, first, count); }, head);
  }
};

// Mean KL(p || q) of two decoders by its definition, in double precision.
double divergence_of(Decoder& teacher, Decoder& student, const at::Tensor& ids) {
  double sum = 0;
  for (int64_t b = 0; b < ids.size(0); ++b) {
    const at::Tensor log_p = at::log_softmax(teacher.forward(ids.narrow(0, b, 1)).to(at::kDouble), -1);
    const at::Tensor log_q = at::log_softmax(student.forward(ids.narrow(0, b, 1)).to(at::kDouble), -1);
    sum += (log_p.exp() * (log_p - log_q)).sum().item<double>();
  }
  return sum / static_cast<double>(ids.numel());
}

at::Tensor dequantized(const QuantizedMatrix& matrix) {
  at::Tensor weights = at::empty({matrix.rows, matrix.cols}, at::kFloat);
  matrix.dequantize(weights.data_ptr<float>());
  return weights;
}

class DivergenceLoss : public testing::Test {};

TEST_F(DivergenceLoss, AndItsGradientsAreThoseOfTheDefinition) {
  at::manual_seed(1);
  const at::TensorOptions wide = at::TensorOptions().dtype(at::kDouble);
  const at::Tensor teacher = at::randn({7, 5}, wide), teacher_head = at::randn({11, 5}, wide);
  const at::Tensor hidden = at::randn({7, 3}, wide), head = at::randn({11, 3}, wide);
  const at::Tensor log_p = at::log_softmax(at::matmul(teacher, teacher_head.t()), -1);
  const auto expected = [&](const at::Tensor& x, const at::Tensor& w) {
    const at::Tensor log_q = at::log_softmax(at::matmul(x, w.t()), -1);
    return (log_p.exp() * (log_p - log_q)).sum().item<double>() / 7;
  };
  at::Tensor x = hidden.clone().set_requires_grad(true), w = head.clone().set_requires_grad(true);
  const at::Tensor loss = divergence_loss(x, w, teacher, teacher_head, 3);
  loss.backward();
  EXPECT_NEAR(loss.item<double>(), 3 * expected(hidden, head), 1e-12);
  EXPECT_NEAR(divergence_sum(hidden, head, teacher, teacher_head).item<double>(), 7 * expected(hidden, head),
              1e-12);
  const auto compare = [](const at::Tensor& gradient, at::Tensor at, const std::function<double()>& value) {
    constexpr double kStep = 1e-5;
    for (int64_t i = 0; i < at.numel(); ++i) {
      double& element = at.data_ptr<double>()[i];
      const double start = element;
      element = start + kStep;
      const double above = value();
      element = start - kStep;
      const double below = value();
      element = start;
      EXPECT_NEAR(gradient.data_ptr<double>()[i], 3 * (above - below) / (2 * kStep), 1e-8);
    }
  };
  compare(x.grad(), hidden, [&] { return expected(hidden, head); });
  compare(w.grad(), head, [&] { return expected(hidden, head); });
}

class StudentOf : public testing::TestWithParam<std::string> {};

TEST_P(StudentOf, StartsAsTheQuantizedModelIsStored) {
  const Lesson lesson(GetParam(), 2, 12);
  const auto matrices = rounded_matrices(lesson.model, {"w3g32", "Q4_0", "w4g32s", "w2g32+w3@0.1"});
  Student student(lesson.model, matrices, {});
  Decoder teacher(lesson.model, {}), quantized(lesson.model, {});
  for (const auto& [tensor, matrix] : matrices) quantized.replace(tensor, dequantized(matrix));
  const double expected = divergence_of(teacher, quantized, lesson.ids);
  EXPECT_GT(expected, 1e-4);
  EXPECT_NEAR(lesson.loss(student), expected, 1e-4 * expected);
  EXPECT_NEAR(lesson.stored_divergence(student), expected, 1e-4 * expected);
}

// Every kind of parameter of every tensor, along its own gradient.
TEST_P(StudentOf, HasGradientsThatEqualFiniteDifferences) {
  set_thread_count(1);  // threads would wait for each other most of the time in models as small as these
  Lesson lesson(GetParam(), 1, 16);
  // Where the router chooses others the loss jumps: all experts are used.
  lesson.model.config.experts.used = lesson.model.config.experts.count;
  lesson.model.config.experts.groups_used = lesson.model.config.experts.groups;
  Student student(lesson.model, rounded_matrices(lesson.model, {"w3g32", "Q4_1", "w2g32m", "w4g32z"}), {});
  student.gradients().zero_();
  lesson.loss(student);
  const at::Tensor gradients = student.gradients().clone();
  std::vector<std::string> tensors = {lesson.model.embedding, lesson.model.head, lesson.model.final_norm};
  for (const TensorInfo& tensor : lesson.model.checkpoint->tensors())
    if (tensor.name.find(".layers.1.") != std::string::npos) tensors.push_back(tensor.name);
  int64_t compared = 0;
  for (const std::string& tensor : tensors)
    for (at::Tensor parameter : student.parameters_of(tensor)) {
      const at::NoGradGuard no_grad;
      const int64_t first = parameter.storage_offset();
      const at::Tensor gradient = gradients.narrow(0, first, parameter.numel()).view(parameter.sizes());
      const double norm = gradient.norm().item<double>();
      if (norm < 1e-4) continue;  // rounding of the loss would hide it
      const at::Tensor start = parameter.clone();
      const auto loss_at = [&](double distance) {
        parameter.copy_(start + gradient * (distance / norm));
        return lesson.loss(student);
      };
      const double step = std::min(0.03, 1e-3 / norm);
      // Of fourth order: scales of what is normed bend the loss.
      const double found =
          (8 * (loss_at(step) - loss_at(-step)) - (loss_at(2 * step) - loss_at(-2 * step))) / (12 * step);
      parameter.copy_(start);
      const double rounding = 1e-6 / step;  // of the losses, which are floats
      EXPECT_NEAR(found, norm, 0.02 * norm + rounding) << tensor << " " << parameter.sizes();
      ++compared;
    }
  EXPECT_GT(compared, 10);
  set_thread_count(0);
}

TEST_P(StudentOf, LearnsTheSameBitsWithEveryNumberOfThreads) {
  const Lesson lesson(GetParam(), 5, 20);
  const auto matrices = rounded_matrices(lesson.model, {"w3g32", "Q4_0"});
  at::Tensor first;
  double divergence = 0;
  for (const int threads : {1, 2, 3}) {
    set_thread_count(threads);
    Student student(lesson.model, matrices, {});
    lesson.loss(student);
    if (!first.defined()) first = student.gradients().clone();
    EXPECT_TRUE(at::equal(student.gradients(), first)) << threads;
    if (threads == 1) divergence = lesson.stored_divergence(student);
    EXPECT_EQ(lesson.stored_divergence(student), divergence) << threads;
  }
  set_thread_count(0);
}

TEST(MeanSquaresOfHead, AreThoseOfWhatTheDecoderGivesIt) {
  const Model model = open_model(architecture_model("gemma2").directory);
  const at::Tensor ids = random_ids(3, 8);
  const std::vector<float> squares = mean_squares_of_head(model, ids, at::kCPU);
  Decoder decoder(model, {});
  at::Tensor hidden = decoder.embed(ids);
  for (int layer = 0; layer < model.config.num_layers; ++layer) hidden = decoder.layer(layer, hidden);
  const at::Tensor read = decoder.final_normed(hidden).reshape({24, -1});
  ASSERT_EQ(squares.size(), static_cast<size_t>(model.config.hidden_size));
  for (int64_t c = 0; c < read.size(1); ++c) {
    double sum = 0;
    for (int64_t t = 0; t < 24; ++t) sum += std::pow(read[t][c].item<double>(), 2);
    EXPECT_NEAR(squares[static_cast<size_t>(c)], sum / 24, 1e-4 * sum / 24);
  }
}

INSTANTIATE_TEST_SUITE_P(Architectures, StudentOf, testing::ValuesIn(architecture_models()),
                         [](const auto& name) { return test_name(name.param); });

}  // namespace
}  // namespace strata
