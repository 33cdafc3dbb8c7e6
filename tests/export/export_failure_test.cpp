#include <sys/resource.h>

#include <csignal>
#include <fstream>

#include "strata/checkpoint/safetensors_writer.h"
#include "strata/core/error.h"
#include "strata/core/file.h"
#include "strata/core/interrupt.h"
#include "strata/core/threads.h"
#include "strata/export/formats.h"
#include "strata/gguf/file.h"
#include "strata/model/config_json.h"
#include "tests/export/export_test_model.h"

namespace strata {
namespace {

namespace fs = std::filesystem;
using ::testing::ExitedWithCode;

// Every failure must leave the directory as it was.
class ExportFailureTest : public ExportTest {
 protected:
  // The plan with schemes that the format can hold for the model's matrices.
  static ExportPlan suited(ExportPlan plan, const ExportFormat& format, const Model& model) {
    if (format.refusal(plan.embedding, 32, 32).empty()) return plan;
    const bool mlx = format.refusal(parse_scheme("w4g32"), 32, 32).empty();
    for (const Module& module : model.modules)
      plan.schemes[module.tensor] = parse_scheme(mlx ? "w4g32" : "w4g32z");
    plan.embedding = plan.head = parse_scheme("F32");
    return plan;
  }

  void expect_failure(const Model& model, const ExportPlan& plan, const std::string& name,
                      const std::vector<std::string>& words) {
    const std::vector<std::string> before = written();
    for (const ExportFormat& format : export_formats()) {
      const ExportPlan own = suited(plan, format, model);
      const std::string message = error_of([&] { format.write(model, own, target(name)); });
      for (const std::string& word : words)
        EXPECT_NE(message.find(word), std::string::npos) << format.name << ": " << message;
      EXPECT_EQ(message.find('\n'), std::string::npos);
      EXPECT_EQ(written(), before) << format.name;
    }
  }
};

TEST_F(ExportFailureTest, GgufRefusesAffineSchemes) {
  const Model model = make_model("llama");
  ExportPlan plan = uniform_plan(model, "Q8_0", "Q8_0");
  plan.schemes[model.modules[5].tensor] = parse_scheme("w3g64");
  const std::string message = error_of([&] { export_gguf(model, plan, target("out.gguf")); });
  EXPECT_NE(message.find(model.modules[5].tensor + " is planned as w3g64"), std::string::npos) << message;
  EXPECT_NE(message.find("Q4_K"), std::string::npos) << message;
  EXPECT_TRUE(written().empty());
  plan = uniform_plan(model, "Q8_0", "w4g64");
  EXPECT_NE(error_of([&] { gguf_file_size(model, plan); }).find(model.embedding), std::string::npos);
}

TEST_F(ExportFailureTest, APlanForAnotherModelIsRefused) {
  const Model model = make_model("llama");
  ExportPlan plan = uniform_plan(model, "Q8_0", "Q8_0");
  plan.schemes["model.layers.7.mlp.up_proj.weight"] = parse_scheme("Q8_0");
  expect_failure(model, plan, "out", {"model.layers.7.mlp.up_proj.weight", "Q8_0", "no such matrix"});
  EXPECT_THROW(gguf_file_size(model, plan), Error);
}

TEST_F(ExportFailureTest, ANormIsNoMatrix) {
  const Model model = make_model("llama");
  ExportPlan plan = uniform_plan(model, "Q8_0", "Q8_0");
  plan.schemes["model.layers.0.input_layernorm.weight"] = parse_scheme("Q8_0");
  expect_failure(model, plan, "out", {"model.layers.0.input_layernorm.weight"});
}

TEST_F(ExportFailureTest, ATargetThatCannotBe) {
  const Model model = make_model("llama");
  expect_failure(model, uniform_plan(model, "Q8_0", "Q8_0"), "missing/out", {"missing", "does not exist"});
  const ExportPlan plan = uniform_plan(model, "Q8_0", "Q8_0");
  EXPECT_NE(error_of([&] { export_gguf(model, plan, target("model")); }).find("the model itself"),
            std::string::npos);
  EXPECT_NE(error_of([&] { export_hf(model, plan, target("model")); }).find("the model itself"),
            std::string::npos);
  EXPECT_TRUE(written().empty());
}

TEST_F(ExportFailureTest, AFolderIsInTheWay) {
  const Model model = make_model("llama");
  const ExportPlan plan = uniform_plan(model, "Q8_0", "Q8_0");
  fs::create_directory(target("notes"));
  std::ofstream(target("notes") / "todo.txt") << "not a model";
  expect_failure(model, plan, "notes", {"notes", "directory"});
  EXPECT_EQ(read_text(target("notes") / "todo.txt"), "not a model");
}

TEST_F(ExportFailureTest, AGgufIsNotWrittenOverItself) {
  const Model model = make_model("llama");
  export_gguf(model, uniform_plan(model, "Q8_0", "Q8_0"), target("out.gguf"));
  const Model input = open_model(target("out.gguf"));
  const auto size = fs::file_size(target("out.gguf"));
  const std::string message =
      error_of([&] { export_gguf(input, uniform_plan(input, "Q4_0", "Q8_0"), target("out.gguf")); });
  EXPECT_NE(message.find("the model itself"), std::string::npos) << message;
  EXPECT_EQ(fs::file_size(target("out.gguf")), size);
}

TEST_F(ExportFailureTest, WeightsTooLargeForTheTypeAreNamed) {
  make_model("llama");
  Json config = small_config("llama");
  const fs::path directory = target("model");
  {
    const std::vector<ExpectedTensor> expected = expected_tensors(read_config(directory / "config.json"));
    std::vector<PlannedTensor> planned;
    for (const ExpectedTensor& tensor : expected) planned.push_back({tensor.name, tensor.shape, DType::BF16});
    fs::remove(directory / "model.safetensors");
    SafetensorsWriter writer(directory, planned);
    for (const ExpectedTensor& tensor : expected) {
      int64_t count = 1;
      for (const int64_t size : tensor.shape) count *= size;
      writer.write(std::vector<float>(static_cast<size_t>(count), 1e6f).data(), count);
    }
    writer.finish();
  }
  const Model model = open_model(directory);
  const std::string message =
      error_of([&] { export_gguf(model, uniform_plan(model, "F16", "BF16"), target("out.gguf")); });
  EXPECT_NE(message.find("model.layers.0.self_attn.q_proj.weight"), std::string::npos) << message;
  EXPECT_NE(message.find("F16"), std::string::npos) << message;
  EXPECT_TRUE(written().empty());
}

// xllamacpp 2026.10 refuses to load such files.
TEST_F(ExportFailureTest, WhatLlamaCppHasNoPlaceForIsRefused) {
  const Json llama3 = {{"rope_type", "llama3"},
                       {"factor", 8.0},
                       {"low_freq_factor", 1.0},
                       {"high_freq_factor", 4.0},
                       {"original_max_position_embeddings", 256}};
  const std::vector<std::tuple<std::string, Json, std::string>> cases = {
      {"qwen2", {{"head_dim", 16}, {"rope_scaling", llama3}}, "llama3"},
      {"qwen2", {{"head_dim", 32}}, "4 heads of 32"},
      {"qwen3", {{"attention_bias", true}}, "o_proj"},
  };
  for (const auto& [architecture, changes, word] : cases) {
    const Model model = make_model(architecture, changes);
    const std::string message =
        error_of([&] { export_gguf(model, uniform_plan(model, "Q8_0", "Q8_0"), target("out.gguf")); });
    EXPECT_NE(message.find(architecture), std::string::npos) << message;
    EXPECT_NE(message.find(word), std::string::npos) << message;
    EXPECT_TRUE(written().empty());
  }
}

// In a process of its own, since the limit and the flag stay: exits with 0 if the export failed with a
// message that has this word and left nothing but what was there.
template <class Prepare, class Work, class Listing>
[[noreturn]] void fail_in_child(const Prepare& prepare, const Work& work, const Listing& listing,
                                const std::string& word) {
  set_thread_count(1);  // the parent's threads do not exist here
  const auto before = listing();
  prepare();
  const std::string message = error_of(work);
  const bool right = message.find(word) != std::string::npos && listing() == before;
  if (!right) std::fprintf(stderr, "message: %s\n", message.c_str());
  std::_Exit(right ? 0 : 1);
}

void limit_file_size() {
  std::signal(SIGXFSZ, SIG_IGN);
  const rlimit limit = {50000, 50000};
  setrlimit(RLIMIT_FSIZE, &limit);
}

void press_ctrl_c() {
  catch_interrupts();
  std::raise(SIGINT);
}

TEST_F(ExportFailureTest, AFullDiskOrCtrlCLeavesTheEarlierOutput) {
  ::testing::FLAGS_gtest_death_test_style = "fast";
  const Model model = make_model("llama");
  const auto listing = [&] { return written(); };
  for (const ExportFormat& format : export_formats()) {
    const ExportPlan plan = suited(uniform_plan(model, "Q8_0", "Q8_0"), format, model);
    const fs::path out = target("out-" + format.name + format.ending);
    const auto work = [&] { format.write(model, plan, out); };
    EXPECT_EXIT(fail_in_child(limit_file_size, work, listing, "cannot write"), ExitedWithCode(0), "");
    EXPECT_EXIT(fail_in_child(press_ctrl_c, work, listing, "interrupted"), ExitedWithCode(0), "");
    format.write(model, plan, out);  // from now on an earlier output is at stake
    EXPECT_EXIT(fail_in_child(limit_file_size, work, listing, "cannot write"), ExitedWithCode(0), "");
    EXPECT_NO_THROW(open_model(out));
  }
}

TEST(Formats, FollowTheEndingUnlessNamed) {
  EXPECT_EQ(format_for("a/model.gguf").name, "gguf");
  EXPECT_EQ(format_for("a/model").name, "hf");
  EXPECT_EQ(format_for("a/model-3.0/").name, "hf");
  EXPECT_EQ(format_for("a/model.gguf", "hf").name, "hf");
  EXPECT_THROW(format_for("a/model.onnx"), UsageError);
  EXPECT_THROW(format_for("a/model.gguf", "awq"), UsageError);
  EXPECT_NO_THROW(require_storable(format_for("x.gguf"), parse_scheme("Q4_K")));
  EXPECT_THROW(require_storable(format_for("x.gguf"), parse_scheme("w4g64")), UsageError);
  EXPECT_NO_THROW(require_storable(format_for("x"), parse_scheme("w4g64")));
  for (const ExportFormat& format : export_formats()) {
    EXPECT_FALSE(parse_schemes(format.default_schemes).empty());
    for (const Scheme& scheme : parse_schemes(format.default_schemes))
      EXPECT_NO_THROW(require_storable(format, scheme));
  }
}

}  // namespace
}  // namespace strata
