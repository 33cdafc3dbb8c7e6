#pragma once

#include <memory>

#include "strata/checkpoint/gguf.h"
#include "strata/model/model.h"

namespace strata {

// The config that a GGUF's keys and the presence of its tensors describe.
ModelConfig read_gguf_config(const GgufFile& file);

// A GGUF's tensors under Hugging Face's names and in its row order, decoded as they are read. Tensors without
// a counterpart are left out.
std::unique_ptr<Checkpoint> open_gguf_checkpoint(std::shared_ptr<const GgufFile> file,
                                                 const ModelConfig& config);

}  // namespace strata
