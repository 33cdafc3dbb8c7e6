#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "strata/gguf/codec.h"
#include "strata/gguf/file.h"
#include "tests/support/tiny_model.h"

namespace strata {

inline std::string tiny_gguf_name(std::string name) {
  const std::pair<const char*, const char*> parts[] = {
      {"model.layers.", "blk."},           {"model.embed_tokens", "token_embd"},
      {"model.norm", "output_norm"},       {"lm_head", "output"},
      {"self_attn.q_proj", "attn_q"},      {"self_attn.k_proj", "attn_k"},
      {"self_attn.v_proj", "attn_v"},      {"self_attn.o_proj", "attn_output"},
      {"self_attn.q_norm", "attn_q_norm"}, {"self_attn.k_norm", "attn_k_norm"},
      {"input_layernorm", "attn_norm"},    {"post_attention_layernorm", "ffn_norm"},
      {"mlp.gate_proj", "ffn_gate"},       {"mlp.up_proj", "ffn_up"},
      {"mlp.down_proj", "ffn_down"}};
  for (const auto& [hf, gguf] : parts)
    if (const size_t at = name.find(hf); at != std::string::npos)
      name.replace(at, std::string(hf).size(), gguf);
  return name;
}

// W.reshape(heads, 2, rows / heads / 2, cols).swap(1, 2), element by element.
inline std::vector<float> permuted_rows(const std::vector<float>& values, int64_t heads, int64_t rows) {
  const int64_t cols = static_cast<int64_t>(values.size()) / rows, half = rows / heads / 2;
  std::vector<float> permuted;
  for (int64_t head = 0; head < heads; ++head)
    for (int64_t i = 0; i < half; ++i)
      for (int64_t side = 0; side < 2; ++side)
        for (int64_t col = 0; col < cols; ++col)
          permuted.push_back(values[((head * 2 + side) * half + i) * cols + col]);
  return permuted;
}

// The keys of a tiny model, without a tokenizer.
inline std::vector<GgufKey> tiny_gguf_keys(const TinyModel& m) {
  const std::string architecture = m.architecture == "mistral" ? "llama" : m.architecture;
  const auto key = [&](const char* name, int64_t value) {
    return GgufKey{architecture + "." + name, gguf_u32(static_cast<uint32_t>(value))};
  };
  return {{"general.architecture", gguf_string(architecture)},
          key("context_length", 512),
          key("embedding_length", m.hidden),
          key("block_count", m.layers),
          key("feed_forward_length", m.intermediate),
          key("attention.head_count", m.heads),
          key("attention.head_count_kv", m.kv_heads),
          key("attention.key_length", m.head_dim),
          key("attention.value_length", m.head_dim),
          key("rope.dimension_count", m.head_dim),
          {architecture + ".attention.layer_norm_rms_epsilon", gguf_f32(1e-5f)},
          {architecture + ".rope.freq_base", gguf_f32(10000)}};
}

// Writes weights as llama.cpp stores them: matrices as `type`, the rest as F32, rows of q and k permuted for
// architecture "llama".
inline void write_tiny_gguf(const std::filesystem::path& path, const TinyModel& m, TinyWeights weights,
                            const std::vector<GgufKey>& keys, GgufType type = GgufType::F32) {
  std::vector<GgufTensor> tensors;
  for (const std::string& name : weights.names) {
    const std::vector<int64_t>& shape = weights.shapes[name];
    const GgufType stored = shape.size() == 2 ? type : GgufType::F32;
    tensors.push_back({tiny_gguf_name(name), shape, stored, 0});
    std::vector<float>& values = weights.values[name];
    if (m.architecture != "llama" && m.architecture != "mistral") continue;
    if (name.find("q_proj") != std::string::npos) values = permuted_rows(values, m.heads, shape[0]);
    if (name.find("k_proj") != std::string::npos) values = permuted_rows(values, m.kv_heads, shape[0]);
  }
  GgufWriter writer(path, keys, tensors);
  for (size_t i = 0; i < tensors.size(); ++i) {
    const std::vector<float>& values = weights.values[weights.names[i]];
    std::vector<std::byte> data(tensors[i].bytes());
    const int64_t cols = tensors[i].shape.back();
    encode_gguf(tensors[i].type, values.data(), static_cast<int64_t>(values.size()) / cols, cols, nullptr,
                data.data());
    writer.write(data.data(), data.size());
  }
  writer.commit();
}

}  // namespace strata
