#include "strata/checkpoint/sentencepiece_tokenizer.h"

#include <sentencepiece_processor.h>

#include <unordered_set>

#include "strata/checkpoint/added_tokens.h"
#include "strata/core/error.h"
#include "strata/core/text.h"

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
      : vocabulary_(vocabulary), splitter_(added_tokens(vocabulary)) {
    check(processor_.LoadFromSerializedProto(vocabulary_.sentencepiece_model), "the model is refused");
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
      std::vector<int> encoded;
      check(processor_.Encode({piece.data(), piece.size()}, &encoded), "text cannot be encoded");
      ids.insert(ids.end(), encoded.begin(), encoded.end());
    });
    if (add_special && vocabulary_.add_eos && vocabulary_.eos) ids.push_back(*vocabulary_.eos);
    return ids;
  }

  std::string decode(const std::vector<int32_t>& ids) const override {
    std::string text;
    std::vector<int> run;  // tokens between added ones
    const auto decode_run = [&] {
      std::string decoded;
      check(processor_.Decode(run, &decoded), "tokens cannot be decoded");
      text += decoded;
      run.clear();
    };
    for (const int32_t id : ids) {
      if (id < 0 || static_cast<size_t>(id) >= vocabulary_.tokens.size())
        fail("the token id {} is outside the vocabulary of {} tokens", id, vocabulary_.tokens.size());
      const bool beyond_model = id >= processor_.GetPieceSize();
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
  static void check(const sentencepiece::util::Status& status, const char* what) {
    if (!status.ok()) fail("SentencePiece: {}: {}", what, printable(status.ToString(), 300));
  }

  const Vocabulary vocabulary_;
  sentencepiece::SentencePieceProcessor processor_;
  const AddedTokenSplitter splitter_;
  std::unordered_set<int32_t> is_added_;
};

}  // namespace

std::unique_ptr<Tokenizer> make_sentencepiece_tokenizer(const Vocabulary& vocabulary) {
  return std::make_unique<SentencePieceTokenizer>(vocabulary);
}

}  // namespace strata
