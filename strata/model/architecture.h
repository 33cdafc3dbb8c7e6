#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "strata/checkpoint/plain_checkpoint.h"
#include "strata/checkpoint/sliced_checkpoint.h"
#include "strata/core/json.h"
#include "strata/gguf/file.h"
#include "strata/model/config.h"
#include "strata/model/stream.h"

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

// A weight of a layer: a norm or another vector, a matrix with the bias that goes with it, or a stack of the
// matrices of all experts, one below the other.
struct LayerTensor {
  std::string name;                     // without ".weight", inside the layer: "self_attn.q_proj"
  std::string gguf_name;                // the same in a GGUF's block: "attn_q"
  int64_t cols = 0;                     // of a matrix, or the norm's size
  std::vector<RowPart> parts;           // a matrix's rows, of a stack those of one expert; none of a norm
  bool bias = false;                    // of a matrix or a norm
  bool bare = false;                    // a checkpoint stores it without ".weight" behind its name
  std::string gguf_ending = ".weight";  // what GGUF files have in its place
  std::optional<StoredForm> form = {};  // of a vector in a checkpoint, where it is not that of all norms
  int64_t experts = 0;                  // of a stack; otherwise 0
  bool kept = false;                    // a small matrix that is not quantized, such as a router
  bool convolution = false;  // kept: of every channel a filter of its own, [rows, 1, cols] in a checkpoint
  // Directories may have a stack as a slice of a tensor [experts, rows, cols] of this full name, and its
  // biases of one with the ending "_bias"; empty: only in matrices of their own.
  MatrixSlice fused_in = {};
  // What GGUF files have where that is not the same: the shape of a vector; the names of a matrix's parts
  // where each stands apart (the first is gguf_name); slices of the matrices of all heads, one below the
  // other.
  std::vector<int64_t> gguf_shape = {};
  std::vector<std::string> gguf_parts = {};
  int64_t heads = 0;
  std::vector<MatrixSlice> gguf_slices = {};
  // The last of the rows, or all columns, that are of value heads (value_heads.h), one head after the other.
  int64_t value_rows = 0, value_cols = 0;

  std::string weight() const { return bare ? name : name + ".weight"; }
  bool is_matrix() const { return !parts.empty(); }
  int64_t rows() const;  // of a matrix, or of the whole stack
};

// Attention over the queries, keys and values that the products of `inputs` hold in this order, in as many
// matrices as there are.
struct AttentionPlan {
  std::vector<std::string> inputs;  // {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"}
  std::string output;               // "self_attn.o_proj"
  int64_t heads = 0, kv_heads = 0, head_dim = 0;
  std::string q_norm, k_norm;  // RMS norms of queries and keys before they rotate; empty: none
  enum class NormOver { Head, AllHeads } norm_over = NormOver::Head;
  // What gates the output, by its sigmoid, stands behind the query in every head of the first product.
  bool output_gate = false;
  bool keys_are_values = false;  // values are the products of the keys, before these are normed and rotate
  bool norms_values = false;     // every head of the values is RMS-normed, without gains
  AttentionScores scores;
  std::string sinks = {};  // a vector of a score a head, of a key without value that all queries see
  // Of the stream: keys and values that stand in the place of its own, which it then has none of; and where
  // it leaves its own to later layers.
  CarriedPart takes_keys = {}, gives_keys = {};
};

// Latent attention: the matrices of `inputs` give the latent vector, the rotating part of the keys, and the
// queries or, with `query_output`, what these are products of.
struct LatentAttentionPlan {
  std::vector<std::string> inputs;         // {"self_attn.q_a_proj", "self_attn.kv_a_proj_with_mqa"}
  std::string query_norm, query_output;    // "self_attn.q_b_proj"; empty: `inputs` give the queries
  std::string latent_norm, latent_output;  // "self_attn.kv_b_proj": a head's keys above its values
  std::string output;
  int64_t heads = 0;
  LatentSizes sizes;
  AttentionScores scores;
};

// silu(x) = x sigmoid(x); gelu by its approximation with tanh. ClampedSwiglu, of gpt-oss: with gate at most 7
// and up between -7 and 7 it makes gate sigmoid(1.702 gate) (up + 1).
enum class Activation { Silu, Gelu, ClampedSwiglu };

// activation(gate) * up, which the products of `inputs` hold in this order, through `output`.
struct FeedForwardPlan {
  std::vector<std::string> inputs;  // {"mlp.gate_proj", "mlp.up_proj"}
  std::string output;               // "mlp.down_proj"
  Activation activation = Activation::Silu;
  bool gated = true;  // false: activation(up), without gate
};

// Which experts read a token, and their gates: the largest of the scores that the product of `router`
// becomes.
struct RouterPlan {
  std::string router;  // a matrix of a row an expert, "mlp.gate"
  enum class Score { Softmax, Sigmoid } score = Score::Softmax;
  int64_t used = 0;          // experts of a token
  bool renormalized = true;  // the gates are the scores over the sum of those used
  double scale = 1;          // of the gates
  // A vector that is added to the scores by which experts are chosen, and not to the gates; empty: none.
  std::string bias = {};
  // Groups that the experts are dealt to in order, and those of which a token's may be: the ones whose best
  // expert, or whose two best together, have the largest scores.
  int64_t groups = 1, groups_used = 1;
  enum class GroupScore { Best, TwoBest } group_score = GroupScore::TwoBest;
};

// Experts of which a token reads those that its router chooses: the sum of their outputs times their gates.
// An expert that all tokens read may stand beside them, its output times the sigmoid of a product.
struct ExpertsPlan {
  RouterPlan router;
  FeedForwardPlan experts;                // of stacks
  std::optional<FeedForwardPlan> shared;  // of plain matrices
  std::string shared_gate;                // a matrix of one row; empty: the shared expert has no gate
};

