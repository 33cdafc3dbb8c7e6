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
// o200k, and without its English endings and with single digits Mistral's tekken.
const char* const kGpt4oPattern =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
const char* const kTekkenPattern =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
const std::vector<std::string> kDeepseekCoderPatterns = {"[\r\n]", R"(\s?\p{L}+)", R"(\s?\p{P}+)",
                                                         "[一-龥ࠀ-一가-퟿]+", R"(\p{N})"};
const std::vector<std::string> kDeepseekV3Patterns = {
    R"(\p{N}{1,3})", "[一-龥぀-ゟ゠-ヿ]+",
    R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)"};
// Its cased letters, as the tokenizer lists them. Digits stand alone or, in GGUF files, in a row, which is
// the same to a vocabulary without numbers of several digits.
const char* const kDeepseekLlmLetters =
    R"(\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-ώᾀ-ᾴᾶ-ᾼιῂ-ῄῆ-ῌῐ-ΐῖ-Ίῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤΩℨK-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]+)";
std::vector<std::string> deepseek_llm_patterns(const char* digits) {
  return {"[\r\n]",  kDeepseekLlmLetters,        R"(\s?[!-/:-~！-／：-～‘-‟　-。]+)",
          R"(\s+$)", "[一-龥ࠀ-一가-퟿]+", digits};
}
const char* const kSeedCoderPattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+)";
// What llama.cpp does with files that name no pre-tokenizer.
const std::vector<std::string> kDefaultPatterns = {R"([\p{P}\$\+<=>\^~\|]+)", kGpt2Pattern, R"(\p{N}+)",
                                                   "[0-9][0-9][0-9]"};

struct PreTokenizer {
  std::string_view name;
  std::vector<std::string> patterns;
  bool ignore_merges;
};

// The first name of a kind is the one written.
const std::vector<PreTokenizer>& pre_tokenizers() {
  static const std::vector<PreTokenizer> table = {
      {"gpt-2", {kGpt2Pattern}, false},
      {"llama-bpe", {kLlama3Pattern}, true},
      {"llama-v3", {kLlama3Pattern}, true},
      {"llama3", {kLlama3Pattern}, true},
      {"dbrx", {kLlama3Pattern}, false},
      {"smaug-bpe", {kLlama3Pattern}, false},
      {"qwen2", {kQwen2Pattern}, false},
      {"smollm", {R"(\p{N})", kGpt2Pattern}, false},
      {"gpt-4o", {kGpt4oPattern}, false},
      {"tekken", {kTekkenPattern}, true},
      {"deepseek-coder", kDeepseekCoderPatterns, false},
      {"deepseek-v3", kDeepseekV3Patterns, false},
      {"deepseek-llm", deepseek_llm_patterns(R"(\p{N}+)"), false},
      {"deepseek-llm", deepseek_llm_patterns(R"(\p{N})"), false},
      {"seed-coder", {kSeedCoderPattern}, false},
      // Other names of the same.
      {"olmo", {kGpt2Pattern}, false},
      {"mpt", {kGpt2Pattern}, false},
      {"glm4", {kLlama3Pattern}, false},
      {"chatglm-bpe", {kLlama3Pattern}, false},
      {"deepseek-r1-qwen", {kQwen2Pattern}, false},
      {"starcoder", {R"(\p{N})", kGpt2Pattern}, false},
      {"refact", {R"(\p{N})", kGpt2Pattern}, false},
      {"command-r", {R"(\p{N})", kGpt2Pattern}, false},
      {"falcon3", {kLlama3Pattern}, true},
      {"llama4", {kGpt4oPattern}, false},
      {"default", kDefaultPatterns, false},
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
