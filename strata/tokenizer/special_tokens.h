#pragma once

#include <filesystem>

#include "strata/tokenizer/tokenizer.h"

namespace strata {

// Completes a vocabulary with what stands beside the tokenizer: the tokens that tokenizer_config.json and
// special_tokens_map.json name, then the ids of generation_config.json and config.json where those name none;
// whether BOS and EOS are added; the chat template.
void read_special_tokens(const std::filesystem::path& directory, Vocabulary& vocabulary);

}  // namespace strata
