// Experts in every format: one matrix each in directories, stacks in GGUF and MLX.

#include <gtest/gtest.h>

#include <algorithm>
#include <regex>

#include "strata/checkpoint/checkpoint.h"
#include "strata/checkpoint/safetensors_writer.h"
#include "strata/core/json.h"
#include "strata/export/formats.h"
#include "strata/export/module_patterns.h"
#include "strata/gguf/file.h"
#include "tests/support/architecture_models.h"
#include "tests/support/error_of.h"
#include "tests/support/temporary_directory.h"

namespace strata {
namespace {

struct StoredExperts {
  std::string format, scheme;
  std::string tensor;  // of one of the model qwen3-moe
  std::vector<int64_t> shape;
};

class ExpertFormats : public testing::TestWithParam<StoredExperts> {};

// Every matrix is what quantizing it for itself leaves, whatever the model came from.
TEST_P(ExpertFormats, HoldEveryExpertsMatrixAsQuantizedForItself) {
  const TemporaryDirectory directory;
  for (const std::string name : {"qwen3-moe", "mixtral", "granitemoe", "gpt-oss"}) {
    const Model source = open_model(architecture_model(name).directory);
    const ExportFormat& format = format_for(directory / ("out" + GetParam().format), GetParam().format);
    ExportPlan plan;
    plan.embedding = plan.head = parse_scheme("F16");
    plan.quantizer.name = "rtn";
    for (const Module& module : source.modules) plan.schemes[module.tensor] = parse_scheme(GetParam().scheme);
    const std::filesystem::path target = directory / (name + GetParam().format + format.ending);
    const uint64_t size = format.file_size(source, plan);
    format.write(source, plan, target);
    if (!format.ending.empty()) {
      EXPECT_EQ(size, std::filesystem::file_size(target));
    } else if (name == "qwen3-moe") {
      EXPECT_EQ(open_safetensors(target)->info(GetParam().tensor).shape, GetParam().shape);
    }

    const Model written = open_model(target);
    for (const Module& module : source.modules) {
      std::vector<float> expected = source.checkpoint->read(module.tensor);
      QuantizerOptions rtn;
      rtn.name = "rtn";
      rtn.matrices = module.matrices();
      fake_quantize({expected.data(), module.rows, module.cols}, parse_scheme(GetParam().scheme), rtn);
      const std::vector<float> found = written.checkpoint->read(module.tensor);
      ASSERT_EQ(found.size(), expected.size());
      float most = 0;
      for (size_t i = 0; i < found.size(); ++i) most = std::max(most, std::abs(found[i] - expected[i]));
      EXPECT_LT(most, 2e-3f) << module.tensor;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    Formats, ExpertFormats,
    testing::Values(
        StoredExperts{"gguf", "Q4_0", "", {}},
        StoredExperts{
            "compressed-tensors", "w4g32s", "model.layers.1.mlp.experts.3.up_proj.weight_packed", {32, 8}},
        StoredExperts{"gptq", "w4g32z", "model.layers.1.mlp.experts.3.up_proj.qweight", {8, 32}},
        StoredExperts{"mlx", "w4g32", "model.layers.1.mlp.switch_mlp.up_proj.scales", {6, 32, 2}},
        StoredExperts{"strata", "w3g32m", "model.layers.1.mlp.experts.3.up_proj.scale_ranges", {1, 2}},
        StoredExperts{"hf", "w4g32", "model.layers.1.mlp.experts.3.up_proj.weight", {32, 64}}),
    [](const auto& format) {
      return test_name(format.param.format == "compressed-tensors" ? "compressed" : format.param.format);
    });

ExportPlan as_they_are() {
  ExportPlan plan;
  plan.embedding = plan.head = parse_scheme("F32");
  return plan;
}

// A directory with all experts' matrices in one tensor is written as it came.
TEST(FusedExperts, LeaveAsTheyCame) {
  const TemporaryDirectory directory;
  for (const std::string name : {"granitemoe", "gpt-oss"}) {
    const std::filesystem::path source = architecture_model(name).directory;
    export_hf(open_model(source), as_they_are(), directory / name);
    const auto came = open_safetensors(source), left = open_safetensors(directory / name);
    EXPECT_EQ(came->tensors().size(), left->tensors().size());
    for (const TensorInfo& tensor : came->tensors()) {
      EXPECT_EQ(left->info(tensor.name).shape, tensor.shape) << tensor.name;
      EXPECT_EQ(left->read(tensor.name), came->read(tensor.name)) << tensor.name;
    }
  }
  // MXFP4 leaves in the type that holds it.
  const Model packed = open_model(architecture_model("gpt-oss-mxfp4").directory);
  export_hf(packed, as_they_are(), directory / "unpacked");
  const TensorInfo info =
      open_safetensors(directory / "unpacked")->info("model.layers.1.mlp.experts.gate_up_proj");
  EXPECT_EQ(info.shape, (std::vector<int64_t>{4, 64, 64}));
  EXPECT_EQ(info.type, "BF16");
  EXPECT_FALSE(read_json(directory / "unpacked/config.json").contains("quantization_config"));
  const Model again = open_model(directory / "unpacked");
  for (const Module& module : packed.modules)
    EXPECT_EQ(again.checkpoint->read(module.tensor), packed.checkpoint->read(module.tensor)) << module.tensor;
}

TEST(FusedExperts, InMxfp4BecomeBlocksOfTheSameValues) {
  const TemporaryDirectory directory;
  const Model packed = open_model(architecture_model("gpt-oss-mxfp4").directory);
  ExportPlan plan = as_they_are();
  for (const Module& module : packed.modules)
    if (module.experts > 0) plan.schemes[module.tensor] = parse_scheme("MXFP4");
  export_gguf(packed, plan, directory / "x.gguf");
  EXPECT_EQ(GgufFile(directory / "x.gguf").find_tensor("blk.1.ffn_down_exps.weight")->type, GgufType::MXFP4);
  const Model written = open_model(directory / "x.gguf");
  for (const Module& module : packed.modules)
    EXPECT_EQ(written.checkpoint->read(module.tensor), packed.checkpoint->read(module.tensor))
        << module.tensor;
}

// Models with their experts in tensors of three dimensions, as transformers has them and Qwen 3.5 is
// published, and without the last of these.
class FusedExpertsOf : public testing::TestWithParam<std::string> {};

TEST_P(FusedExpertsOf, AreReadAndWritten) {
  const TemporaryDirectory directory;
  const Model apart = open_model(architecture_model(GetParam()).directory);
  const int64_t experts = apart.config.experts.count, width = apart.config.experts.width,
                hidden = apart.config.hidden_size;
  std::vector<PlannedTensor> planned;
  std::vector<std::vector<float>> values;
  for (const TensorInfo& tensor : apart.checkpoint->tensors()) {
    if (tensor.name.find(".experts.") != std::string::npos) continue;
    planned.push_back({tensor.name, tensor.shape, DType::F16});
    values.push_back(apart.checkpoint->read(tensor.name));
  }
  for (const std::string layer : {"model.layers.0.mlp.experts.", "model.layers.1.mlp.experts."}) {
    planned.push_back({layer + "gate_up_proj", {experts, 2 * width, hidden}, DType::F16});
    values.emplace_back();
    for (int64_t expert = 0; expert < experts; ++expert)
      for (const char* half : {".gate_proj.weight", ".up_proj.weight"}) {
        const std::vector<float> own = apart.checkpoint->read(layer + std::to_string(expert) + half);
        values.back().insert(values.back().end(), own.begin(), own.end());
      }
    planned.push_back({layer + "down_proj", {experts, hidden, width}, DType::F16});
    values.push_back(apart.checkpoint->read(layer + "down_proj.weight"));
  }
  const auto open_first = [&](const std::string& name, size_t tensors) {
    std::filesystem::create_directory(directory / name);
    std::filesystem::copy(apart.path / "config.json", directory / name);
    SafetensorsWriter writer(directory / name,
                             {planned.begin(), planned.begin() + static_cast<int64_t>(tensors)});
    for (size_t i = 0; i < tensors; ++i)
      writer.write(values[i].data(), static_cast<int64_t>(values[i].size()));
    writer.finish();
    return open_model(directory / name);
  };
  const Model fused = open_first("fused", planned.size());
  ASSERT_EQ(fused.modules.size(), apart.modules.size());
  for (const Module& module : apart.modules)
    EXPECT_EQ(fused.checkpoint->read(module.tensor), apart.checkpoint->read(module.tensor)) << module.tensor;
  std::filesystem::copy(apart.path / "tokenizer.json", directory / "fused");
  export_hf(fused, as_they_are(), directory / "again");
  EXPECT_EQ(open_safetensors(directory / "again")->read(planned.back().name), values.back());

  EXPECT_NE(error_of([&] {
              open_first("incomplete", planned.size() - 1);
            }).find("has no tensor model.layers.1.mlp.experts.0.down_proj.weight"),
            std::string::npos);
}

INSTANTIATE_TEST_SUITE_P(, FusedExpertsOf, testing::Values("qwen3-moe", "qwen3-5-moe"),
                         [](const auto& name) { return test_name(name.param); });

// Loaders look for every linear module by name: routers are said to be stored as they were.
TEST(ExpertRouters, AreNamedAsNotQuantized) {
  const TemporaryDirectory directory;
  const Model source = open_model(architecture_model("qwen3-moe").directory);
  const auto is_named = [](const Json& patterns, const std::string& prefix, const std::string& module) {
    return std::any_of(patterns.begin(), patterns.end(), [&](const Json& pattern) {
      const auto text = pattern.get<std::string>();
      return text.rfind(prefix, 0) == 0 && std::regex_search(module, std::regex(text.substr(prefix.size())));
    });
  };
  for (const auto& [name, scheme] : {std::pair{"compressed-tensors", "w4g32s"}, {"gptq", "w4g32z"}}) {
    ExportPlan plan;
    plan.embedding = plan.head = parse_scheme("F16");
    for (const Module& module : source.modules) plan.schemes[module.tensor] = parse_scheme(scheme);
    const std::filesystem::path target = directory / name;
    format_for(target, name).write(source, plan, target);
    const Json section = read_json(target / "config.json").at("quantization_config");
    Json patterns = Json::array();
    if (section.contains("ignore")) patterns = section["ignore"];
    if (section.contains("dynamic"))
      for (const auto& [pattern, rule] : section["dynamic"].items()) patterns.push_back(pattern);
    const std::string prefix = section.contains("dynamic") ? "-:" : "re:";
    EXPECT_TRUE(is_named(patterns, prefix, "model.layers.1.mlp.gate")) << patterns.dump();
    EXPECT_FALSE(is_named(patterns, prefix, "model.layers.1.mlp.experts.0.gate_proj")) << patterns.dump();
  }
}

TEST(ModulePatterns, OfAllExpertsAreOne) {
  std::vector<LayerModule> modules;
  for (const char* name : {"gate_proj", "up_proj"})
    for (int expert = 0; expert < 3; ++expert)
      modules.push_back({0, "mlp.experts." + std::to_string(expert) + "." + name});
  EXPECT_EQ(module_patterns(modules, 2, false, 3),
            (std::vector<std::string>{".*layers\\.0\\.mlp\\.experts\\.[0-9]+\\.(gate|up)_proj$"}));
  modules.erase(modules.begin() + 1);
  EXPECT_EQ(module_patterns(modules, 2, false, 3).size(), 3u);  // gate of 0 and of 2, up of all
}

}  // namespace
}  // namespace strata
