#include "strata/model/gguf_names.h"

#include <gtest/gtest.h>

#include <map>
#include <set>
#include <string>

#include "strata/core/error.h"
#include "strata/gguf/file.h"
#include "strata/model/layout.h"
#include "strata/model/readers.h"
#include "tests/support/temporary_directory.h"

namespace strata {
namespace {

ModelConfig config_of(const char* model_type) {
  ModelConfig config;
  config.architecture = model_type;
  return config;
}

TEST(GgufNames, TranslateBothWays) {
  const std::pair<const char*, const char*> names[] = {
      {"model.embed_tokens.weight", "token_embd.weight"},
      {"model.norm.weight", "output_norm.weight"},
      {"lm_head.weight", "output.weight"},
      {"model.layers.0.input_layernorm.weight", "blk.0.attn_norm.weight"},
      {"model.layers.12.self_attn.q_proj.weight", "blk.12.attn_q.weight"},
      {"model.layers.12.self_attn.k_proj.bias", "blk.12.attn_k.bias"},
      {"model.layers.3.self_attn.v_proj.weight", "blk.3.attn_v.weight"},
      {"model.layers.3.self_attn.o_proj.weight", "blk.3.attn_output.weight"},
      {"model.layers.3.self_attn.q_norm.weight", "blk.3.attn_q_norm.weight"},
      {"model.layers.3.self_attn.k_norm.weight", "blk.3.attn_k_norm.weight"},
      {"model.layers.3.post_attention_layernorm.weight", "blk.3.ffn_norm.weight"},
      {"model.layers.3.mlp.gate_proj.weight", "blk.3.ffn_gate.weight"},
      {"model.layers.3.mlp.up_proj.weight", "blk.3.ffn_up.weight"},
      {"model.layers.3.mlp.down_proj.weight", "blk.3.ffn_down.weight"},
  };
  for (const auto& [hf, gguf] : names) {
    EXPECT_EQ(gguf_name(config_of("qwen3"), hf), gguf);
    EXPECT_EQ(name_of_gguf(config_of("qwen3"), gguf), hf);
  }
}

TEST(GgufNames, AreEmptyWithoutCounterpart) {
  for (const char* name :
       {"", "weight", "model.layers.0.self_attn.rotary_emb.inv_freq", "model.layers.x.mlp.up_proj.weight",
        "model.layers.0", "model.layers..mlp.up_proj.weight", "model.layers.0.weight"})
    EXPECT_EQ(gguf_name(config_of("llama"), name), "") << name;
  EXPECT_EQ(name_of_gguf(config_of("llama"), "rope_freqs.weight"), "");
  EXPECT_EQ(name_of_gguf(config_of("llama"), "blk.0.ffn_gate_exps.weight"), "");
}

// Files that know nothing of a model (plans, importance matrices) name matrices alike.
TEST(GgufNames, OfMatricesAgreeAmongArchitectures) {
  std::map<std::string, std::string> names;
  for (const Architecture& architecture : architectures())
    for (const LayerTensor& tensor : architecture.tensors(config_of(architecture.model_type.c_str()), 0))
      if (tensor.is_matrix()) {
        EXPECT_EQ(names.emplace(tensor.name, tensor.gguf_name).first->second, tensor.gguf_name)
            << architecture.model_type;
      }
  EXPECT_EQ(matrix_name_in_gguf("model.layers.7.mlp.up_proj.weight"), "blk.7.ffn_up.weight");
  for (const char* prefix : {"", "language_model.model."})
    EXPECT_EQ(matrix_name_in_gguf(prefix + std::string("layers.7.mlp.up_proj.weight")),
              "blk.7.ffn_up.weight");
  EXPECT_EQ(matrix_name_in_gguf("model.layers.7.conv.in_proj.weight"), "blk.7.shortconv.in_proj.weight");
  EXPECT_EQ(matrix_name_in_gguf("blk.7.ssm_in.weight"), "blk.7.ssm_in.weight");
}

TEST(Architectures, AreFoundByAllTheirNames) {
  const TemporaryDirectory directory;
  for (const Architecture& architecture : architectures()) {
    EXPECT_EQ(find_architecture(architecture.model_type), &architecture);
    if (architecture.model_type != "kimi_k2") {  // whose class is DeepSeek V3's
      EXPECT_EQ(find_architecture_of_class(architecture.class_name), &architecture);
    }
    for (const bool experts : {false, true}) {
      if (architecture.experts.value_or(experts) != experts) continue;
      GgufWriter(directory / "empty.gguf",
                 {{architecture.gguf_name + ".expert_count", gguf_u32(experts ? 4 : 0)}}, {})
          .commit();
      const GgufFile file(directory / "empty.gguf");
      if (architecture.fits_gguf == nullptr) {
        ASSERT_NE(find_gguf_architecture(architecture.gguf_name, file), nullptr) << architecture.model_type;
        EXPECT_EQ(find_gguf_architecture(architecture.gguf_name, file)->experts, architecture.experts);
      }
      if (architecture.gguf_name == "llama") {
        EXPECT_EQ(find_gguf_architecture("llama", file)->model_type, experts ? "mixtral" : "llama");
      }
    }
  }
  EXPECT_EQ(find_architecture("gpt2"), nullptr);
  EXPECT_THROW(architecture_of(config_of("gpt2")), Error);
}

// Every matrix that a layer's plan names is in its table, and the other way round.
TEST(Architectures, PlansNameTheMatricesOfTheTable) {
  for (const Architecture& architecture : architectures())
    for (const bool attends : {true, false}) {
      ModelConfig config = config_of(architecture.model_type.c_str());
      config.attention_layers = {attends};
      std::multiset<std::string> planned, stored;
      for (const auto& readers : readers_of(architecture.plan(config, 0)))
        planned.insert(readers.begin(), readers.end());
      for (const LayerTensor& tensor : architecture.tensors(config, 0))
        if (tensor.is_matrix() && !tensor.kept) stored.insert(tensor.name);
      EXPECT_EQ(planned, stored) << architecture.model_type << " " << attends;
    }
}

TEST(GgufRowOrder, InterleavesTheHalvesOfEveryHead) {
  // numpy: arange(12).reshape(2, 2, 3).swapaxes(1, 2).ravel()
  EXPECT_EQ(gguf_row_order({{Role::Q, 12, 2}}), (std::vector<int64_t>{0, 3, 1, 4, 2, 5, 6, 9, 7, 10, 8, 11}));
  // Rows of several roles keep their places.
  EXPECT_EQ(gguf_row_order({{Role::V, 2, 0}, {Role::K, 4, 1}, {Role::O, 1, 0}}),
            (std::vector<int64_t>{0, 1, 2, 4, 3, 5, 6}));
  EXPECT_TRUE(is_permuted({{Role::V, 2, 0}, {Role::K, 4, 1}}));
  EXPECT_FALSE(is_permuted({{Role::V, 2, 0}}));
  const std::vector<RowPart> parts = {{Role::Q, 64, 4}, {Role::K, 32, 2}};
  const auto source = gguf_row_order(parts), stored = source_row_order(parts);
  for (int64_t row = 0; row < 96; ++row)
    EXPECT_EQ(stored[static_cast<size_t>(source[static_cast<size_t>(row)])], row);
  EXPECT_THROW(gguf_row_order({{Role::Q, 12, 4}}), Error);
}

}  // namespace
}  // namespace strata
