#pragma once

#include <filesystem>
#include <string>

#include "strata/core/json.h"
#include "strata/tokenizer/tokenizer.h"

namespace strata {

// Whether a tokenizer.json holds byte-level BPE; otherwise `kind` says what it holds.
bool is_byte_level_bpe(const LargeJson& document, std::string& kind);

// Tokens, merges, pre-tokenizer, normalizer, added tokens and the post-processor's BOS and EOS of a
// byte-level BPE tokenizer.json. Steps that are not known are named in the error.
Vocabulary vocabulary_from_json(const LargeJson& document, const std::filesystem::path& path);

}  // namespace strata
