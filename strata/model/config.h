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
// Llama 3 or YaRN (arXiv 2309.00071) do, by the divisor that a GGUF's rope_freqs.weight gives for each
// frequency, or by one of two divisors for each: for sequences within the original context, and for longer
// ones (longrope); by a base that grows with the sequence beyond the original context (dynamic); or only the
// first pairs turn (proportional).
struct RopeScaling {
  enum class Type { None, Linear, Llama3, Divisors, Long, Yarn, Dynamic, Proportional } type = Type::None;
  double factor = 1, low_freq_factor = 1, high_freq_factor = 4;
  int64_t original_max_position_embeddings = 0;
  std::vector<float> divisors;           // rotary_dim / 2
  std::vector<float> long_divisors;      // of longrope, beyond the original context
  double attention_factor = 1;           // of longrope and YaRN: multiplies cosines and sines
  double beta_fast = 32, beta_slow = 1;  // of YaRN: turns within the original context
  bool truncate = true;                  // of YaRN: the two bounds are whole features
  double turning_part = 1;               // of proportional: the part of the pairs that turn
};

// The rotation of queries and keys by their positions.
struct Rope {
  double theta = 10000;
  int64_t rotary_dim = 0;  // features of a head that rotate, the first ones
  RopeScaling scaling;
  bool neighbours = false;  // features 2 i and 2 i + 1 rotate together, not i and i + rotary_dim / 2
  std::vector<int64_t> sections = {};  // of pairs, by the three positions of an image's patch; texts have one
};

// How attention weighs values: by the softmax of q k' scaled and capped, over the keys that a query sees.
struct AttentionScores {
  int64_t window = 0;  // those keys, the query's own included; 0 = all before it
  double scale = 0;    // 0: 1 / sqrt(head_dim)
  double softcap = 0;  // c > 0: a score s becomes c tanh(s / c)

  double scale_for(int64_t head_dim) const;
};

// Experts of which every token reads a few.
struct ExpertSizes {
  int64_t count = 0;         // in a layer; 0: none has experts
  int64_t used = 0;          // by a token
  int64_t width = 0;         // intermediate features of each
  int64_t shared_width = 0;  // of the expert that all tokens read; 0: there is none
  bool renormalized = true;  // a token's gates add up to `scale`
  double scale = 1;          // of the gates
  int64_t groups = 1;        // of experts, of which a token uses those of `groups_used`
  int64_t groups_used = 1;
};

// Attention whose keys and values are products of one small vector a token, the latent one (DeepSeek V2,
// arXiv 2405.04434): features of it, and of a head's parts.
struct LatentSizes {
  int64_t rank = 0;         // of the latent vector; 0: attention has none
  int64_t query_rank = 0;   // of a vector that queries are products of; 0: they are those of the hidden state
  int64_t still_dim = 0;    // of queries and keys, that do not rotate
  int64_t turning_dim = 0;  // that rotate, in keys the same for all heads
  int64_t value_dim = 0;
};

// Convolutions along the text, of every channel with a filter of its own.
struct ConvolutionSizes {
  int64_t width = 0;  // tokens that an output sees, the last one its own
  bool bias = false;
};

// Layers that keep what they have read in a state of a matrix [key_dim, value_dim] for every value head, by
// linear attention (qkv) or as a state space (Mamba: heads, groups that share B and C, state size).
struct RecurrenceSizes {
  int64_t key_heads = 0, value_heads = 0, key_dim = 0, value_dim = 0;
  // Which key head a value head h reads: h % key_heads, as llama.cpp has Qwen 3.5's; otherwise those that
  // share one stand side by side.
  bool tiled = false;

  int64_t keys() const { return key_heads * key_dim; }
  int64_t values() const { return value_heads * value_dim; }
};

// config.json of a decoder-only transformer.
struct ModelConfig {
  std::string
      architecture;  // model_type: the name of an Architecture, or any other of a model that cannot be run
  int64_t hidden_size = 0, intermediate_size = 0, num_layers = 0;
  int64_t num_heads = 0, num_kv_heads = 0, head_dim = 0;
  int64_t vocab_size = 0, max_position_embeddings = 0;
  double rms_norm_eps = 1e-5;
  Rope rope;
  std::optional<Rope> sliding_rope;   // of layers that slide, where theirs is another
  std::vector<bool> rotating_layers;  // empty = all
  // Queries at position t are multiplied by 1 + query_growth ln(1 + floor(t / query_growth_length)).
  double query_growth = 0;
  int64_t query_growth_length = 0;
  enum class Norm { Rms, Layer } norm = Norm::Rms;
  bool norm_bias = false;
  bool attention_bias = false;  // q, k, v have biases
  bool output_bias = false;     // o has one too
  bool mlp_bias = false;
  bool query_key_norms = false;  // queries and keys are normed, where the architecture leaves that open
  LatentSizes latent;
  ExpertSizes experts;
  std::vector<bool> expert_layers;     // that have experts where experts.count > 0; empty = all
  std::vector<bool> attention_layers;  // whose values attention mixes; empty = all
  ConvolutionSizes convolution;        // of the other layers
  RecurrenceSizes recurrence;          // likewise, of those that have a state
  bool tied_embeddings = false;
  int64_t sliding_window = 0;        // 0 = none
  std::vector<bool> sliding_layers;  // layers it applies to; empty = all
  int64_t sliding_head_dim = 0;      // of layers that slide, where theirs is another
  int64_t sliding_kv_heads = 0;      // likewise
  bool keys_are_values = false;      // in layers that do not slide
  // The last layers attend to keys and values of the last layer of their kind before them (key_layer); their
  // feed-forward blocks may be twice as wide.
  int64_t kv_shared_layers = 0;
  bool wide_sharing_layers = false;
  // Features of a token that every layer reads from an embedding of its own, beside the stream; 0: none.
  int64_t layer_embedding_size = 0;
  double attention_scale = 0, attention_softcap = 0;  // as in AttentionScores
  double embedding_scale = 1;                         // of the embedded tokens
  double residual_scale = 1;                          // of what a block adds to the stream
  double logit_scale = 1;
  double final_softcap = 0;  // c > 0: a logit l becomes c tanh(l / c)
  std::optional<int32_t> bos, eos;
  // How the names of the checkpoint's tensors begin, and that of its head without ".weight": multimodal
  // checkpoints have others for their text model.
  std::string prefix = "model.", head = "lm_head";

  bool slides(int layer) const;  // whether sliding_window applies to this layer
  int64_t head_dim_of(int layer) const;
  int64_t kv_heads_of(int layer) const;
  AttentionScores scores_of(int layer) const;
  const Rope& rope_of(int layer) const;
  bool has_experts(int layer) const;
  bool attends(int layer) const;  // whether attention mixes this layer's values
  bool shares_keys(int layer) const;
  int key_layer(int layer) const;  // whose keys and values this layer attends to; its own where it has any
  int64_t intermediate_size_of(int layer) const;
};

// All layers slide but for the last of every `period`; throws where that is not positive.
void slide_by_period(ModelConfig& config, int64_t period);

// The smallest such period that the layers follow; none where they follow none.
std::optional<int64_t> sliding_period(const ModelConfig& config);

}  // namespace strata
