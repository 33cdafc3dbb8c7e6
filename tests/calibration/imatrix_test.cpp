#include "strata/calibration/imatrix.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <functional>
#include <map>

#include "strata/core/error.h"
#include "strata/core/file.h"
#include "strata/forward/decoder.h"
#include "strata/gguf/file.h"
#include "tests/support/files.h"
#include "tests/support/temporary_directory.h"
#include "tests/support/tiny_model.h"

namespace strata {
namespace {

class ImatrixTest : public testing::Test {
 protected:
  void SetUp() override {
    model_ = make_model("model", {});
    calibration_ = make_calibration(at::arange(60, at::kLong).view({5, 12}), "some/text.txt");
  }

  Model make_model(const std::string& name, const TinyModel& tiny) const {
    write_tiny_model(directory_ / name, tiny);
    return open_model(directory_ / name);
  }

  // The message of the Error that reading this file for the model throws.
  std::string error_of(const std::filesystem::path& path, const Model& model) const {
    try {
      read_imatrix(path, model);
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  }

  TemporaryDirectory directory_;
  Model model_;
  Calibration calibration_;
};

TEST_F(ImatrixTest, HoldsTheSumsOfSquaredInputsAndSurvivesTheFile) {
  const Imatrix measured = measure_imatrix(model_, calibration_, at::kCPU);
  write_imatrix(directory_ / "imatrix.gguf", measured);
  const Imatrix read = read_imatrix(directory_ / "imatrix.gguf", model_);
  EXPECT_EQ(read.fingerprint(), measured.fingerprint());
  EXPECT_EQ(read.datasets, std::vector<std::string>{"text.txt"});
  EXPECT_EQ(read.chunk_count, 5);
  EXPECT_EQ(read.chunk_size, 12);

  Decoder decoder(model_, {});
  std::map<std::string, at::Tensor> squares;
  decoder.observe([&](int layer, std::string_view what, const at::Tensor& value) {
    if (what != "layer")
      squares[model_.layer_tensor(layer, std::string(what) + ".weight")] =
          value.reshape({60, value.size(-1)}).to(at::kDouble).square().sum(0);
  });
  decoder.forward(calibration_.ids);
  for (const Module& module : model_.modules) {
    EXPECT_EQ(read.entries.at(module.tensor).counts, std::vector<double>{60});
    const std::vector<float> means = read.mean_squares(module.tensor);
    ASSERT_EQ(static_cast<int64_t>(means.size()), module.cols);
    const at::Tensor expected = squares.at(module.tensor) / 60;
    EXPECT_TRUE(at::allclose(at::tensor(means, at::kDouble), expected, 1e-4)) << module.tensor;
  }
}

TEST_F(ImatrixTest, GoesOnFromItsCache) {
  const auto cache = directory_ / "cache";
  const Imatrix measured = measure_imatrix(model_, calibration_, at::kCPU, cache);
  const auto path = std::filesystem::directory_iterator(cache)->path();
  const std::string text = read_text(path);
  write_text(path, text.substr(0, text.rfind("{\"key\"")));  // without the last layer
  EXPECT_EQ(measure_imatrix(model_, calibration_, at::kCPU, cache).fingerprint(), measured.fingerprint());
  EXPECT_GT(read_text(path).size(), text.size() - 2);
}

TEST_F(ImatrixTest, TheGgufPackageReadsLlamaCppsKeysAndTensors) {
  const std::string python = python_with("gguf");
  if (python.empty()) GTEST_SKIP() << "Python's gguf package is not installed";
  write_imatrix(directory_ / "imatrix.gguf", measure_imatrix(model_, calibration_, at::kCPU));
  const std::string command = python + " '" STRATA_SOURCE_DIR "/tests/gguf/read_gguf.py' '" +
                              (directory_ / "imatrix.gguf").string() + "' > '" +
                              (directory_ / "out").string() + "' 2>&1";
  ASSERT_EQ(std::system(command.c_str()), 0);
  const std::string output = read_text(directory_ / "out");
  for (const char* line :
       {"key general.type ['STRING'] imatrix", "key imatrix.datasets ['ARRAY', 'STRING'] ['text.txt']",
        "key imatrix.chunk_count ['UINT32'] 5", "key imatrix.chunk_size ['UINT32'] 12",
        "tensor blk.0.attn_q.weight.in_sum2 [32] F32 128", "tensor blk.0.attn_q.weight.counts [1] F32 4",
        "tensor blk.1.ffn_down.weight.in_sum2 [48] F32 192"})
    EXPECT_NE(output.find(line), std::string::npos) << line << "\n" << output;
}

TEST_F(ImatrixTest, OfAnotherModelIsRefusedByName) {
  const auto path = directory_ / "imatrix.gguf";
  write_imatrix(path, measure_imatrix(model_, calibration_, at::kCPU));
  TinyModel deeper, wider, shallower;
  deeper.layers = 3;
  wider.intermediate = 64;
  shallower.layers = 1;
  EXPECT_NE(error_of(path, make_model("deeper", deeper)).find("has no blk.2.attn_q.weight.in_sum2"),
            std::string::npos);
  EXPECT_NE(error_of(path, make_model("wider", wider)).find("blk.0.ffn_down.weight.in_sum2 has 192 bytes"),
            std::string::npos);
  EXPECT_NE(error_of(path, make_model("shallower", shallower)).find("has blk.1."), std::string::npos);

  Imatrix wrong = measure_imatrix(model_, calibration_, at::kCPU);
  wrong.entries.begin()->second.squares[3] = -1;
  write_imatrix(path, wrong);
  EXPECT_NE(error_of(path, model_).find("the value -1"), std::string::npos);
  wrong.entries.begin()->second.squares[3] = 1;
  wrong.entries.begin()->second.counts = {0};
  write_imatrix(path, wrong);
  EXPECT_NE(error_of(path, model_).find("saw no token"), std::string::npos);

  GgufWriter(path, {{"general.type", gguf_string("model")}}, {}).commit();
  EXPECT_NE(error_of(path, model_).find("no imatrix: its general.type is \"model\""), std::string::npos);
}

// Two layers of an architecture that cannot be run, with a router and three experts of [32, 64].
class ImatrixOfExperts : public ImatrixTest {
 protected:
  void SetUp() override {
    std::vector<GgufTensor> tensors;
    for (const std::string layer : {"blk.0.", "blk.1."}) {
      tensors.push_back({layer + "attn_q.weight", {64, 64}, GgufType::F32, 0});
      tensors.push_back({layer + "ffn_gate_inp.weight", {32, 64}, GgufType::F32, 0});
      tensors.push_back({layer + "ffn_up_exps.weight", {3, 32, 64}, GgufType::F32, 0});
    }
    write(directory_ / "model.gguf", "model", tensors, [](size_t, size_t) { return 0.5F; });
    model_ = open_model(directory_ / "model.gguf");
  }

