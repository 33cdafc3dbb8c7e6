#pragma once

#include <string>
#include <vector>

#include "strata/model/architecture.h"

// What the Gemmas share: GeGLU, norms that leave 1 out of their gains, embeddings times sqrt(hidden_size).
namespace strata {

Architecture gemma_record(const char* model_type, const char* class_name, const char* gguf_name);

// The layer of Gemma 2 and 3: norms before and behind both blocks.
std::vector<LayerTensor> sandwich_tensors(const ModelConfig& config);
LayerPlan sandwich_plan(const ModelConfig& config, int layer);

// query_pre_attn_scalar, 1 / scale^2 of attention, and softcaps; and back.
void read_scores(const ConfigFields& fields, ModelConfig& config);
void write_scores(const ModelConfig& config, Json& json);

// The scale that llama.cpp gives attention, which no key tells: the largest models, which it knows by their
// number of layers, take the hidden size by head for that of a head.
double gguf_attention_scale(const ModelConfig& config, int64_t layers_of_largest);

// What llama.cpp's graphs of Gemma 2 and 3 have no place for.
std::string gemma_gguf_refusal(const ModelConfig& config, int64_t layers_of_largest);

}  // namespace strata
