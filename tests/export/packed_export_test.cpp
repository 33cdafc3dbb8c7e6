// Directories in compressed-tensors, GPTQ and MLX form, taken apart bit by bit as their definitions say.
#include <cmath>
#include <map>

#include "strata/checkpoint/checkpoint.h"
#include "strata/core/bit_packing.h"
#include "strata/core/file.h"
#include "strata/core/json.h"
#include "strata/export/runtimes.h"
#include "strata/quantization/quantizer.h"
#include "tests/export/export_test_model.h"

namespace strata {
namespace {

namespace fs = std::filesystem;

// Bits [index * bits, (index + 1) * bits) of a stream of 32-bit words, one by one.
int code_at(const std::vector<uint32_t>& words, size_t first_word, size_t stride, int64_t index, int bits) {
  int code = 0;
  for (int b = 0; b < bits; ++b) {
    const size_t at = static_cast<size_t>(index * bits + b);
    code |= static_cast<int>(words[first_word + at / 32 * stride] >> at % 32 & 1) << b;
  }
  return code;
}

class PackedExportTest : public ExportTest {
 protected:
  // A model whose sizes suit every format; some groups of its first matrix have one sign only.
  Model sized_model(DType type = DType::F32) {
    return make_model(
        "llama", {{"hidden_size", 128}, {"intermediate_size", 256}, {"tie_word_embeddings", false}}, type);
  }

  void write(const std::string& format, const Model& model, const ExportPlan& plan) {
    const ExportFormat& f = format_for(target("out"), format);
    stored_.reset();  // what is being read is not replaced
    result_ = f.write(model, plan, target("out"));
    stored_ = open_safetensors(target("out"));
    uint64_t shards = 0;
    for (const auto& entry : fs::directory_iterator(target("out")))
      if (entry.path().extension() == ".safetensors") shards += entry.file_size();
    EXPECT_EQ(f.file_size(model, plan), shards);
  }

  std::vector<uint32_t> words(const std::string& name) const {
    const TensorInfo& info = stored_->info(name);
    std::vector<uint32_t> values(info.bytes / 4);
    stored_->read_bytes(info, 0, info.bytes, reinterpret_cast<std::byte*>(values.data()));
    return values;
  }

  // What opening the directory gives equals `expected`, and the error reported is the one against `original`.
  void expect_read_back(const Model& model, const std::map<std::string, std::vector<float>>& expected) {
    const Model back = open_model(target("out"));
    double error = 0;
    for (const Module& module : model.modules) {
      const std::vector<float> values = back.checkpoint->read(module.tensor);
      const std::vector<float> original = model.checkpoint->read(module.tensor);
      const auto found = expected.find(module.tensor);
      if (found == expected.end()) {
        EXPECT_EQ(values, original) << module.tensor;
        continue;
      }
      ASSERT_EQ(values.size(), found->second.size());
      for (size_t i = 0; i < values.size(); ++i) {
        ASSERT_NEAR(values[i], found->second[i], 1e-6 * std::abs(values[i]) + 1e-9)
            << module.tensor << " " << i;
        error += std::pow(static_cast<double>(values[i]) - original[i], 2);
      }
    }
    EXPECT_NEAR(result_.squared_error, error, 1e-4 * error);
    EXPECT_EQ(back.checkpoint->read(model.embedding), model.checkpoint->read(model.embedding));
  }