  // Value i of tensor t is value(t, i).
  static void write(const std::filesystem::path& path, const std::string& type,
                    const std::vector<GgufTensor>& tensors,
                    const std::function<float(size_t tensor, size_t i)>& value) {
    GgufWriter writer(
        path, {{"general.type", gguf_string(type)}, {"general.architecture", gguf_string("peculiar")}},
        tensors);
    for (size_t t = 0; t < tensors.size(); ++t) {
      std::vector<float> values(tensors[t].bytes() / sizeof(float));
      for (size_t i = 0; i < values.size(); ++i) values[i] = value(t, i);
      writer.write(reinterpret_cast<const std::byte*>(values.data()), tensors[t].bytes());
    }
    writer.commit();
  }

  // llama.cpp's sums and counts, with so many experts.
  std::filesystem::path write_sums(int64_t experts) const {
    std::vector<GgufTensor> tensors;
    const auto add = [&](const std::string& name, int64_t matrices) {
      tensors.push_back({name + ".in_sum2", {matrices, 64}, GgufType::F32, 0});
      tensors.push_back({name + ".counts", {matrices, 1}, GgufType::F32, 0});
    };
    for (const std::string layer : {"blk.0.", "blk.1."}) {
      add(layer + "attn_q.weight", 1);
      add(layer + "ffn_gate_inp.weight", 1);
      add(layer + "ffn_up_exps.weight", experts);
    }
    // Expert e has seen 40 e tokens, whose squares are e (column + 1).
    write(directory_ / "imatrix.gguf", "imatrix", tensors, [&](size_t t, size_t i) {
      const bool single = t % 6 < 4, counts = t % 2 == 1;
      const auto expert = static_cast<double>(counts ? i : i / 64);
      const double tokens = single ? 20 : 40 * expert;
      return static_cast<float>(counts ? tokens
                                       : tokens * (single ? 1 : expert) * static_cast<double>(i % 64 + 1));
    });
    return directory_ / "imatrix.gguf";
  }
};

TEST_F(ImatrixOfExperts, IsReadByTheNamesOfTheFileExpertByExpert) {
  const Imatrix read = read_imatrix(write_sums(3), model_);
  EXPECT_EQ(read.entries.size(), 4U);  // without the routers
  EXPECT_EQ(read.entries.at("blk.1.ffn_up_exps.weight").counts, (std::vector<double>{0, 40, 80}));
  for (const Module& module : model_.modules) {
    const std::vector<float> means = read.mean_squares(module.tensor);
    ASSERT_EQ(means.size(), 64U * static_cast<size_t>(module.matrices())) << module.tensor;
    // The first expert, which has seen nothing, takes the mean of all.
    const double all = (40 * 1.0 + 80 * 2.0) / 120;
    for (size_t i = 0; i < means.size(); ++i) {
      const double of_expert = module.experts == 0 ? 1 : i < 64 ? all : i / 64 < 2 ? 1 : 2;
      EXPECT_FLOAT_EQ(means[i], static_cast<float>(of_expert * static_cast<double>(i % 64 + 1)));
    }
  }
  write_imatrix(directory_ / "again.gguf", read);
  EXPECT_EQ(read_imatrix(directory_ / "again.gguf", model_).fingerprint(), read.fingerprint());
}

TEST_F(ImatrixOfExperts, OfAnotherNumberOfExpertsIsRefused) {
  EXPECT_NE(
      error_of(write_sums(5), model_)
          .find("blk.0.ffn_up_exps.weight.in_sum2 has 1280 bytes, but blk.0.ffn_up_exps.weight needs 192"),
      std::string::npos);
}

}  // namespace
}  // namespace strata
