#include "strata/tokenizer/sentencepiece_tokenizer.h"

#include <unordered_set>

#include "strata/core/error.h"
#include "strata/tokenizer/added_tokens.h"
#include "strata/tokenizer/sentencepiece_library.h"

namespace strata {
namespace {

std::vector<AddedTokenSplitter::Token> added_tokens(const Vocabulary& vocabulary) {
  std::vector<AddedTokenSplitter::Token> tokens;
  for (const Vocabulary::AddedToken& added : vocabulary.added)
    tokens.push_back({vocabulary.tokens.at(static_cast<size_t>(added.id)), added});
  return tokens;
}

class SentencePieceTokenizer final : public Tokenizer {
 public:
  explicit SentencePieceTokenizer(const Vocabulary& vocabulary)
      : vocabulary_(vocabulary), model_(vocabulary.sentencepiece_model), splitter_(added_tokens(vocabulary)) {
    for (const auto& added : vocabulary_.added) is_added_.insert(added.id);
  }

  std::vector<int32_t> encode(std::string_view text, bool add_special) const override {
    std::vector<int32_t> ids;
    if (add_special && vocabulary_.add_bos && vocabulary_.bos) ids.push_back(*vocabulary_.bos);
    splitter_.split(text, [&](std::string_view piece, std::optional<int32_t> id) {
      if (id) {
        ids.push_back(*id);
        return;
      }
      const bool lacks_prefix = vocabulary_.space_is_prefix && piece.front() != ' ';
      const std::vector<int32_t> encoded = model_.encode(lacks_prefix ? " " + std::string(piece) : piece);
      ids.insert(ids.end(), encoded.begin(), encoded.end());
    });
    if (add_special && vocabulary_.add_eos && vocabulary_.eos) ids.push_back(*vocabulary_.eos);
    return ids;
  }

  std::string decode(const std::vector<int32_t>& ids) const override {
    std::string text;
    std::vector<int32_t> run;  // tokens between added ones
    const auto decode_run = [&] {
      const std::string decoded = model_.decode(run);
      const bool has_prefix = vocabulary_.space_is_prefix && !decoded.empty() && decoded.front() == ' ';
      text += has_prefix ? decoded.substr(1) : decoded;
      run.clear();
    };
    for (const int32_t id : ids) {
      if (id < 0 || static_cast<size_t>(id) >= vocabulary_.tokens.size())
        fail("the token id {} is outside the vocabulary of {} tokens", id, vocabulary_.tokens.size());
      const bool beyond_model = id >= model_.size();
      if (!beyond_model && is_added_.count(id) == 0) {
        run.push_back(id);
        continue;
      }
      decode_run();
      text += vocabulary_.tokens[static_cast<size_t>(id)];
    }
    decode_run();
    return text;
  }

 private:
  const Vocabulary vocabulary_;
  const SentencePieceModel model_;
  const AddedTokenSplitter splitter_;
  std::unordered_set<int32_t> is_added_;
};

}  // namespace

std::unique_ptr<Tokenizer> make_sentencepiece_tokenizer(const Vocabulary& vocabulary) {
  return std::make_unique<SentencePieceTokenizer>(vocabulary);
}

}  // namespace strata
