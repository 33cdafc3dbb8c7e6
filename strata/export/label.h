#pragma once

#include <string>
#include <utility>
#include <vector>

#include "strata/core/json.h"
#include "strata/gguf/file.h"
#include "strata/model/model.h"

namespace strata {

// What a finished file says of how it was made, in order: {"version", "0.1.0"}, {"method", "kl"}. A GGUF has
// it as keys quantize.strata.NAME, a directory as the object "strata" of its config.json.
using Label = std::vector<std::pair<std::string, std::string>>;

std::vector<GgufKey> gguf_keys(const Label& label);
Json to_json(const Label& label);

// The label of a model that was opened; empty where it has none.
Label read_label(const Model& model);

}  // namespace strata
