#pragma once

#include <string>
#include <vector>

#include "strata/model/architectures/common.h"

// What LFM2 with and without experts say in the same words: gated short convolutions in most layers, and
// attention with norms on every query and key head in the others.
namespace strata {

void read_lfm2_json(const ConfigFields& fields, ModelConfig& config);
void write_lfm2_json(const ModelConfig& config, const std::string& where, Json& json);
void read_lfm2_gguf(const GgufKeys& keys, ModelConfig& config);
std::vector<GgufKey> lfm2_gguf_keys(const ModelConfig& config);
std::string lfm2_gguf_refusal(const ModelConfig& config);

// A layer up to the norm of its feed-forward block; and that block where it has no experts.
std::vector<LayerTensor> lfm2_mixer_tensors(const ModelConfig& config, int layer);
std::vector<LayerTensor> lfm2_feed_forward_tensors(const ModelConfig& config);
LayerPlan lfm2_mixer_plan(const ModelConfig& config, int layer);
FeedForwardPlan lfm2_feed_forward_plan();

// The record but for what its members differ in.
Architecture lfm2_record(const char* model_type, const char* class_name, const char* gguf_name);

}  // namespace strata
