#include "strata/checkpoint/special_tokens.h"

#include <algorithm>

#include "strata/core/error.h"
#include "strata/core/file.h"
#include "strata/core/json.h"
#include "strata/core/text.h"

namespace strata {
namespace fs = std::filesystem;
namespace {

LargeJson read_object(const fs::path& path) {
  if (!fs::is_regular_file(path)) return LargeJson::object();
  LargeJson document = read_large_json(path);
  if (!document.is_object()) fail("{} is not a JSON object", path.string());
  return document;
}

struct SpecialToken {
  std::optional<int32_t> Vocabulary::*id;
  const char* token_key;
  const char* id_key;
};

constexpr SpecialToken kSpecialTokens[] = {{&Vocabulary::bos, "bos_token", "bos_token_id"},
                                           {&Vocabulary::eos, "eos_token", "eos_token_id"},
                                           {&Vocabulary::unknown, "unk_token", nullptr},
                                           {&Vocabulary::padding, "pad_token", "pad_token_id"}};

// A token is given as a string or as an object with its content.
std::string token_of(const LargeJson& document, const char* key) {
  const auto found = document.find(key);
  if (found == document.end()) return {};
  if (found->is_string()) return found->get<std::string>();
  if (found->is_object() && found->contains("content") && (*found)["content"].is_string())
    return (*found)["content"].get<std::string>();
  return {};
}

std::optional<int32_t> find_token(const Vocabulary& vocabulary, const std::string& token) {
  if (token.empty()) return std::nullopt;
  const auto found = std::find(vocabulary.tokens.begin(), vocabulary.tokens.end(), token);
  if (found == vocabulary.tokens.end()) return std::nullopt;
  return static_cast<int32_t>(found - vocabulary.tokens.begin());
}

// An id, or the first of a list of them.
std::optional<int32_t> id_of(const LargeJson& document, const char* key, const Vocabulary& vocabulary,
                             const fs::path& path) {
  const auto found = document.find(key);
  if (found == document.end() || found->is_null()) return std::nullopt;
  const LargeJson value = found->is_array() && !found->empty() ? found->front() : *found;
  if (value.is_number_integer() && value.get<int64_t>() == -1)
    return std::nullopt;  // the custom of "no padding"
  if (!value.is_number_unsigned() || value.get<uint64_t>() >= vocabulary.tokens.size())
    fail("{}: {} is {}; an id below the tokenizer's {} tokens was expected", path.string(), key,
         printable(value.dump(-1, ' ', true, LargeJson::error_handler_t::replace)), vocabulary.tokens.size());
  return value.get<int32_t>();
}

void read_chat_template(const fs::path& directory, const LargeJson& config, Vocabulary& vocabulary) {
  const auto found = config.find("chat_template");
  if (found != config.end() && found->is_string()) vocabulary.chat_template = found->get<std::string>();
  if (found != config.end() && found->is_array()) {
    // Several named ones; the one called "default" is what applies.
    for (const LargeJson& entry : *found)
      if (token_of(entry.is_object() ? entry : LargeJson::object(), "name") == "default")
        vocabulary.chat_template = token_of(entry, "template");
  }
  if (fs::is_regular_file(directory / "chat_template.jinja"))
    vocabulary.chat_template = read_text(directory / "chat_template.jinja");
}

void read_flag(const LargeJson& config, const char* key, bool& flag) {
  const auto found = config.find(key);
  if (found != config.end() && found->is_boolean()) flag = found->get<bool>();
}

}  // namespace

void read_special_tokens(const fs::path& directory, Vocabulary& vocabulary) {
  const LargeJson tokenizer_config = read_object(directory / "tokenizer_config.json");
  const LargeJson special_tokens = read_object(directory / "special_tokens_map.json");
  for (const SpecialToken& special : kSpecialTokens) {
    std::optional<int32_t>& id = vocabulary.*special.id;
    for (const LargeJson* document : {&tokenizer_config, &special_tokens})
      if (!id) id = find_token(vocabulary, token_of(*document, special.token_key));
    for (const char* name : {"generation_config.json", "config.json"})
      if (!id && special.id_key != nullptr)
        id = id_of(read_object(directory / name), special.id_key, vocabulary, directory / name);
  }
  read_flag(tokenizer_config, "add_bos_token", vocabulary.add_bos);
  read_flag(tokenizer_config, "add_eos_token", vocabulary.add_eos);
  vocabulary.add_bos = vocabulary.add_bos && vocabulary.bos.has_value();
  vocabulary.add_eos = vocabulary.add_eos && vocabulary.eos.has_value();
  read_chat_template(directory, tokenizer_config, vocabulary);
}

}  // namespace strata
