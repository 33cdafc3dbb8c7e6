#include "strata/tokenizer/pre_tokenizers.h"

#include <string_view>

namespace strata {

const char* const kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

namespace {

const char* const kLlama3Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
const char* const kQwen2Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

struct PreTokenizer {
  std::string_view name;
  std::vector<std::string> patterns;
  bool ignore_merges;
};

// The first name of a kind is the one written.
const std::vector<PreTokenizer>& pre_tokenizers() {
  static const std::vector<PreTokenizer> table = {
      {"gpt-2", {kGpt2Pattern}, false},     {"llama-bpe", {kLlama3Pattern}, true},
      {"llama-v3", {kLlama3Pattern}, true}, {"llama3", {kLlama3Pattern}, true},
      {"dbrx", {kLlama3Pattern}, false},    {"smaug-bpe", {kLlama3Pattern}, false},
      {"qwen2", {kQwen2Pattern}, false},    {"smollm", {R"(\p{N})", kGpt2Pattern}, false},
  };
  return table;
}

}  // namespace

std::string pre_tokenizer_name(const Vocabulary& vocabulary) {
  if (vocabulary.add_prefix_space) return {};  // llama.cpp puts no space before byte-level BPE text
  for (const PreTokenizer& known : pre_tokenizers())
    if (known.patterns == vocabulary.word_patterns && known.ignore_merges == vocabulary.ignore_merges)
      return std::string(known.name);
  return {};
}

bool set_pre_tokenizer(Vocabulary& vocabulary, const std::string& name) {
  for (const PreTokenizer& known : pre_tokenizers()) {
    if (known.name != name) continue;
    vocabulary.word_patterns = known.patterns;
    vocabulary.ignore_merges = known.ignore_merges;
    return true;
  }
  return false;
}

std::string known_pre_tokenizers() {
  std::string names;
  for (const PreTokenizer& known : pre_tokenizers())
    names.append(names.empty() ? "" : ", ").append(known.name);
  return names;
}

}  // namespace strata
