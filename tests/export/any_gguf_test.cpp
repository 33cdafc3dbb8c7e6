// GGUF files of architectures that strata cannot run, and models in several files.
#include <cstring>

#include "strata/core/file.h"
#include "strata/export/formats.h"
#include "strata/gguf/codec.h"
#include "strata/gguf/file.h"
#include "tests/export/export_test_model.h"

namespace strata {
namespace {

namespace fs = std::filesystem;

class AnyGgufTest : public ExportTest {
 protected:
  // Two layers with experts, a router, a vector, and data of types that cannot be decoded.
  fs::path strange_model() {
    const std::vector<GgufKey> keys = {{"general.architecture", gguf_string("peculiar")},
                                       {"peculiar.block_count", gguf_u32(2)},
                                       {"peculiar.note", gguf_strings({"kept", "as it is"})}};
    std::vector<GgufTensor> tensors;
    const auto add = [&](const std::string& name, std::vector<int64_t> shape, GgufType type) {
      GgufTensor tensor;
      tensor.name = name;
      tensor.shape = std::move(shape);
      tensor.type = type;
      tensors.push_back(std::move(tensor));
    };
    add("token_embd.weight", {40, 256}, GgufType::F16);
    for (const std::string layer : {"blk.0.", "blk.1."}) {
      add(layer + "attn_norm.weight", {256}, GgufType::F32);
      add(layer + "mixer.weight", {64, 256}, GgufType::F32);
      add(layer + "ffn_down_exps.weight", {3, 64, 96}, GgufType::F32);  // rows that 256 does not divide
      add(layer + "ffn_gate_inp.weight", {64, 256}, GgufType::F32);
      add(layer + "table", {64, 8}, GgufType::I32);
    }
    add("extra.q8_1", {4, 32}, GgufType::Q8_1);
    const fs::path path = target("strange.gguf");
    GgufWriter writer(path, keys, tensors);
    uint32_t state = 1;
    for (const GgufTensor& tensor : tensors) {
      std::vector<std::byte> bytes(tensor.bytes());
      std::vector<float> values(tensor.type == GgufType::F32 ? bytes.size() / 4 : 0);
      for (float& value : values) {
        state = state * 1664525u + 1013904223u;
        value = static_cast<float>(static_cast<int32_t>(state)) * 1e-10f;
      }
      if (!values.empty()) std::memcpy(bytes.data(), values.data(), bytes.size());
      writer.write(bytes.data(), bytes.size());
    }
    writer.commit();
    return path;
  }
};

TEST_F(AnyGgufTest, AnArchitectureThatCannotBeRunIsSizedAndQuantized) {
  const Model model = open_model(strange_model());
  EXPECT_FALSE(model.runnable);
  EXPECT_EQ(model.config.num_layers, 2);
  std::vector<std::string> names;
  for (const Module& module : model.modules) names.push_back(module.tensor);
  EXPECT_EQ(names, (std::vector<std::string>{"blk.0.mixer.weight", "blk.0.ffn_down_exps.weight",
                                             "blk.1.mixer.weight", "blk.1.ffn_down_exps.weight"}));
  EXPECT_EQ(model.modules[1].rows, 3 * 64);  // experts one below the other, in one scheme
  EXPECT_EQ(model.modules[1].cols, 96);

  ExportPlan plan = uniform_plan(model, "Q4_K", "Q8_0");
  plan.schemes["blk.1.mixer.weight"] = parse_scheme("IQ2_S");
  const ExportResult result = export_gguf(model, plan, target("out.gguf"));
  const GgufFile before(model.path), after(target("out.gguf"));
  EXPECT_EQ(result.file_bytes, fs::file_size(target("out.gguf")));
  ASSERT_EQ(before.tensors().size(), after.tensors().size());
  EXPECT_EQ(std::get<std::vector<std::string>>(after.find("peculiar.note")->value).back(), "as it is");
  for (size_t i = 0; i < before.tensors().size(); ++i) {
    const GgufTensor &a = before.tensors()[i], &b = after.tensors()[i];
    EXPECT_EQ(a.name, b.name);
    EXPECT_EQ(a.shape, b.shape) << a.name;
    if (plan.schemes.count(a.name) == 0 && a.name != "token_embd.weight") {
      ASSERT_EQ(a.type, b.type) << a.name;
      EXPECT_EQ(std::memcmp(before.data(a), after.data(b), a.bytes()), 0) << a.name;
    }
  }
  EXPECT_EQ(after.find_tensor("blk.0.mixer.weight")->type, GgufType::Q4_K);
  EXPECT_EQ(after.find_tensor("blk.0.ffn_down_exps.weight")->type, GgufType::Q5_0);
  EXPECT_EQ(after.find_tensor("blk.1.mixer.weight")->type, GgufType::IQ2_S);
  EXPECT_EQ(after.find_tensor("token_embd.weight")->type, GgufType::Q8_0);
  for (const Module& module : model.modules) {
    std::vector<float> expected = model.checkpoint->read(module.tensor);
    fake_quantize({expected.data(), module.rows, module.cols}, plan.schemes.at(module.tensor),
                  plan.quantizer);
    EXPECT_EQ(open_model(target("out.gguf")).checkpoint->read(module.tensor), expected) << module.tensor;
  }
}

TEST_F(AnyGgufTest, WhatNeedsMoreThanSizesSaysSo) {
  const Model model = open_model(strange_model());
  for (const char* name : {"hf", "mlx", "gptq", "compressed-tensors"})
    EXPECT_NE(error_of([&] {
                format_for("x", name).write(model, uniform_plan(model, "w4g32", "F32"), target("out"));
              }).find("'peculiar' is known by its sizes only"),
              std::string::npos)
        << name;
  EXPECT_NE(error_of([&] { model.module(0, Role::Q); }).find("peculiar"), std::string::npos);
  EXPECT_NE(error_of([&] { model.checkpoint->read("extra.q8_1"); }).find("Q8_1 can only be copied"),
            std::string::npos);
}

TEST_F(AnyGgufTest, AModelInSeveralFilesIsTheModelInOne) {
  const Model model = make_model("llama");
  ExportPlan plan = uniform_plan(model, "Q5_0", "Q8_0");
  export_gguf(model, plan, target("one.gguf"));
  plan.shard_bytes = 20000;
  const ExportResult result = export_gguf(model, plan, target("many.gguf"));
  const size_t parts = written().size() - 1;
  ASSERT_GT(parts, 2u);
  EXPECT_EQ(result.path, gguf_part_path(target("many.gguf"), 0, parts));
  EXPECT_EQ(gguf_file_size(model, plan), result.file_bytes);
  const Model a = open_model(target("one.gguf")), b = open_model(result.path);
  for (const ExpectedTensor& tensor : expected_tensors(model.config))
    EXPECT_EQ(a.checkpoint->read(tensor.name), b.checkpoint->read(tensor.name)) << tensor.name;
  // Joined again, and with what described the parts gone.
  plan.shard_bytes = 0;
  export_gguf(b, plan, target("joined.gguf"));
  EXPECT_EQ(GgufFile(target("joined.gguf")).find("split.count"), nullptr);
  EXPECT_EQ(open_model(target("joined.gguf")).checkpoint->read(model.embedding),
            a.checkpoint->read(model.embedding));

  const fs::path second = gguf_part_path(target("many.gguf"), 1, parts), kept = target("kept.gguf");
  EXPECT_NE(error_of([&] { open_model(second); }).find("is part 2 of"), std::string::npos);
  fs::rename(second, kept);
  EXPECT_NE(error_of([&] { open_model(result.path); }).find("is missing"), std::string::npos);
  fs::copy_file(gguf_part_path(target("many.gguf"), 2, parts), second);
  EXPECT_NE(error_of([&] { open_model(result.path); }).find("says that it is part 3"), std::string::npos);
  fs::rename(kept, second);
  fs::rename(result.path, target("renamed.gguf"));
  EXPECT_NE(error_of([&] { open_model(target("renamed.gguf")); }).find("must end in -00001-of-"),
            std::string::npos);
}

}  // namespace
}  // namespace strata
