#pragma once

#include <ATen/ATen.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "strata/forward/rope.h"
#include "strata/forward/routing.h"
#include "strata/model/architecture.h"

namespace strata {

// The tensors of one layer, by their names inside it: "self_attn.q_proj.weight", "input_layernorm.weight".
struct LayerWeights {
  std::unordered_map<std::string, at::Tensor> tensors;
  // What becomes of a matrix's input before the product; null where that keeps its values.
  std::function<at::Tensor(std::string_view matrix, const at::Tensor& input)> round_input;

  // By name without ".weight"; throws where there is none.
  const at::Tensor& weight(const std::string& name) const;
  at::Tensor& weight(const std::string& name);
  at::Tensor bias(const std::string& name) const;  // undefined where there is none
};

// Mixes values by attention over rotated queries and keys: q [B, H, T, D]; k [B, H_kv, T, D]; v [B, H_kv, T,
// D_v]; sinks [H] or undefined; gives [B, T, H * D_v].
using Attention = std::function<at::Tensor(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                           const AttentionScores& scores, const at::Tensor& sinks)>;

// What a layer without attention keeps of the tokens before those that it reads; undefined where a text
// begins. Each step leaves what the next one needs.
struct LayerMemory {
  at::Tensor inputs;  // the last inputs of its convolution, [B, width - 1, channels]
  at::Tensor state;   // of its recurrence, [B, value heads, key_dim, value_dim] float
};

// A layer on its way: the residual stream, and what waits to be multiplied by the next matrices where that
// is not the stream itself. A stage that reads the value takes its first features, as many as its matrices
// have inputs; the others wait for the stage after it.
struct LayerState {
  at::Tensor hidden;  // [B, T, hidden_size]
  at::Tensor value;   // [B, T, any]
  // In a block of experts, behind its router: the routing, and what the experts' last matrices read, [1,
  // rows, any].
  std::shared_ptr<const Routing> routing = nullptr;
  at::Tensor of_experts = {};
  at::Tensor carried = {};  // behind the hidden state (stream.h); undefined where nothing is
};

struct LayerRun;

// Matrices that read one input, and what their products become. A layer is its stages, one after the other;
// a block has one into what mixes or gates, and one out of it (two where blocks are parallel or experts stand
// beside a shared one), and a block of experts begins with one that has no matrices to be quantized, but
// routes.
struct Stage {
  size_t block = 0;                   // of the plan
  std::vector<std::string> matrices;  // W x + b of each is a product
  std::vector<std::string> kept;  // small matrices that are not quantized, and read the same: products too
  bool reads_value = false;       // the input is LayerState::value; otherwise the stream, behind `norm`
  bool reads_attention = false;   // that value is what attention gives
  bool ends_block = false;        // what comes out is normed as the plan has it and added to the stream
  bool ends_layer = false;        // and the plan's scale multiplies the stream
  // What the products become: those of the matrices, and behind them those of the kept ones.
  std::function<at::Tensor(const LayerRun& run, const std::vector<at::Tensor>& products)> combine;
  // What the value holds beyond the matrices' inputs is one more product, the last; it does not wait.
  bool takes_rest = false;
  // Of what is carried a part is one more product, the last; or takes the place of a part of it what stands
  // last in what the products become.
  CarriedPart takes = {}, gives = {};
  // Of the stage that routes: from its input [B, T, hidden_size].
  std::function<Routing(const LayerRun& run, const at::Tensor& input)> route;
  bool by_expert = false;    // the matrices are stacks, each of which reads its expert's rows
  bool shared_gate = false;  // what comes out is multiplied by Routing::shared_gate

