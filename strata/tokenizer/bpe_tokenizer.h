#pragma once

#include <memory>

#include "strata/tokenizer/tokenizer.h"

namespace strata {

// Byte-level BPE (Sennrich et al. 2016 on bytes, as GPT-2 does). Throws when the vocabulary contradicts
// itself: a merge of tokens that do not exist, or a pattern that cannot be compiled.
std::unique_ptr<Tokenizer> make_bpe_tokenizer(const Vocabulary& vocabulary);

}  // namespace strata
