#pragma once

#include <string>
#include <vector>

#include "strata/checkpoint/safetensors_writer.h"
#include "strata/model/model.h"

namespace strata {

// The tensors of a checkpoint that are none of the text model's, in file order: other towers of multimodal
// models, heads that predict further tokens. Directories keep them as they are, and a head that the embedding
// serves for is not among them. Throws for an element type that safetensors of ours cannot hold.
std::vector<PlannedTensor> other_tensors(const Model& model);

// Copies the bytes of these, which come next in the writer.
void write_other_tensors(const Model& model, const std::vector<PlannedTensor>& tensors,
                         SafetensorsWriter& writer);

// Says in a note that a GGUF does without them.
void note_other_tensors(const Model& model);

// Says in a note that a directory does without those tensors of the model, a GGUF, that its config has no
// place for, such as layers that predict further tokens.
void note_gguf_tensors(const Model& model);

}  // namespace strata
