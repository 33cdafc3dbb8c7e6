#pragma once

#include <string>

#include "strata/tokenizer/tokenizer.h"

namespace strata {

// Pieces, scores, types and settings of a serialized tokenizer.model. The pre-tokenizer stays unnamed where
// llama.cpp does not know the model. `where` names the file in errors.
Vocabulary parse_sentencepiece_model(std::string bytes, const std::string& where);

// Whether llama.cpp does what the SentencePiece model of a vocabulary does.
bool llama_cpp_knows(const Vocabulary& vocabulary);

// A serialized model, BPE or unigram, made of a vocabulary's tokens, scores, types and settings.
std::string build_sentencepiece_model(const Vocabulary& vocabulary, const std::string& where);

}  // namespace strata
