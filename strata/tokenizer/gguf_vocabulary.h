#pragma once

#include <string>
#include <vector>

#include "strata/gguf/file.h"
#include "strata/tokenizer/tokenizer.h"

namespace strata {

// The keys tokenizer.ggml.* and tokenizer.chat_template that make llama.cpp tokenize as this vocabulary does.
// Throws when the vocabulary cuts words in a way that llama.cpp has no name for.
std::vector<GgufKey> vocabulary_keys(const Vocabulary& vocabulary);

// The other way round, from the keys of the file `where`: model "gpt2" with a pre-tokenizer that is known, or
// "llama" (SentencePiece).
Vocabulary vocabulary_from_keys(const std::vector<GgufKey>& keys, const std::string& where);

}  // namespace strata
