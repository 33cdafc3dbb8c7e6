#include "strata/tokenizer/gguf_vocabulary.h"

#include <algorithm>

#include "strata/core/error.h"
#include "strata/core/progress.h"
#include "strata/core/text.h"
#include "strata/tokenizer/pre_tokenizers.h"
#include "strata/tokenizer/sentencepiece_model.h"

namespace strata {
namespace {

using TokenType = Vocabulary::TokenType;

// Finds the keys under tokenizer.ggml and checks their types.
class Keys {
 public:
  Keys(const std::vector<GgufKey>& keys, const std::string& where) : keys_(keys), where_(where) {}

  const GgufValue* find(const std::string& name) const {
    const auto found =
        std::find_if(keys_.begin(), keys_.end(), [&](const GgufKey& key) { return key.name == name; });
    return found == keys_.end() ? nullptr : &found->value;
  }

  // The key's value as one of GgufValue's alternatives; null when the key is missing.
  template <class T>
  const T* get(const std::string& name, const char* expected) const {
    const GgufValue* value = find(name);
    if (value == nullptr) return nullptr;
    const T* content = std::get_if<T>(&value->value);
    if (content == nullptr) fail("{}: the key {} is not {}", where_, name, expected);
    return content;
  }

  template <class T>
  const T& require(const std::string& name, const char* expected) const {
    const T* content = get<T>(name, expected);
    if (content == nullptr)
      fail("{} has no key {}, without which its tokenizer cannot be built", where_, name);
    return *content;
  }

  std::optional<int32_t> token_id(const std::string& name, size_t count) const {
    const GgufValue* value = find(name);
    if (value == nullptr) return std::nullopt;
    const std::optional<int64_t> id = gguf_integer(*value);
    if (!id || *id < 0) fail("{}: the key {} is not an id below the {} tokens", where_, name, count);
    if (*id >= static_cast<int64_t>(count)) {
      show_note(fmt::format("{}: the key {} is {}, beyond the {} tokens, and is left out", where_, name, *id,
                            count));
      return std::nullopt;
    }
    return static_cast<int32_t>(*id);
  }

  bool flag(const std::string& name, bool missing) const {
    const bool* value = get<bool>(name, "a truth value");
    return value == nullptr ? missing : *value;
  }

