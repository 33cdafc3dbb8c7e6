#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace strata {

// llama.cpp's name of a Hugging Face tensor ("model.layers.3.mlp.down_proj.weight" ->
// "blk.3.ffn_down.weight") and the way back; empty when there is no counterpart.
std::string gguf_name(const std::string& hf_name);
std::string hf_name(const std::string& gguf_name);

// The name of a checkpoint's tensor in a GGUF file: gguf_name's, or its own where there is no counterpart, as
// in files of architectures that cannot be run, whose tensors keep their names.
std::string name_in_gguf(const std::string& tensor);

// `general.architecture` (also the prefix of the keys) for a model_type: "llama" and "mistral" -> "llama",
// "qwen2", "qwen3". Throws for others.
std::string gguf_architecture(const std::string& model_type);

// Whether llama.cpp stores the rows of q and k (weights and biases) of this `general.architecture` in its own
// order: it rotates neighbouring features where Hugging Face rotates the two halves of a head.
bool permutes_qk(std::string_view gguf_architecture);

// The source row of every stored row of q (heads = query heads) or k (heads = key heads):
// W.reshape(heads, 2, rows / heads / 2, cols).swap(1, 2). Throws if 2 * heads does not divide rows.
std::vector<int64_t> gguf_row_order(int64_t rows, int64_t heads);

// The stored row of every source row: the inverse of gguf_row_order.
std::vector<int64_t> hf_row_order(int64_t rows, int64_t heads);

}  // namespace strata