  // What scales a feature of the input where it is scaled itself: the norm that it comes from, before the
  // block or of what the stage takes of the value (empty: none), or rows of `givers` that do this.
  std::string norm;
  bool is_normed = false;  // the stage before has put the value through that norm
  std::optional<Role> rows;
  std::vector<std::string> givers;
};

// The stages of a plan, in order.
std::vector<Stage> stages_of(const LayerPlan& plan);

// Everything that runs a layer.
struct LayerRun {
  const ModelConfig& config;
  LayerPlan plan;
  std::vector<Stage> stages;
  LayerWeights weights;
  RopeTable rope;
  Attention attention;
  LayerMemory* memory = nullptr;  // of what came before; null: every text begins here and is seen whole
};

// Called with a matrix's name and its input; of a stack for every expert, under the name of its own matrix
// (expert_name): the rows of its tokens [tokens, in], each times its gate, which is what an error weighs
// there.
using InputObserver = std::function<void(std::string_view matrix, const at::Tensor& input)>;

// W x + b of a matrix of the layer: input [B, T, in] -> [B, T, out].
at::Tensor project(const LayerWeights& weights, const std::string& matrix, const at::Tensor& input);

// W x + b of a matrix that a stage has, or of one in its place: input as stage_input gives it.
at::Tensor stage_product(const Stage& stage, const LayerState& state, const at::Tensor& input,
                         const at::Tensor& weight, const at::Tensor& bias);

// The stream [B, T, stream_size] (stream.h) as the first stage of a layer finds it, and as the last leaves
// it.
LayerState state_of(const LayerRun& run, const at::Tensor& stream);
at::Tensor stream_of(const LayerState& state);

// The layer, or one of its stages. Nobody looks where `observe` is null.
at::Tensor run_layer(const LayerRun& run, const at::Tensor& stream, const InputObserver& observe = nullptr);
LayerState run_stage(const LayerRun& run, const Stage& stage, const LayerState& state,
                     const InputObserver& observe = nullptr);

// Its two halves: what the stage's matrices read, and the state behind it, given their products.
at::Tensor stage_input(const LayerRun& run, const Stage& stage, const LayerState& state);
LayerState finish_stage(const LayerRun& run, const Stage& stage, const LayerState& state,
                        const std::vector<at::Tensor>& products);

// Shows what a matrix of the stage reads, as an InputObserver sees it.
void show_input(const Stage& stage, const LayerState& state, const std::string& matrix,
                const at::Tensor& input, const InputObserver& observe);

// What a block of the plan adds to the hidden states [B, T, hidden_size] of the stream.
at::Tensor block_output(const LayerRun& run, size_t block, const at::Tensor& stream);

// x / sqrt(mean(x^2) + eps) * weight over the last dimension, the norm in float32. An undefined weight is 1.
at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps);

// The norm that the config names; for LayerNorm the mean is subtracted first and the bias, if defined, added.
at::Tensor normed(const ModelConfig& config, const at::Tensor& x, const at::Tensor& weight,
                  const at::Tensor& bias);

// Products of matrices in the parts of these sizes, whichever of them stand side by side in one product.
std::vector<at::Tensor> split_products(const std::vector<at::Tensor>& products,
                                       const std::vector<int64_t>& sizes);

// Features by head: [B, T, heads * D] -> [B, heads, T, D], and back.
at::Tensor by_head(const at::Tensor& values, int64_t heads);
at::Tensor side_by_side(const at::Tensor& heads);

// The stage that ends a block: the product of this matrix with the value.
Stage output_stage(const std::string& matrix);

// The stages of each kind of block, added to those before; attention_block.cpp, feed_forward_block.cpp,
// experts_block.cpp, parallel_block.cpp, latent_attention_block.cpp, short_convolution_block.cpp,
// delta_net_block.cpp, mamba_block.cpp and layer_embedding_block.cpp.
void add_stages(const AttentionPlan& attention, std::vector<Stage>& stages);
void add_stages(const FeedForwardPlan& feed_forward, std::vector<Stage>& stages);
void add_stages(const ExpertsPlan& experts, std::vector<Stage>& stages);
void add_stages(const ParallelPlan& parallel, std::vector<Stage>& stages);
void add_stages(const LatentAttentionPlan& attention, std::vector<Stage>& stages);
void add_stages(const ShortConvolutionPlan& convolution, std::vector<Stage>& stages);
void add_stages(const DeltaNetPlan& delta_net, std::vector<Stage>& stages);
void add_stages(const MambaPlan& mamba, std::vector<Stage>& stages);
void add_stages(const LayerEmbeddingPlan& embedding, std::vector<Stage>& stages);

}  // namespace strata
