#pragma once

#include <filesystem>

#include "strata/core/json.h"
#include "strata/export/label.h"
#include "strata/model/model.h"

namespace strata {

// Everything beside the weights that a Hugging Face directory needs: the model's own config.json, tokenizer
// and generation files, or, from a GGUF, files written from its keys. Throws if those cannot say what the
// GGUF says.
void write_model_files(const Model& model, const std::filesystem::path& directory);

// Replaces what the directory's config.json says of quantization by these entries and the label; nothing
// where there are none.
void describe_quantization(const std::filesystem::path& directory, const Json& entries,
                           const Label& label = {});

// config.json from a config (the model was a GGUF), in transformers' terms. `where` is for messages.
Json config_json(const ModelConfig& config, const std::string& dtype, const std::string& where);

// tokenizer.json of a byte-level BPE vocabulary.
Json tokenizer_json(const Vocabulary& vocabulary);

}  // namespace strata
