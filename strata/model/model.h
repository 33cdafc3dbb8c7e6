#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "strata/checkpoint/checkpoint.h"
#include "strata/tokenizer/tokenizer.h"

namespace strata {

// Other: a matrix of an architecture that can be sized but not run.
enum class Role { Q, K, V, O, Gate, Up, Down, Other };
std::string_view name_of(Role role);  // "q", "k", ...

// How rotary frequencies are stretched: not at all, all alike (position interpolation), by frequency as
// Llama 3 does, or by the divisor that a GGUF's rope_freqs.weight gives for each frequency.
struct RopeScaling {
  enum class Type { None, Linear, Llama3, Divisors } type = Type::None;
  double factor = 1, low_freq_factor = 1, high_freq_factor = 4;
  int64_t original_max_position_embeddings = 0;
  std::vector<float> divisors;  // head_dim / 2
};

// config.json of a decoder-only transformer.
struct ModelConfig {
  std::string architecture;  // "llama", "mistral", "qwen2", "qwen3": model_type
  int64_t hidden_size = 0, intermediate_size = 0, num_layers = 0;
  int64_t num_heads = 0, num_kv_heads = 0, head_dim = 0;
  int64_t vocab_size = 0, max_position_embeddings = 0;
  double rms_norm_eps = 1e-5, rope_theta = 10000;
  RopeScaling rope_scaling;
  bool attention_bias = false;  // q, k, v have biases (Qwen2, or attention_bias)
  bool output_bias = false;     // o has a bias too (Llama with attention_bias)
  bool mlp_bias = false;
  bool qk_norm = false;  // RMS norm of every query and key head (Qwen3)
  bool tied_embeddings = false;
  int64_t sliding_window = 0;        // 0 = none
  std::vector<bool> sliding_layers;  // layers it applies to; empty = all
  std::optional<int32_t> bos, eos;

  // Keys that a query of this layer sees, itself included; 0 = all before it.
  int64_t window_of(int layer) const;
};

// One weight matrix of a decoder layer.
struct Module {
  int layer = 0;
  Role role = Role::Q;
  std::string name;    // inside the layer: "self_attn.q_proj"
  std::string tensor;  // in the checkpoint: "model.layers.0.self_attn.q_proj.weight"
  int64_t rows = 0, cols = 0;

  int64_t params() const { return rows * cols; }
};

// A decoder model opened for reading: nothing but headers is in memory.
struct Model {
  std::filesystem::path path;
  ModelConfig config;
  std::shared_ptr<const Checkpoint> checkpoint;
  std::vector<Module> modules;  // layer by layer; q, k, v, o, gate, up, down within one
  std::string embedding = "model.embed_tokens.weight";
  std::string final_norm = "model.norm.weight";
  std::string head = "lm_head.weight";  // equals `embedding` when tied

  // False for a GGUF of an architecture that is not known here: its matrices (experts stacked as the rows of
  // one) can be scored without data, quantized and exported, under the names that they have in the file.
  bool runnable = true;

  // Of the model's directory; throws when there is none or it does not fit the vocabulary.
  std::function<Vocabulary()> vocabulary;

  const Module& module(int layer, Role role) const;                  // throws unless runnable
  std::string layer_tensor(int layer, std::string_view name) const;  // "model.layers.<layer>.<name>"
};

// Throws where the model can be sized but not run; `what` cannot be done then.
void require_runnable(const Model& model, const std::string& what);

// model_type values that read_config knows.
const std::vector<std::string>& known_architectures();

ModelConfig read_config(const std::filesystem::path& config_json);

// Opens a Hugging Face directory (or a .safetensors beside its config.json, or a .gguf), and checks every
// tensor's presence and shape against the config. Weights quantized as compressed-tensors, GPTQ or MLX are
// dequantized as they are read.
Model open_model(const std::filesystem::path& path);

}  // namespace strata
