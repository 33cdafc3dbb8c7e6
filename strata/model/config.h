#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace strata {

// What rows of a layer's matrix do. Other: a matrix of an architecture that can be sized but not run, or one
// whose rows do several things (Module::parts says which).
enum class Role { Q, K, V, O, Gate, Up, Down, Other };
std::string_view name_of(Role role);  // "q", "k", ...

// How rotary frequencies are stretched: not at all, all alike (position interpolation), by frequency as
// Llama 3 does, by the divisor that a GGUF's rope_freqs.weight gives for each frequency, or by one of two
// divisors for each: for sequences within the original context, and for longer ones (longrope).
struct RopeScaling {
  enum class Type { None, Linear, Llama3, Divisors, Long } type = Type::None;
  double factor = 1, low_freq_factor = 1, high_freq_factor = 4;
  int64_t original_max_position_embeddings = 0;
  std::vector<float> divisors;       // rotary_dim / 2
  std::vector<float> long_divisors;  // of longrope, beyond the original context
  double attention_factor = 1;       // of longrope: multiplies cosines and sines
};

// config.json of a decoder-only transformer.
struct ModelConfig {
  std::string
      architecture;  // model_type: the name of an Architecture, or any other of a model that cannot be run
  int64_t hidden_size = 0, intermediate_size = 0, num_layers = 0;
  int64_t num_heads = 0, num_kv_heads = 0, head_dim = 0;
  int64_t rotary_dim = 0;  // features of a head that rotate, the first ones
  int64_t vocab_size = 0, max_position_embeddings = 0;
  double rms_norm_eps = 1e-5, rope_theta = 10000;
  RopeScaling rope_scaling;
  bool attention_bias = false;  // q, k, v have biases
  bool output_bias = false;     // o has one too
  bool mlp_bias = false;
  bool tied_embeddings = false;
  int64_t sliding_window = 0;        // 0 = none
  std::vector<bool> sliding_layers;  // layers it applies to; empty = all
  std::optional<int32_t> bos, eos;

  // Keys that a query of this layer sees, itself included; 0 = all before it.
  int64_t window_of(int layer) const;
};

}  // namespace strata