// The gated short convolution of LFM2: the products of `input` are b, c and x, one above the other, and
// c * convolution(b * x) goes through `output`.
struct ShortConvolutionPlan {
  std::string input;        // "conv.in_proj"
  std::string convolution;  // "conv.conv"
  std::string output;       // "conv.out_proj"
};

// Linear attention by the gated delta rule (arXiv 2412.06464): queries, keys and values, which the product of
// `qkv` holds one above the other, go through a convolution and silu; queries and keys have unit length; a
// head's state decays by exp(decay softplus(a + step_bias)) and learns at the rate sigmoid(b). Every head's
// output is normed, multiplied by silu(z) and goes through `output`.
struct DeltaNetPlan {
  std::string qkv, z;            // "linear_attn.in_proj_qkv", "linear_attn.in_proj_z"
  std::string b, a;              // kept matrices of a row a value head
  std::string convolution;       // of queries, keys and values
  std::string decay, step_bias;  // vectors of an entry a value head
  std::string norm;              // over a head
  std::string output;
};

// A state space layer of Mamba 2 (arXiv 2405.21060): the product of `input` holds the gate z, x with B and C,
// and a step of every head, one above the other. x, B and C go through a convolution and silu; a head's state
// decays by exp(decay step) and takes in step x under the key B, where step = softplus(step + step_bias); C
// reads it, and skip x is added. What comes out is multiplied by silu(z), normed over all heads that share a
// key, and goes through `output`.
struct MambaPlan {
  std::string input;                   // "mamba.in_proj"
  std::string convolution;             // of x, B and C
  std::string decay, step_bias, skip;  // vectors of an entry a head
  std::string norm;                    // over all features
  std::string output;
};

// A layer's embedding (Gemma 3n's per-layer embeddings): gelu(gate hidden) * features, through `output`.
struct LayerEmbeddingPlan {
  std::string gate;      // "per_layer_input_gate"
  std::string output;    // "per_layer_projection"
  CarriedPart features;  // of the stream
};

// Both behind one norm, so that neither reads what the other adds.
struct ParallelPlan {
  AttentionPlan attention;
  FeedForwardPlan feed_forward;
};

// A part of a layer that adds to the residual stream: hidden + norm_after(block(norm_before(hidden))). Norms
// are names of the layer's tensors; empty: none stands there.
struct BlockPlan {
  std::string norm_before, norm_after;
  std::variant<AttentionPlan, FeedForwardPlan, ExpertsPlan, ParallelPlan, LatentAttentionPlan,
               ShortConvolutionPlan, DeltaNetPlan, MambaPlan, LayerEmbeddingPlan>
      block;
};

// What a layer computes.
struct LayerPlan {
  std::vector<BlockPlan> blocks;  // one after the other
  std::string scale = {};  // the vector of one value that multiplies what leaves the layer; empty: none
};

// All that strata knows of an architecture. Each is a file in architectures/ and a line in its registry;
// nothing else names one.
struct Architecture {
  std::string model_type;  // in config.json
  std::string class_name;  // of transformers: "LlamaForCausalLM"
  std::string
      gguf_name;  // general.architecture; of several with the same one the first that fits reads files
  Json defaults;  // keys that config.json may leave to the class
  bool partial_rotary = false;  // whether heads may rotate in part
  bool sizes_by_layer = false;  // whether GGUF keys may list sizes of layers
  // Whether its layers have experts, which GGUF files of one name may have or not; none: members differ.
  std::optional<bool> experts = false;
  bool fused_experts = false;  // whether directories have stacks as LayerTensor::fused_in says, and only so
  bool latent_attention = false;
  std::string mlx_experts = "switch_mlp";  // what mlx-lm calls the stacks of experts
  bool gguf_slides =
      true;  // false: llama.cpp's graph lets all layers see all tokens, whatever sliding_window is
  bool rounds_yarn = false;  // whether GGUF files do without the fractions of YaRN's ends, as llama.cpp does
  // What config.json calls the activation of the feed-forward block; the first is what is written there.
  std::vector<std::string> activations = {"silu"};
  // In which form a checkpoint holds the gains of norms, but for layer tensors of a form of their own.
  StoredForm norm_form = StoredForm::Plain;
  // Names of the norm behind the last layer.
  std::string final_norm = "norm", gguf_final_norm = "output_norm";

  // What follows from the architecture and its sizes, whatever the config was read from.
  void (*complete)(ModelConfig& config) = nullptr;

  // What config.json says beyond the keys that all have (config_json.h), and what is written there.
  void (*read_json)(const ConfigFields& fields, ModelConfig& config) = nullptr;
  void (*write_json)(const ModelConfig& config, const std::string& where, Json& json) = nullptr;

  // What GGUF keys and the presence of tensors say beyond those that all have (config_gguf.h), the keys that
  // are written, and what llama.cpp's graph of it has no place for: "a bias on o_proj"; empty where it runs
  // the model.
  bool (*fits_gguf)(const GgufKeys& keys) = nullptr;  // null: all files of the name
  void (*read_gguf)(const GgufKeys& keys, ModelConfig& config) = nullptr;
  std::vector<GgufKey> (*gguf_keys)(const ModelConfig& config) = nullptr;  // named without their prefix
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
const Architecture* find_gguf_architecture(std::string_view gguf_name, const GgufFile& file);

// Of a config that can be run; throws naming those known.
const Architecture& architecture_of(const ModelConfig& config);

// What llama.cpp has no place for in a model of this config: Architecture::gguf_refusal, and what it can do
// of no architecture. Empty where it runs the model.
std::string gguf_refusal_of(const ModelConfig& config);

// "llama, mistral, ...", for messages.
std::string known_architectures();

}  // namespace strata