  ExportResult result_;
  std::unique_ptr<Checkpoint> stored_;
};

ExportPlan mixed(const Model& model, const std::vector<std::string>& schemes) {
  ExportPlan plan = uniform_plan(model, schemes.front(), "F32");
  for (size_t i = 0; i < model.modules.size(); ++i)
    plan.schemes[model.modules[i].tensor] = parse_scheme(schemes[i % schemes.size()]);
  return plan;
}

TEST_F(PackedExportTest, CompressedTensorsIsWhatItsDefinitionSays) {
  const Model model = sized_model();
  ExportPlan plan = mixed(model, {"w2g32z", "w3g64z", "w4g128s", "w5rowz", "w6g64s", "w7g32z", "w8rows"});
  plan.schemes.erase(model.modules.back().tensor);
  write("compressed-tensors", model, plan);
  std::map<std::string, std::vector<float>> expected;
  for (const auto& [tensor, scheme] : plan.schemes) {
    const std::string stem = tensor.substr(0, tensor.rfind('.'));
    const TensorInfo& info = model.checkpoint->info(tensor);
    const int64_t rows = info.rows(), cols = info.cols();
    const int bits = scheme.affine.bits;
    const int64_t group = scheme.affine.group_size == 0 ? cols : scheme.affine.group_size,
                  groups = cols / group;
    const auto codes = words(stem + ".weight_packed");
    EXPECT_EQ(stored_->info(stem + ".weight_packed").type, "I32");
    EXPECT_EQ(stored_->info(stem + ".weight_packed").shape,
              (std::vector<int64_t>{rows, (cols * bits + 31) / 32}));
    EXPECT_EQ(words(stem + ".weight_shape"), (std::vector<uint32_t>{uint32_t(rows), 0, uint32_t(cols), 0}));
    const std::vector<float> scales = stored_->read(stem + ".weight_scale");
    std::vector<uint32_t> zeros;
    EXPECT_EQ(stored_->contains(stem + ".weight_zero_point"), !scheme.affine.symmetric);
    if (!scheme.affine.symmetric) zeros = words(stem + ".weight_zero_point");
    std::vector<float>& values = expected[tensor];
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t k = 0; k < cols; ++k) {
        const int offset = 1 << (bits - 1);  // signed integers are stored with it added
        const int q = code_at(codes, static_cast<size_t>(r * ((cols * bits + 31) / 32)), 1, k, bits) - offset;
        const int zero = scheme.affine.symmetric ? 0
                                                 : code_at(zeros, static_cast<size_t>(k / group),
                                                           static_cast<size_t>(groups), r, bits) -
                                                       offset;
        values.push_back(static_cast<float>(q - zero) * scales[static_cast<size_t>(r * groups + k / group)]);
      }
    // The quantizer's own result: nothing was lost on the way.
    std::vector<float> quantized = model.checkpoint->read(tensor);
    fake_quantize({quantized.data(), rows, cols}, scheme, plan.quantizer);
    for (size_t i = 0; i < values.size(); ++i) ASSERT_FLOAT_EQ(values[i], quantized[i]) << tensor << " " << i;
  }
  expect_read_back(model, expected);
}

TEST_F(PackedExportTest, GptqIsWhatItsDefinitionSays) {
  const Model model = sized_model(DType::F16);
  for (const bool version_2 : {false, true}) {
    SCOPED_TRACE(version_2);
    const ExportPlan plan = mixed(model, {"w2g32z", "w3g64z", "w4g128s", "w8rowz", "w3g128s"});
    write(version_2 ? "gptq_v2" : "gptq", model, plan);
    std::map<std::string, std::vector<float>> expected;
    for (const auto& [tensor, scheme] : plan.schemes) {
      const std::string stem = tensor.substr(0, tensor.rfind('.'));
      const TensorInfo& info = model.checkpoint->info(tensor);
      const int64_t rows = info.rows(), cols = info.cols();
      const int bits = scheme.affine.bits;
      const auto codes = words(stem + ".qweight"), zeros = words(stem + ".qzeros"),
                 index = words(stem + ".g_idx");
      const std::vector<float> scales = stored_->read(stem + ".scales");
      std::vector<float>& values = expected[tensor];
      for (int64_t r = 0; r < rows; ++r)
        for (int64_t k = 0; k < cols; ++k) {
          const auto group = static_cast<int64_t>(index[static_cast<size_t>(k)]);
          const int q = code_at(codes, static_cast<size_t>(r), static_cast<size_t>(rows), k, bits);
          const int zero = code_at(zeros, static_cast<size_t>(group * rows * bits / 32), 1, r, bits);
          values.push_back(static_cast<float>(q - zero - (version_2 ? 0 : 1)) *
                           scales[static_cast<size_t>(group * rows + r)]);
        }
    }
    expect_read_back(model, expected);
    const Json config = read_json(target("out") / "config.json")["quantization_config"];
    EXPECT_EQ(config["checkpoint_format"], version_2 ? "gptq_v2" : "gptq");
  }
}

// Version 1 cannot say that a zero point is 0: readers would take it for 2^b.
TEST_F(PackedExportTest, GptqVersion1HasNoZeroPointZero) {
  Model model = sized_model();
  class Positive final : public Checkpoint {
   public:
    explicit Positive(std::shared_ptr<const Checkpoint> from) : from_(std::move(from)) {}
    const std::vector<TensorInfo>& tensors() const override { return from_->tensors(); }
    const fs::path& path() const override { return from_->path(); }
    void read_rows(const TensorInfo& tensor, int64_t first, int64_t count, float* target) const override {
      from_->read_rows(tensor, first, count, target);
      for (int64_t i = 0; i < count * tensor.cols(); ++i) target[i] = std::abs(target[i]);
    }
    std::shared_ptr<const Checkpoint> from_;
  };
  model.checkpoint = std::make_shared<Positive>(model.checkpoint);
  const ExportPlan plan = uniform_plan(model, "w4g32z", "F32");
  write("gptq", model, plan);
  const std::string& tensor = model.modules[0].tensor;
  for (const uint32_t word : words(tensor.substr(0, tensor.rfind('.')) + ".qzeros")) EXPECT_EQ(word, 0u);
  const std::vector<float> original = model.checkpoint->read(tensor);
  const std::vector<float> back = open_model(target("out")).checkpoint->read(tensor);
  for (size_t i = 0; i < back.size(); ++i) EXPECT_NEAR(back[i], original[i], 0.1) << i;  // not 15 codes away
}

TEST_F(PackedExportTest, MlxIsWhatItsDefinitionSays) {
  const Model model = sized_model(DType::BF16);
  ExportPlan plan = mixed(model, {"w2g32", "w3g64", "w4g128", "w5g32", "w6g64", "w8g128"});
  write("mlx", model, plan);
  std::map<std::string, std::vector<float>> expected;
  for (const auto& [tensor, scheme] : plan.schemes) {
    const std::string stem = tensor.substr(0, tensor.rfind('.'));
    const TensorInfo& info = model.checkpoint->info(tensor);
    const int bits = scheme.affine.bits;
    const int64_t cols = info.cols(), group = scheme.affine.group_size;
    EXPECT_EQ(stored_->info(tensor).type, "U32");
    const auto codes = words(tensor);
    const std::vector<float> scales = stored_->read(stem + ".scales"),
                             biases = stored_->read(stem + ".biases");
    std::vector<float>& values = expected[tensor];
    for (int64_t i = 0; i < info.rows() * cols; ++i) {
      const int q = code_at(codes, static_cast<size_t>(i / cols * cols * bits / 32), 1, i % cols, bits);
      values.push_back(scales[static_cast<size_t>(i / group)] * static_cast<float>(q) +
                       biases[static_cast<size_t>(i / group)]);
    }
  }
  expect_read_back(model, expected);
  const Json config = read_json(target("out") / "config.json");
  EXPECT_EQ(config["quantization"], config["quantization_config"]);
  EXPECT_EQ(config["quantization"]["model.layers.0.self_attn.k_proj"],
            (Json{{"group_size", 64}, {"bits", 3}}));
}

// Large enough for several pieces of rows, and for embedding and head to be packed.
TEST_F(PackedExportTest, PiecesOfRowsFitTogether) {
  const Model model =
      make_model("llama", {{"num_hidden_layers", 1}, {"intermediate_size", 64}, {"vocab_size", 70016}});
  ExportPlan plan = uniform_plan(model, "w4g64", "w3g32");
  write("mlx", model, plan);
  std::vector<float> expected = model.checkpoint->read(model.embedding);
  fake_quantize({expected.data(), 70016, 64}, plan.embedding, plan.quantizer);
  const std::vector<float> back = open_model(target("out")).checkpoint->read(model.embedding);
  for (size_t i = 0; i < back.size(); ++i) ASSERT_NEAR(back[i], expected[i], 2e-3) << i;
}

// Every width and group of the formats' own menus and every fixed figure: stored bits as the scheme counts
// them.
TEST_F(PackedExportTest, BitsAreThoseOfTheSchemes) {
  const Model model = sized_model();
  for (const char* format : {"compressed-tensors", "gptq", "gptq_v2", "mlx"}) {
    const Menu menu = storable_menu(format_for("out", format), nullptr, "", Ties::None, model);
    for (const Scheme& scheme : menu.schemes) {
      if (scheme.affine.group_size == 64) continue;
      const ExportPlan plan = uniform_plan(model, scheme.name(), "F32");
      write(format, model, plan);
      uint64_t bits = 0;
      for (const Module& module : model.modules) {
        bits += scheme.stored_bits(module.rows, module.cols);
        if (std::string(format) == "compressed-tensors") bits += 128;  // weight_shape
        if (std::string(format).rfind("gptq", 0) == 0) {
          bits += 32 * static_cast<uint64_t>(module.cols);  // g_idx
          const int64_t groups = module.cols / scheme.affine.group_size;
          if (scheme.affine.symmetric)
            bits += static_cast<uint64_t>(module.rows * groups * scheme.affine.bits);  // qzeros
        }
      }
      EXPECT_EQ(result_.weight_bits, bits) << format << " " << scheme.name();
    }
  }
}

TEST_F(PackedExportTest, ConfigsNameEveryModuleOnce) {
  const Model model = sized_model();
  ExportPlan plan = mixed(model, {"w3g64s"});
  for (const Role role : {Role::Q, Role::K, Role::V})
    plan.schemes[model.module(1, role).tensor] = parse_scheme("w4g64s");
  plan.schemes[model.module(0, Role::Down).tensor] = parse_scheme("w8g64s");
  plan.schemes.erase(model.module(1, Role::O).tensor);
  write("compressed-tensors", model, plan);
  const Json section = read_json(target("out") / "config.json")["quantization_config"];
  EXPECT_EQ(section["ignore"], Json::array({"lm_head", "re:.*layers\\.1\\.self_attn\\.o_proj$"}));
  std::map<int, Json> targets;
  for (const auto& [name, group] : section["config_groups"].items())
    targets[group["weights"]["num_bits"].get<int>()] = group["targets"];
  EXPECT_EQ(targets[4], Json::array({"re:.*layers\\.1\\.self_attn\\.(q|k|v)_proj$"}));
  EXPECT_EQ(targets[8], Json::array({"re:.*layers\\.0\\.mlp\\.down_proj$"}));
  EXPECT_EQ(targets[3], Json::array({"re:.*layers\\.0\\.self_attn\\.(q|k|v|o)_proj$",
                                     "re:.*layers\\.[0-9]+\\.mlp\\.(gate|up)_proj$",
                                     "re:.*layers\\.1\\.mlp\\.down_proj$"}));

  write("gptq", model, plan);
  const Json gptq = read_json(target("out") / "config.json")["quantization_config"];
  EXPECT_EQ(gptq["bits"], 3);
  EXPECT_EQ(gptq["dynamic"],
            (Json{{"+:.*layers\\.1\\.self_attn\\.(q|k|v|qkv)_proj$",
                   {{"bits", 4}, {"group_size", 64}, {"sym", true}}},
                  {"+:.*layers\\.0\\.mlp\\.down_proj$", {{"bits", 8}, {"group_size", 64}, {"sym", true}}},
                  {"-:.*layers\\.1\\.self_attn\\.o_proj$", Json::object()}}));
}

// A quantized directory is a model like others: it can leave as something else, without a trace of what it
// was.
TEST_F(PackedExportTest, AQuantizedDirectoryCanBeExportedAgain) {
  const Model model = sized_model();
  write("gptq", model, uniform_plan(model, "w4g64s", "F32"));
  const Model quantized = open_model(target("out"));
  EXPECT_EQ(quantized.checkpoint->info(model.modules[0].tensor).type, "w4g64s");
  ExportPlan keep;
  keep.embedding = keep.head = parse_scheme("F32");
  export_hf(quantized, keep, target("again"));
  EXPECT_FALSE(read_json(target("again") / "config.json").contains("quantization_config"));
  const Model again = open_model(target("again"));
  const std::vector<float> a = quantized.checkpoint->read(model.modules[3].tensor);
  const std::vector<float> b = again.checkpoint->read(model.modules[3].tensor);
  for (size_t i = 0; i < a.size(); ++i) EXPECT_NEAR(a[i], b[i], 1e-3 * std::abs(a[i])) << i;  // fp16
}

TEST_F(PackedExportTest, WhatAFormatCannotHoldIsRefused) {
  const Model model = sized_model();
  const auto refusal = [&](const std::string& format, const std::string& scheme,
                           const std::string& others = "F32") {
    return error_of(
        [&] { format_for("x", format).write(model, uniform_plan(model, scheme, others), target("out")); });
  };
  EXPECT_NE(refusal("compressed-tensors", "w4g64").find("ends in z or s"), std::string::npos);
  EXPECT_NE(refusal("compressed-tensors", "Q4_K").find("Q4_K"), std::string::npos);
  EXPECT_NE(refusal("compressed-tensors", "w4g64ma0").find("w4g64ma0"), std::string::npos);
  EXPECT_NE(refusal("gptq", "w5g64s").find("2, 3, 4 and 8 bits"), std::string::npos);
  EXPECT_NE(refusal("mlx", "w4g64s").find("without s or z"), std::string::npos);
  EXPECT_NE(refusal("mlx", "w7g64").find("not 7"), std::string::npos);
  EXPECT_NE(refusal("mlx", "w4row").find("not whole rows"), std::string::npos);
  EXPECT_TRUE(written().empty());
}

TEST_F(PackedExportTest, RuntimesNarrowTheMenu) {
  const Model model = make_model("llama", {{"hidden_size", 192}, {"intermediate_size", 256}});
  const auto names = [](const Menu& menu) {
    std::string text;
    for (const Scheme& scheme : menu.schemes) text += scheme.name() + " ";
    return text;
  };
  const ExportFormat& compressed = format_for("x", "compressed-tensors");
  Menu menu = storable_menu(compressed, nullptr, "", Ties::None, model);
  EXPECT_EQ(names(menu).find("g128"), std::string::npos);  // does not divide 192
  EXPECT_EQ(menu.ties, Ties::Fused);
  EXPECT_EQ(menu.notes.size(), 2u);
  menu = storable_menu(compressed, &find_runtime("vllm"), "w3g64z,w4g64z,w3g64s", Ties::Layer, model);
  EXPECT_EQ(names(menu), "w3g64s w4g64z ");
  EXPECT_EQ(menu.ties, Ties::Layer);
  menu = storable_menu(format_for("x", "gptq"), &find_runtime("vllm"), "", Ties::None, model);
  EXPECT_EQ(names(menu), "w4g64s w4g32s w8g64s w8g32s ");
  menu = storable_menu(format_for("x", "gptq"), &find_runtime("gptqmodel"), "w3g64z", Ties::None, model);
  EXPECT_EQ(names(menu), "w3g64s ");
  EXPECT_EQ(menu.ties, Ties::None);
  EXPECT_THROW(storable_menu(compressed, nullptr, "w4g128s", Ties::None, model), UsageError);
  EXPECT_THROW(storable_menu(compressed, nullptr, "w4g64", Ties::None, model), UsageError);
  EXPECT_THROW(storable_menu(format_for("x", "gptq"), &find_runtime("vllm"), "w3g64s", Ties::None, model),
               UsageError);
  EXPECT_THROW(find_runtime("onnx"), UsageError);
  EXPECT_EQ(format_for("x", "", &find_runtime("vllm")).name, "compressed-tensors");
  EXPECT_EQ(format_for("x", "", &find_runtime("gptqmodel")).name, "gptq_v2");
  menu = storable_menu(format_for("x", "gptq_v2"), &find_runtime("gptqmodel"), "w3g64z", Ties::None, model);
  EXPECT_EQ(names(menu), "w3g64z ");
  EXPECT_EQ(format_for("x.gguf", "", &find_runtime("llama.cpp")).name, "gguf");
  EXPECT_THROW(format_for("x", "", &find_runtime("llama.cpp")), UsageError);
  EXPECT_THROW(format_for("x", "mlx", &find_runtime("vllm")), UsageError);
}

TEST_F(PackedExportTest, PlansAreHeldToTheirRuntime) {
  const Model model = sized_model();
  ExportPlan plan = uniform_plan(model, "w3g64s", "F32");
  const ExportFormat& format = format_for("x", "compressed-tensors");
  EXPECT_NO_THROW(check_plan_loads(format, &find_runtime("vllm"), plan, model));
  plan.schemes[model.module(1, Role::K).tensor] = parse_scheme("w4g64s");
  EXPECT_NO_THROW(check_plan_loads(format, nullptr, plan, model));
  EXPECT_THROW(check_plan_loads(format, &find_runtime("vllm"), plan, model), UsageError);
  EXPECT_THROW(check_plan_loads(format_for("x", "mlx"), nullptr, plan, model), UsageError);
}

// Configs and parts that lie end in an Error.
TEST_F(PackedExportTest, DamagedDirectoriesAreRefused) {
  const Model model = sized_model();
  for (const char* name : {"compressed-tensors", "gptq", "mlx"}) {
    write(name, model, uniform_plan(model, std::string(name) == "mlx" ? "w4g64" : "w4g64z", "F32"));
    const fs::path path = target("out") / "config.json";
    const Json sound = read_json(path);
    const auto refused = [&](const Json& config) {
      write_json(path, config);
      try {
        open_model(target("out"));
      } catch (const Error&) {
        return true;
      }
      return false;
    };
    EXPECT_FALSE(refused(sound)) << name;
    for (const char* key : {"quantization_config", "quantization"}) {
      if (!sound.contains(key)) continue;
      for (const Json& value :
           {Json(3), Json("gptq"), Json::array(), Json::object(), Json{{"quant_method", "awq"}}}) {
        Json config = sound;
        config.erase("quantization");
        config["quantization_config"] = value;
        EXPECT_TRUE(refused(config)) << name << " " << value.dump();
      }
    }
    Json config = sound;
    Json& section = config["quantization_config"];
    if (std::string(name) == "compressed-tensors") {
      section["config_groups"]["group_0"]["weights"]["num_bits"] = 3;
      EXPECT_TRUE(refused(config));
      section["config_groups"]["group_0"]["weights"] = "x";
      EXPECT_TRUE(refused(config));
      section["config_groups"]["group_0"]["weights"] =
          sound["quantization_config"]["config_groups"]["group_0"]["weights"];
      section["config_groups"]["group_0"]["targets"] = Json::array({"re:(("});
      EXPECT_TRUE(refused(config));
      section["config_groups"]["group_0"]["targets"] = Json::array({"re:.*q_proj$"});
      EXPECT_TRUE(refused(config));
    } else {
      for (const Json& bits : {Json(8), Json(0), Json(-1), Json("4"), Json(1e9), Json(nullptr)}) {
        section["bits"] = bits;
        if (config.contains("quantization")) config["quantization"]["bits"] = bits;
        for (const Module& module : model.modules)
          section.erase(module.tensor.substr(0, module.tensor.rfind('.')));
        EXPECT_TRUE(refused(config)) << name << " " << bits.dump();
      }
    }
  }
}

}  // namespace
}  // namespace strata
