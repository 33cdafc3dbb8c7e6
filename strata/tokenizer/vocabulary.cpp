#include <algorithm>

#include "strata/core/error.h"
#include "strata/core/file.h"
#include "strata/core/json.h"
#include "strata/core/text.h"
#include "strata/tokenizer/bpe_tokenizer.h"
#include "strata/tokenizer/json_fields.h"
#include "strata/tokenizer/sentencepiece_model.h"
#include "strata/tokenizer/sentencepiece_tokenizer.h"
#include "strata/tokenizer/special_tokens.h"
#include "strata/tokenizer/tokenizer.h"
#include "strata/tokenizer/tokenizer_json.h"

namespace strata {
namespace fs = std::filesystem;
namespace {

constexpr float kAddedTokenScore = -1000;  // llama.cpp's, for tokens that the SentencePiece model lacks

void add_token(Vocabulary& vocabulary, Vocabulary::AddedToken flags, const std::string& content, bool special,
               const fs::path& where) {
  const auto id = static_cast<size_t>(flags.id);
  const auto type = special ? Vocabulary::TokenType::Control : Vocabulary::TokenType::UserDefined;
  if (content.empty() || id > vocabulary.tokens.size() + 65536)
    fail("{}: the added token \"{}\" has the id {}, far beyond the {} tokens before it", where.string(),
         printable(content), flags.id, vocabulary.tokens.size());
  while (vocabulary.tokens.size() <= id) {
    vocabulary.tokens.push_back(fmt::format("[PAD{}]", vocabulary.tokens.size()));
    vocabulary.types.push_back(Vocabulary::TokenType::Unused);
    vocabulary.scores.push_back(kAddedTokenScore);
  }
  if (vocabulary.types[id] == Vocabulary::TokenType::Unused) {
    vocabulary.tokens[id] = content;
    vocabulary.types[id] = type;
  }
  const auto known = std::find_if(vocabulary.added.begin(), vocabulary.added.end(),
                                  [&](const auto& added) { return added.id == flags.id; });
  if (known != vocabulary.added.end())
    *known = flags;
  else if (vocabulary.tokens[id] == content)
    vocabulary.added.push_back(flags);
}

// added_tokens.json ({"<pad>": 32000}) and the added_tokens_decoder of tokenizer_config.json.
void read_added_tokens(const fs::path& directory, Vocabulary& vocabulary) {
  const fs::path list = directory / "added_tokens.json";
  if (fs::is_regular_file(list)) {
    const LargeJson document = read_large_json(list);
    std::vector<std::pair<int32_t, std::string>> tokens;
    for (const auto& [content, id] : document.items()) {
      if (!id.is_number_unsigned() || id.get<uint64_t>() > (1u << 24))
        fail("{}: the token \"{}\" has no id", list.string(), printable(content));
      tokens.emplace_back(id.get<int32_t>(), content);
    }
    std::sort(tokens.begin(), tokens.end());
    for (const auto& [id, content] : tokens) add_token(vocabulary, {id}, content, false, list);
  }
  const fs::path config = directory / "tokenizer_config.json";
  if (!fs::is_regular_file(config)) return;
  const LargeJson document = read_large_json(config);
  std::vector<std::pair<int32_t, const LargeJson*>> tokens;
  for (const auto& [id, token] : field(document, "added_tokens_decoder").items()) {
    const bool number =
        !id.empty() && id.size() < 9 && id.find_first_not_of("0123456789") == std::string::npos;
    if (!number || text_of(token, "content").empty())
      fail("{}: the entry \"{}\" of added_tokens_decoder is not an id with its token", config.string(),
           printable(id));
    tokens.emplace_back(std::stoi(id), &token);
  }
  std::sort(tokens.begin(), tokens.end());
  for (const auto& [id, token] : tokens) {
    add_token(vocabulary,
              {id, flag_of(*token, "lstrip"), flag_of(*token, "rstrip"), flag_of(*token, "single_word"),
               flag_of(*token, "normalized")},
              text_of(*token, "content"), flag_of(*token, "special"), config);
  }
}

Vocabulary read_sentencepiece(const fs::path& directory) {
  const fs::path model = directory / "tokenizer.model";
  Vocabulary vocabulary = parse_sentencepiece_model(read_text(model), model.string());
  read_added_tokens(directory, vocabulary);
  vocabulary.add_bos = true;  // unless tokenizer_config.json says otherwise
  read_special_tokens(directory, vocabulary);
  return vocabulary;
}

}  // namespace

Vocabulary read_vocabulary(const fs::path& directory) {
  const fs::path json = directory / "tokenizer.json";
  const bool has_model = fs::is_regular_file(directory / "tokenizer.model");
  if (!fs::is_regular_file(json)) {
    if (has_model) return read_sentencepiece(directory);
    fail("{} has no tokenizer.json and no tokenizer.model", directory.string());
  }
  const LargeJson document = read_large_json(json);
  std::string kind;
  if (!is_byte_level_bpe(document, kind)) {
    if (has_model) return read_sentencepiece(directory);
    if (is_sentencepiece(document)) {
      Vocabulary vocabulary = sentencepiece_from_json(document, json);
      read_special_tokens(directory, vocabulary);
      return vocabulary;
    }
    fail(
        "{} holds a tokenizer of {}, which is not supported; byte-level BPE, what SentencePiece does, or a "
        "tokenizer.model beside it was expected",
        json.string(), printable(kind));
  }
  Vocabulary vocabulary = vocabulary_from_json(document, json);
  read_special_tokens(directory, vocabulary);
  return vocabulary;
}

void keep_first_tokens(Vocabulary& vocabulary, size_t count) {
  if (vocabulary.tokens.size() <= count) return;
  vocabulary.tokens.resize(count);
  vocabulary.types.resize(count);
  if (!vocabulary.scores.empty()) vocabulary.scores.resize(count);
  const auto is_left_out = [&](int32_t id) { return static_cast<size_t>(id) >= count; };
  vocabulary.added.erase(std::remove_if(vocabulary.added.begin(), vocabulary.added.end(),
                                        [&](const auto& token) { return is_left_out(token.id); }),
                         vocabulary.added.end());
  for (std::optional<int32_t>* id :
       {&vocabulary.bos, &vocabulary.eos, &vocabulary.unknown, &vocabulary.padding})
    if (*id && is_left_out(**id)) id->reset();
  vocabulary.add_bos = vocabulary.add_bos && vocabulary.bos;
  vocabulary.add_eos = vocabulary.add_eos && vocabulary.eos;
}

std::unique_ptr<Tokenizer> make_tokenizer(const Vocabulary& vocabulary) {
  return vocabulary.model == Vocabulary::Model::Bpe ? make_bpe_tokenizer(vocabulary)
                                                    : make_sentencepiece_tokenizer(vocabulary);
}

}  // namespace strata
