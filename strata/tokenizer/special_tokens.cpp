#include "strata/tokenizer/special_tokens.h"

#include <algorithm>

#include "strata/core/error.h"
#include "strata/core/file.h"
#include "strata/core/json.h"
#include "strata/core/progress.h"
#include "strata/core/text.h"
#include "strata/tokenizer/json_fields.h"

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
  const char* usual_piece;  // in SentencePiece models
};

constexpr SpecialToken kSpecialTokens[] = {{&Vocabulary::bos, "bos_token", "bos_token_id", "<s>"},
                                           {&Vocabulary::eos, "eos_token", "eos_token_id", "</s>"},
                                           {&Vocabulary::unknown, "unk_token", nullptr, ""},
                                           {&Vocabulary::padding, "pad_token", "pad_token_id", ""}};

// A token is given as a string or as an object with its content.
std::string token_of(const LargeJson& document, const char* key) {
  const std::string text = text_of(document, key);
  return text.empty() ? text_of(field(document, key), "content") : text;
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
  if (!value.is_number_unsigned())
    fail("{}: {} is {}; an id below the tokenizer's {} tokens was expected", path.string(), key,
         printable(value.dump(-1, ' ', true, LargeJson::error_handler_t::replace)), vocabulary.tokens.size());
  if (value.get<uint64_t>() >= vocabulary.tokens.size()) {
    show_note(fmt::format("{}: {} is {}, beyond the tokenizer's {} tokens, and is left out", path.string(),
                          key, value.get<uint64_t>(), vocabulary.tokens.size()));
    return std::nullopt;
  }
  return value.get<int32_t>();
}

void read_chat_template(const fs::path& directory, const LargeJson& config, Vocabulary& vocabulary) {
  vocabulary.chat_template = text_of(config, "chat_template");
  const LargeJson& templates = field(config, "chat_template");
  // Where there are several named ones, the one called "default" is what applies.
  if (templates.is_array())
    for (const LargeJson& entry : templates)
      if (text_of(entry, "name") == "default") vocabulary.chat_template = text_of(entry, "template");
  if (fs::is_regular_file(directory / "chat_template.jinja"))
    vocabulary.chat_template = read_text(directory / "chat_template.jinja");
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
    if (!id && vocabulary.model == Vocabulary::Model::SentencePiece)
      id = find_token(vocabulary, special.usual_piece);
  }
  vocabulary.add_bos = flag_of(tokenizer_config, "add_bos_token", vocabulary.add_bos) && vocabulary.bos;
  vocabulary.add_eos = flag_of(tokenizer_config, "add_eos_token", vocabulary.add_eos) && vocabulary.eos;
  read_chat_template(directory, tokenizer_config, vocabulary);
}

}  // namespace strata