 private:
  const std::vector<GgufKey>& keys_;
  const std::string& where_;
};

void read_tokens(const Keys& keys, const std::string& where, Vocabulary& vocabulary) {
  vocabulary.tokens = keys.require<std::vector<std::string>>("tokenizer.ggml.tokens", "an array of strings");
  const size_t count = vocabulary.tokens.size();
  if (count == 0) fail("{}: the key tokenizer.ggml.tokens is empty", where);
  vocabulary.types.assign(count, TokenType::Normal);
  if (const auto* types =
          keys.get<std::vector<int64_t>>("tokenizer.ggml.token_type", "an array of integers")) {
    if (types->size() != count)
      fail("{}: tokenizer.ggml.token_type has {} entries for {} tokens", where, types->size(), count);
    for (size_t i = 0; i < count; ++i) {
      if ((*types)[i] < 1 || (*types)[i] > 6)
        fail("{}: token {} has type {}; 1 to 6 were expected", where, i, (*types)[i]);
      vocabulary.types[i] = static_cast<TokenType>((*types)[i]);
    }
  }
  for (size_t i = 0; i < count; ++i)
    if (vocabulary.types[i] == TokenType::Control || vocabulary.types[i] == TokenType::UserDefined)
      vocabulary.added.push_back({static_cast<int32_t>(i)});
}

void read_bpe(const Keys& keys, const std::string& where, Vocabulary& vocabulary) {
  const auto* name = keys.get<std::string>("tokenizer.ggml.pre", "a string");
  vocabulary.pre_tokenizer = name == nullptr ? "default" : *name;
  if (name == nullptr)
    show_note(
        where +
        " does not say how its text is cut into words (tokenizer.ggml.pre): llama.cpp's default is taken");
  if (!set_pre_tokenizer(vocabulary, vocabulary.pre_tokenizer))
    fail("{}: the pre-tokenizer \"{}\" (key tokenizer.ggml.pre) is not supported; known are {}", where,
         printable(vocabulary.pre_tokenizer), known_pre_tokenizers());
  vocabulary.merges = keys.require<std::vector<std::string>>("tokenizer.ggml.merges", "an array of strings");
}

void read_sentencepiece(const Keys& keys, const std::string& where, Vocabulary& vocabulary) {
  vocabulary.pre_tokenizer = "default";
  const auto& scores = keys.require<std::vector<double>>("tokenizer.ggml.scores", "an array of numbers");
  if (scores.size() != vocabulary.tokens.size())
    fail("{}: tokenizer.ggml.scores has {} entries for {} tokens", where, scores.size(),
         vocabulary.tokens.size());
  vocabulary.scores.assign(scores.begin(), scores.end());
  vocabulary.add_prefix_space = keys.flag("tokenizer.ggml.add_space_prefix", true);
  if (vocabulary.unigram) {
    vocabulary.removes_spaces = keys.flag("tokenizer.ggml.remove_extra_whitespaces", false);
    if (const auto* bytes =
            keys.get<std::vector<int64_t>>("tokenizer.ggml.precompiled_charsmap", "an array of bytes"))
      vocabulary.replacements.assign(bytes->begin(), bytes->end());
  }
  vocabulary.sentencepiece_model = build_sentencepiece_model(vocabulary, where);
}

}  // namespace

std::vector<GgufKey> vocabulary_keys(const Vocabulary& vocabulary) {
  if (vocabulary.pre_tokenizer.empty())
    fail(
        "the tokenizer cuts text in a way that llama.cpp has no name for, so that no GGUF file can be "
        "written from it");
  const bool bpe = vocabulary.model == Vocabulary::Model::Bpe;
  const char* const model = bpe ? "gpt2" : vocabulary.unigram ? "t5" : "llama";
  std::vector<int64_t> types;
  for (const TokenType type : vocabulary.types) types.push_back(static_cast<int64_t>(type));
  std::vector<GgufKey> keys = {{"tokenizer.ggml.model", gguf_string(model)},
                               {"tokenizer.ggml.pre", gguf_string(vocabulary.pre_tokenizer)},
                               {"tokenizer.ggml.tokens", gguf_strings(vocabulary.tokens)}};
  if (!bpe)
    keys.push_back(
        {"tokenizer.ggml.scores", gguf_f32s({vocabulary.scores.begin(), vocabulary.scores.end()})});
  keys.push_back({"tokenizer.ggml.token_type", gguf_i32s(std::move(types))});
  if (bpe) keys.push_back({"tokenizer.ggml.merges", gguf_strings(vocabulary.merges)});
  const std::pair<const char*, std::optional<int32_t>> ids[] = {
      {"tokenizer.ggml.bos_token_id", vocabulary.bos},
      {"tokenizer.ggml.eos_token_id", vocabulary.eos},
      {"tokenizer.ggml.unknown_token_id", vocabulary.unknown},
      {"tokenizer.ggml.padding_token_id", vocabulary.padding}};
  for (const auto& [name, id] : ids)
    if (id) keys.push_back({name, gguf_u32(static_cast<uint32_t>(*id))});
  keys.push_back({"tokenizer.ggml.add_bos_token", gguf_bool(vocabulary.add_bos)});
  keys.push_back({"tokenizer.ggml.add_eos_token", gguf_bool(vocabulary.add_eos)});
  if (!bpe) keys.push_back({"tokenizer.ggml.add_space_prefix", gguf_bool(vocabulary.add_prefix_space)});
  if (vocabulary.unigram) {
    keys.push_back({"tokenizer.ggml.remove_extra_whitespaces", gguf_bool(vocabulary.removes_spaces)});
    if (!vocabulary.replacements.empty())
      keys.push_back({"tokenizer.ggml.precompiled_charsmap", gguf_bytes(vocabulary.replacements)});
  }
  if (!vocabulary.chat_template.empty())
    keys.push_back({"tokenizer.chat_template", gguf_string(vocabulary.chat_template)});
  return keys;
}

Vocabulary vocabulary_from_keys(const std::vector<GgufKey>& key_list, const std::string& where) {
  const Keys keys(key_list, where);
  const auto& model = keys.require<std::string>("tokenizer.ggml.model", "a string");
  if (model != "gpt2" && model != "llama" && model != "t5")
    fail("{}: the tokenizer model \"{}\" (key tokenizer.ggml.model) is not supported; gpt2, llama and t5 are",
         where, printable(model));
  Vocabulary vocabulary;
  vocabulary.model = model == "gpt2" ? Vocabulary::Model::Bpe : Vocabulary::Model::SentencePiece;
  vocabulary.unigram = model == "t5";
  read_tokens(keys, where, vocabulary);
  const size_t count = vocabulary.tokens.size();
  vocabulary.bos = keys.token_id("tokenizer.ggml.bos_token_id", count);
  vocabulary.eos = keys.token_id("tokenizer.ggml.eos_token_id", count);
  vocabulary.unknown = keys.token_id("tokenizer.ggml.unknown_token_id", count);
  vocabulary.padding = keys.token_id("tokenizer.ggml.padding_token_id", count);
  if (model == "gpt2")
    read_bpe(keys, where, vocabulary);
  else
    read_sentencepiece(keys, where, vocabulary);
  // llama.cpp's defaults for files that do not say.
  const bool bos_by_default = model == "llama" || vocabulary.ignore_merges;
  vocabulary.add_bos = keys.flag("tokenizer.ggml.add_bos_token", bos_by_default) && vocabulary.bos;
  vocabulary.add_eos = keys.flag("tokenizer.ggml.add_eos_token", false) && vocabulary.eos;
  if (const auto* chat_template = keys.get<std::string>("tokenizer.chat_template", "a string"))
    vocabulary.chat_template = *chat_template;
  return vocabulary;
}

}  // namespace strata
