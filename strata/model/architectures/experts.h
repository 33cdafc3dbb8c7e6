#pragma once

#include <string>
#include <vector>

#include "strata/model/architectures/common.h"

// What mixtures of experts say in the same words.
namespace strata {

// How a directory names the matrices of a layer's experts.
struct ExpertNames {
  std::string block = "mlp", router = "gate";
  std::string gate = "gate_proj", up = "up_proj", down = "down_proj";  // of an expert, BLOCK.experts.N.NAME
  std::string bias = {};  // BLOCK.NAME, by which experts are chosen; empty: none
  std::string shared = "shared_expert";
  bool shared_gate = true;  // BLOCK.SHARED_gate
  // What holds gate and up, and down, of all experts where one tensor does, BLOCK.NAME; empty: none ever
  // does.
  std::string all_gate_up = "experts.gate_up_proj", all_down = "experts.down_proj";
  bool alternating = false;  // rows of gate and up take turns there, and stand as columns
  bool biases = false;       // of the experts and their router
};

// The router and the stacks of the experts; with a shared expert its matrices and gate, BLOCK.SHARED and
// BLOCK.SHARED_gate.
std::vector<LayerTensor> expert_tensors(const ModelConfig& config, const ExpertNames& names = {});
ExpertsPlan experts_plan(const ModelConfig& config, const ExpertNames& names = {});

// The layer of Llama with experts in those layers that have some.
std::vector<LayerTensor> pre_norm_expert_tensors(const ModelConfig& config, int layer, bool permuted,
                                                 const ExpertNames& names = {});
LayerPlan pre_norm_expert_plan(const ModelConfig& config, int layer, const ExpertNames& names = {});

// config.json's numbers of experts and of those that a token uses; the width of each is under `width_key`.
void read_experts(const ConfigFields& fields, const char* width_key, ModelConfig& config);

// The first `plain` layers have no experts; and how many those are. `where` begins the message where there
// are fewer layers.
void begin_experts(ModelConfig& config, int64_t plain, const std::string& where);
int64_t plain_layers(const ModelConfig& config);

// The Qwens': decoder_sparse_step and mlp_only_layers say which layers have experts, norm_topk_prob whether
// gates are renormalized.
void read_qwen_experts(const ConfigFields& fields, ModelConfig& config);
void write_qwen_experts(const ModelConfig& config, Json& json);

// Why llama.cpp cannot run it where its graph wants experts in all layers, and gates renormalized or not, as
// the end of a sentence; empty where it can.
std::string expert_gguf_refusal(const ModelConfig& config, bool renormalizes);

}  // namespace strata
