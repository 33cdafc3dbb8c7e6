#pragma once

#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "strata/core/json.h"
#include "strata/model/config.h"

namespace strata {

class ConfigFields;
class GgufKeys;

// Rows of a matrix, from the top, that do one thing.
struct RowPart {
  Role role = Role::Other;
  int64_t rows = 0;
  // Above 0: the rows are of that many heads, each of which llama.cpp stores in the order of its rotation, of
  // neighbouring features where Hugging Face rotates the two halves of a head.
  int64_t permuted_heads = 0;
};

// A weight of a layer: a norm, or a matrix with the bias that goes with it.
struct LayerTensor {
  std::string name;            // without ".weight", inside the layer: "self_attn.q_proj"
  std::string gguf_name;       // the same in a GGUF's block: "attn_q"
  int64_t cols = 0;            // of a matrix, or the norm's size
  std::vector<RowPart> parts;  // a matrix's rows; none of a norm
  bool bias = false;

  bool is_matrix() const { return !parts.empty(); }
  int64_t rows() const;  // of a matrix
};

// Attention over the queries, keys and values that the products of `inputs` hold in this order, in as many
// matrices as there are.
struct AttentionPlan {
  std::vector<std::string> inputs;  // {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"}
  std::string output;               // "self_attn.o_proj"
  std::string q_norm, k_norm;       // RMS norms of queries and keys before they rotate; empty: none
  enum class NormOver { Head, AllHeads } norm_over = NormOver::Head;
  int64_t window = 0;  // keys that a query sees, itself included; 0 = all before it
};

// silu(gate) * up, which the products of `inputs` hold in this order, through `output`.
struct FeedForwardPlan {
  std::vector<std::string> inputs;  // {"mlp.gate_proj", "mlp.up_proj"}
  std::string output;               // "mlp.down_proj"
};

// A part of a layer that adds to the residual stream: hidden + norm_after(block(norm_before(hidden))). Norms
// are names of the layer's tensors; empty: none stands there.
struct BlockPlan {
  std::string norm_before, norm_after;
  std::variant<AttentionPlan, FeedForwardPlan> block;
};

// What a layer computes.
struct LayerPlan {
  std::vector<BlockPlan> blocks;  // one after the other
};

// All that strata knows of an architecture. Each is a file in architectures/ and a line in its registry;
// nothing else names one.
struct Architecture {
  std::string model_type;  // in config.json
  std::string class_name;  // of transformers: "LlamaForCausalLM"
  std::string gguf_name;   // general.architecture; of several with the same one the first reads such files
  int64_t default_head_dim = 0;        // where config.json has none; 0: hidden_size / num_attention_heads
  double default_rms_norm_eps = 1e-6;  // where config.json has none
  bool partial_rotary = false;         // whether heads may rotate in part

  // What config.json says beyond the keys that all have (config_json.h), and what is written there.
  void (*read_json)(const ConfigFields& fields, ModelConfig& config) = nullptr;
  void (*write_json)(const ModelConfig& config, const std::string& where, Json& json) = nullptr;

  // What GGUF keys and the presence of tensors say beyond those that all have (config_gguf.h), and what
  // llama.cpp's graph of it has no place for: "a bias on o_proj"; empty where it runs the model.
  void (*read_gguf)(const GgufKeys& keys, ModelConfig& config) = nullptr;
  std::string (*gguf_refusal)(const ModelConfig& config) = nullptr;

  // The weights of a layer, in the order in which they are written; and what it computes with them.
  std::vector<LayerTensor> (*tensors)(const ModelConfig& config, int layer) = nullptr;
  LayerPlan (*plan)(const ModelConfig& config, int layer) = nullptr;
};

// Every architecture whose forward pass is known.
const std::vector<Architecture>& architectures();

// By model_type, by the class of transformers, and by general.architecture; null where none is known.
const Architecture* find_architecture(std::string_view model_type);
const Architecture* find_architecture_of_class(std::string_view class_name);
const Architecture* find_gguf_architecture(std::string_view gguf_name);

// Of a config that can be run; throws naming those known.
const Architecture& architecture_of(const ModelConfig& config);

// "llama, mistral, ...", for messages.
std::string known_architectures();

}  // namespace strata
