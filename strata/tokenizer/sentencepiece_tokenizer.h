#pragma once

#include <memory>

#include "strata/tokenizer/tokenizer.h"

namespace strata {

// Runs the vocabulary's sentencepiece_model through libsentencepiece, piece by piece between added tokens.
// Throws when the library refuses the model.
std::unique_ptr<Tokenizer> make_sentencepiece_tokenizer(const Vocabulary& vocabulary);

}  // namespace strata
