#pragma once

#include <map>
#include <vector>

#include "strata/gguf/file.h"
#include "strata/model/model.h"

namespace strata {

// All keys of a Hugging Face model: general, architecture and tokenizer. Throws if llama.cpp cannot run it.
std::vector<GgufKey> gguf_keys(const Model& model, const std::vector<GgufTensor>& tensors);

// The keys of an existing GGUF file as they stand, but for those that describe its quantization.
std::vector<GgufKey> requantized_keys(const GgufFile& input, const std::vector<GgufTensor>& tensors);

// How many matrices have each type that can be decoded; the most frequent one names the kind of file.
std::map<GgufType, int> matrices_by_type(const std::vector<GgufTensor>& tensors);

}  // namespace strata
