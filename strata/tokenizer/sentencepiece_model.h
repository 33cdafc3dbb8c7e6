#pragma once

#include <string>

#include "strata/tokenizer/tokenizer.h"

namespace strata {

// Pieces, scores, types and the settings that GGUF stores of a serialized tokenizer.model. The pre-tokenizer
// stays unnamed for models that llama.cpp has no way to run: others than BPE, and those that rewrite
// characters or white space first. `where` names the file in errors.
Vocabulary parse_sentencepiece_model(std::string bytes, const std::string& where);

// A serialized BPE model without any rewriting, made of a vocabulary's tokens, scores, types and
// add_prefix_space.
std::string build_sentencepiece_model(const Vocabulary& vocabulary, const std::string& where);

}  // namespace strata
