#pragma once

#include <cstddef>
#include <string>

#include "strata/checkpoint/checkpoint.h"

namespace strata {

// The bytes of a tensor where they are mapped, valid as long as the checkpoint is; of one that
// open_safetensors() gave. Null where there is none of that name.
const std::byte* mapped_bytes(const Checkpoint& safetensors, const std::string& name);

}  // namespace strata
