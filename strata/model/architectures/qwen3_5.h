#pragma once

#include "strata/model/architectures/common.h"

// What the dense members of Qwen 3.5 and those with experts have in common.
namespace strata {

// Everything but class, defaults and the feed-forward block: gated delta nets in most layers, and in the
// others attention whose output is gated, with norms on every query and key head, a quarter of which rotates.
Architecture qwen3_5_record(const char* model_type, const char* class_name, const char* gguf_name);

void read_qwen3_5_json(const ConfigFields& fields, ModelConfig& config);
void write_qwen3_5_json(const ModelConfig& config, const std::string& where, Json& json);
void read_qwen3_5_gguf(const GgufKeys& keys, ModelConfig& config);
std::vector<GgufKey> qwen3_5_gguf_keys(const ModelConfig& config);
std::string qwen3_5_gguf_refusal(const ModelConfig& config);

// The norms of a layer and what mixes its values; the plan has one block.
std::vector<LayerTensor> qwen3_5_mixer_tensors(const ModelConfig& config, int layer);
LayerPlan qwen3_5_mixer_plan(const ModelConfig& config, int layer);

}  // namespace strata
