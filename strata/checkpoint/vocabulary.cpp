#include "strata/checkpoint/bpe_tokenizer.h"
#include "strata/checkpoint/special_tokens.h"
#include "strata/checkpoint/tokenizer.h"
#include "strata/checkpoint/tokenizer_json.h"
#include "strata/core/error.h"
#include "strata/core/json.h"
#include "strata/core/text.h"

namespace strata {
namespace fs = std::filesystem;

Vocabulary read_vocabulary(const fs::path& directory) {
  const fs::path json = directory / "tokenizer.json";
  if (!fs::is_regular_file(json)) fail("{} has no tokenizer.json", directory.string());
  const LargeJson document = read_large_json(json);
  std::string kind;
  if (!is_byte_level_bpe(document, kind))
    fail("{} holds a tokenizer of {}, which is not supported; byte-level BPE was expected", json.string(),
         printable(kind));
  Vocabulary vocabulary = vocabulary_from_json(document, json);
  read_special_tokens(directory, vocabulary);
  return vocabulary;
}

std::unique_ptr<Tokenizer> make_tokenizer(const Vocabulary& vocabulary) {
  return make_bpe_tokenizer(vocabulary);
}

}  // namespace strata
