#include "strata/model/gguf_names.h"

#include <gtest/gtest.h>

#include "strata/core/error.h"

namespace strata {
namespace {

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
    EXPECT_EQ(gguf_name(hf), gguf);
    EXPECT_EQ(hf_name(gguf), hf);
  }
}

TEST(GgufNames, AreEmptyWithoutCounterpart) {
  for (const char* name :
       {"", "weight", "model.layers.0.self_attn.rotary_emb.inv_freq", "model.layers.x.mlp.up_proj.weight",
        "model.layers.0", "model.layers..mlp.up_proj.weight", "model.layers.0.weight"})
    EXPECT_EQ(gguf_name(name), "") << name;
  EXPECT_EQ(hf_name("rope_freqs.weight"), "");
  EXPECT_EQ(hf_name("blk.0.ffn_gate_exps.weight"), "");
}

TEST(GgufNames, KnowArchitectures) {
  EXPECT_EQ(gguf_architecture("mistral"), "llama");
  EXPECT_EQ(gguf_architecture("qwen3"), "qwen3");
  EXPECT_THROW(gguf_architecture("gpt2"), Error);
  EXPECT_TRUE(permutes_qk("llama"));
  EXPECT_FALSE(permutes_qk("qwen2"));
}

TEST(GgufRowOrder, InterleavesTheHalvesOfEveryHead) {
  // numpy: arange(12).reshape(2, 2, 3).swapaxes(1, 2).ravel()
  EXPECT_EQ(gguf_row_order(12, 2), (std::vector<int64_t>{0, 3, 1, 4, 2, 5, 6, 9, 7, 10, 8, 11}));
  const auto source = gguf_row_order(64, 4);
  const auto stored = hf_row_order(64, 4);
  for (int64_t row = 0; row < 64; ++row) EXPECT_EQ(stored[source[row]], row);
  EXPECT_THROW(gguf_row_order(12, 4), Error);
  EXPECT_THROW(gguf_row_order(12, 0), Error);
}

}  // namespace
}  // namespace strata
