#pragma once

#include <memory>

#include "strata/gguf/file.h"
#include "strata/model/model.h"

namespace strata {

// Whether the forward pass of the file's architecture is known here; throws when it names none.
bool is_runnable(const GgufFile& file);

// Of any other: architecture, layers, and the vocabulary's and the embedding's size where they are known.
ModelConfig sized_gguf_config(const GgufFile& file);

// Its matrices that can be quantized: those in blk.N that are no vectors, routers, or small convolutions and
// mixing matrices (which llama.cpp's quantizer leaves alone too). Experts of one projection, stacked in a
// tensor of three dimensions, are one matrix and so share a scheme.
std::vector<Module> sized_modules(const GgufFile& file);

// Its tensors as they are named and ordered, experts one below the other.
std::unique_ptr<Checkpoint> open_gguf_checkpoint(std::shared_ptr<const GgufFile> file);

// A GGUF's tensors under Hugging Face's names and in its row order, decoded as they are read. Tensors without
// a counterpart are left out.
std::unique_ptr<Checkpoint> open_gguf_checkpoint(std::shared_ptr<const GgufFile> file,
                                                 const ModelConfig& config);

}  // namespace strata
