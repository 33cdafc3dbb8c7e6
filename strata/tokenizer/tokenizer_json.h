#pragma once

#include <filesystem>
#include <string>

#include "strata/core/json.h"
#include "strata/tokenizer/tokenizer.h"

namespace strata {

// Whether a tokenizer.json holds byte-level BPE, or what SentencePiece does: BPE of spaces written as U+2581
// and unknown characters as bytes, or a unigram model; otherwise `kind` says what it holds.
bool is_byte_level_bpe(const LargeJson& document, std::string& kind);
bool is_sentencepiece(const LargeJson& document);

// Tokens, merges, pre-tokenizer, normalizer, added tokens and the post-processor's BOS and EOS of a
// byte-level BPE tokenizer.json. Steps that are not known are named in the error.
Vocabulary vocabulary_from_json(const LargeJson& document, const std::filesystem::path& path);

// The same of what SentencePiece does: a SentencePiece model, whose scores order pieces as the merges do or
// are those of the unigram model.
Vocabulary sentencepiece_from_json(const LargeJson& document, const std::filesystem::path& path);

}  // namespace strata
