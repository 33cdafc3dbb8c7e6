#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace strata {

// Everything a tokenizer file says, in the terms GGUF stores: tokenizers are built from it and exports copy
// it.
struct Vocabulary {
  enum class Model { Bpe, SentencePiece } model = Model::Bpe;
  // Values are GGUF's token types.
  enum class TokenType : int8_t {
    Normal = 1,
    Unknown = 2,
    Control = 3,
    UserDefined = 4,
    Unused = 5,
    Byte = 6
  };

  // A token that is recognised in the text before anything else happens to it.
  struct AddedToken {
    int32_t id = 0;
    bool lstrip = false, rstrip = false;  // takes the white space before or after it along
    bool single_word = false;             // only where no letter, digit or underscore touches it
    bool normalized = false;              // looked for in the normalized text
  };

  // GGUF's name: "gpt-2", "llama-bpe", "qwen2", "smollm", "default"; empty when GGUF has none that does the
  // same, so that a GGUF file cannot be written.
  std::string pre_tokenizer;
  std::vector<std::string> word_patterns;  // PCRE2; each splits the pieces of the one before (BPE only)
  bool normalize_nfc = false;              // Unicode normalization form C comes first (BPE only)
  bool add_prefix_space = false;
  bool space_is_prefix = false;     // one that the text begins with serves (SentencePiece only)
  bool ignore_merges = false;       // a word that is a token as it stands is not merged
  std::vector<AddedToken> added;    // in any order
  std::vector<std::string> tokens;  // BPE: in the byte-to-unicode alphabet, as tokenizer.json stores them
  std::vector<TokenType> types;
  std::vector<float> scores;  // SentencePiece only
  // Of SentencePiece: the likeliest pieces are taken (a unigram model), not what merges make; how characters
  // are replaced before, as its "precompiled_charsmap"; and whether spaces at the ends and repeated ones go.
  bool unigram = false, removes_spaces = false;
  std::string replacements;
  std::vector<std::string> merges;  // BPE only: "left right"
  std::optional<int32_t> bos, eos, unknown, padding;
  bool add_bos = false, add_eos = false;
  std::string chat_template;        // empty when there is none
  std::string sentencepiece_model;  // serialized tokenizer.model (SentencePiece only)
};

// Text to token ids. Thread-safe.
class Tokenizer {
 public:
  virtual ~Tokenizer() = default;
  // Special (added) tokens in the text are recognised. BOS and EOS are added as the vocabulary says when
  // `add_special` is true.
  virtual std::vector<int32_t> encode(std::string_view text, bool add_special = true) const = 0;
  virtual std::string decode(const std::vector<int32_t>& ids) const = 0;
};

// From tokenizer.json (byte-level BPE, or what SentencePiece does, by merges or as a unigram model) or
// tokenizer.model, with tokenizer_config.json, special_tokens_map.json and generation_config.json for the
// special tokens and the chat template. Throws when the directory has no tokenizer, or one of a kind that is
// not known.
Vocabulary read_vocabulary(const std::filesystem::path& directory);

// Leaves out the tokens from the id `count` on, and whatever names one of them. Those of a SentencePiece
// model itself stay in it.
void keep_first_tokens(Vocabulary& vocabulary, size_t count);

std::unique_ptr<Tokenizer> make_tokenizer(const Vocabulary& vocabulary);

}  // namespace strata
