#pragma once

#include <cmath>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "strata/core/dtype.h"
#include "strata/core/json.h"
#include "strata/core/random.h"

namespace strata {

// A small decoder model with random weights, as a Hugging Face directory. `config` is merged into config.json
// last, so that any key can be added or overwritten.
struct TinyModel {
  std::string architecture = "llama";
  int64_t hidden = 32, intermediate = 48, layers = 2, heads = 4, kv_heads = 2, head_dim = 8, vocab = 64;
  bool tied = true;
  bool attention_bias = false, mlp_bias = false;
  bool tokenizer = false;  // copies tiny-llama's, which needs a vocabulary of 8192
  DType type = DType::F32;
  uint64_t seed = 1;
  Json config = Json::object();

  bool qkv_bias() const { return architecture == "qwen2" || attention_bias; }
  bool output_bias() const { return architecture != "qwen2" && attention_bias; }
  bool qk_norm() const { return architecture == "qwen3"; }
};

// Values as stored, by tensor name; shapes in `shapes`.
struct TinyWeights {
  std::vector<std::string> names;
  std::map<std::string, std::vector<int64_t>> shapes;
  std::map<std::string, std::vector<float>> values;
};

inline TinyWeights random_weights(const TinyModel& m) {
  TinyWeights weights;
  Random random(m.seed);
  const auto add = [&](const std::string& name, std::vector<int64_t> shape, double mean, double deviation) {
    int64_t count = 1;
    for (int64_t size : shape) count *= size;
    std::vector<float> values(static_cast<size_t>(count));
    std::vector<std::byte> stored(values.size() * size_of(m.type));
    for (float& value : values) value = static_cast<float>(mean + deviation * random.normal());
    from_float(m.type, values.data(), stored.data(), count);
    to_float(m.type, stored.data(), values.data(), count);
    weights.names.push_back(name);
    weights.shapes[name] = std::move(shape);
    weights.values[name] = std::move(values);
  };
  const auto norm = [&](const std::string& name, int64_t size) { add(name + ".weight", {size}, 1, 0.2); };
  const auto linear = [&](const std::string& name, int64_t rows, int64_t cols, bool bias) {
    add(name + ".weight", {rows, cols}, 0, 1.5 / std::sqrt(static_cast<double>(cols)));
    if (bias) add(name + ".bias", {rows}, 0, 0.5);
  };
  linear("model.embed_tokens", m.vocab, m.hidden, false);
  for (int64_t layer = 0; layer < m.layers; ++layer) {
    const std::string at = "model.layers." + std::to_string(layer) + ".";
    norm(at + "input_layernorm", m.hidden);
    linear(at + "self_attn.q_proj", m.heads * m.head_dim, m.hidden, m.qkv_bias());
    linear(at + "self_attn.k_proj", m.kv_heads * m.head_dim, m.hidden, m.qkv_bias());
    linear(at + "self_attn.v_proj", m.kv_heads * m.head_dim, m.hidden, m.qkv_bias());
    linear(at + "self_attn.o_proj", m.hidden, m.heads * m.head_dim, m.output_bias());
    if (m.qk_norm()) norm(at + "self_attn.q_norm", m.head_dim);
    if (m.qk_norm()) norm(at + "self_attn.k_norm", m.head_dim);
    norm(at + "post_attention_layernorm", m.hidden);
    linear(at + "mlp.gate_proj", m.intermediate, m.hidden, m.mlp_bias);
    linear(at + "mlp.up_proj", m.intermediate, m.hidden, m.mlp_bias);
    linear(at + "mlp.down_proj", m.hidden, m.intermediate, m.mlp_bias);
  }
  norm("model.norm", m.hidden);
  if (!m.tied) linear("lm_head", m.vocab, m.hidden, false);
  return weights;
}

// One safetensors file: 8 bytes of header length, a JSON header, the values.
inline void write_safetensors(const std::filesystem::path& path, const TinyWeights& weights, DType type) {
  nlohmann::ordered_json header;
  std::vector<std::byte> data;
  for (const std::string& name : weights.names) {
    const std::vector<float>& values = weights.values.at(name);
    const size_t begin = data.size();
    data.resize(begin + values.size() * size_of(type));
    from_float(type, values.data(), data.data() + begin, static_cast<int64_t>(values.size()));
    header[name] = {
        {"dtype", name_of(type)}, {"shape", weights.shapes.at(name)}, {"data_offsets", {begin, data.size()}}};
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  const uint64_t length = text.size();
  std::ofstream file(path, std::ios::binary);
  file.write(reinterpret_cast<const char*>(&length), sizeof length);
  file << text;
  file.write(reinterpret_cast<const char*>(data.data()), static_cast<std::streamsize>(data.size()));
}

inline Json tiny_config(const TinyModel& m) {
  Json config = {{"model_type", m.architecture},
                 {"hidden_act", "silu"},
                 {"hidden_size", m.hidden},
                 {"intermediate_size", m.intermediate},
                 {"num_hidden_layers", m.layers},
                 {"num_attention_heads", m.heads},
                 {"num_key_value_heads", m.kv_heads},
                 {"head_dim", m.head_dim},
                 {"vocab_size", m.vocab},
                 {"max_position_embeddings", 512},
                 {"rms_norm_eps", 1e-5},
                 {"rope_theta", 10000.0},
                 {"tie_word_embeddings", m.tied},
                 {"bos_token_id", 0},
                 {"eos_token_id", 0}};
  if (m.attention_bias) config["attention_bias"] = true;
  if (m.mlp_bias) config["mlp_bias"] = true;
  for (const auto& [key, value] : m.config.items()) config[key] = value;
  return config;
}

// Writes config.json, model.safetensors and, when asked for, the tokenizer into `directory`.
inline TinyWeights write_tiny_model(const std::filesystem::path& directory, const TinyModel& m) {
  std::filesystem::create_directories(directory);
  const TinyWeights weights = random_weights(m);
  write_safetensors(directory / "model.safetensors", weights, m.type);
  write_json(directory / "config.json", tiny_config(m));
  if (m.tokenizer)
    for (const char* name : {"tokenizer.json", "tokenizer_config.json"})
      std::filesystem::copy_file(std::filesystem::path(STRATA_SOURCE_DIR) / "models/tiny-llama" / name,
                                 directory / name);
  return weights;
}

}  // namespace strata
