#pragma once

#include <string>
#include <vector>

#include "strata/tokenizer/tokenizer.h"

namespace strata {

// The pattern that tokenizer.json's ByteLevel step applies (GPT-2's, Radford et al. 2019).
extern const char* const kGpt2Pattern;

// GGUF's name of the way a byte-level BPE vocabulary cuts words; empty when llama.cpp knows none that cuts
// (and, for whole words, skips merging) in the same way.
std::string pre_tokenizer_name(const Vocabulary& vocabulary);

// Sets word_patterns and ignore_merges from GGUF's name. False when the name is not known.
bool set_pre_tokenizer(Vocabulary& vocabulary, const std::string& name);

// "gpt-2, llama-bpe, ...", for messages.
std::string known_pre_tokenizers();

}  // namespace strata
