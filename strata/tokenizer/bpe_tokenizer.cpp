#include "strata/tokenizer/bpe_tokenizer.h"

#include <array>
#include <deque>
#include <queue>
#include <unordered_map>
#include <unordered_set>

#include "strata/core/error.h"
#include "strata/core/text.h"
#include "strata/tokenizer/added_tokens.h"
#include "strata/tokenizer/byte_alphabet.h"
#include "strata/tokenizer/merge_table.h"
#include "strata/tokenizer/unicode_normalization.h"
#include "strata/tokenizer/word_splitter.h"

namespace strata {
namespace {

using TokenIds = std::unordered_map<std::string_view, int32_t>;

TokenIds token_ids(const Vocabulary& vocabulary) {
  TokenIds ids;
  ids.reserve(vocabulary.tokens.size());
  for (size_t i = 0; i < vocabulary.tokens.size(); ++i)
    if (vocabulary.types[i] != Vocabulary::TokenType::Unused)
      ids.emplace(vocabulary.tokens[i], static_cast<int32_t>(i));
  return ids;
}

int32_t id_of(const TokenIds& ids, std::string_view token, const std::string& merge) {
  const auto found = ids.find(token);
  if (found == ids.end())
    fail("the tokenizer merges \"{}\", but its vocabulary has no token \"{}\"; it is damaged",
         printable(merge), printable(token));
  return found->second;
}

MergeTable merge_table(const Vocabulary& vocabulary, const TokenIds& ids) {
  MergeTable table(vocabulary.merges.size());
  for (size_t rank = 0; rank < vocabulary.merges.size(); ++rank) {
    const std::string& merge = vocabulary.merges[rank];
    const size_t space = merge.find(' ');
    if (space == std::string::npos)
      fail("the tokenizer's merge \"{}\" is not a pair of tokens", printable(merge));
    const std::string left = merge.substr(0, space), right = merge.substr(space + 1);
    table.insert(id_of(ids, left, merge), id_of(ids, right, merge),
                 {static_cast<int32_t>(rank), id_of(ids, left + right, merge)});
  }
  return table;
}

std::array<int32_t, 256> byte_tokens(const Vocabulary& vocabulary, const TokenIds& ids) {
  std::array<int32_t, 256> tokens;
  for (size_t byte = 0; byte < tokens.size(); ++byte) {
    const char character = static_cast<char>(byte);
    const auto found = ids.find(to_byte_alphabet({&character, 1}));
    tokens[byte] = found != ids.end() ? found->second : vocabulary.unknown.value_or(-1);
  }
  return tokens;
}

std::vector<AddedTokenSplitter::Token> added_tokens(const Vocabulary& vocabulary, bool normalized) {
  std::vector<AddedTokenSplitter::Token> tokens;
  for (const Vocabulary::AddedToken& added : vocabulary.added) {
    if (added.normalized != normalized) continue;
    const std::string& content = vocabulary.tokens.at(static_cast<size_t>(added.id));
    tokens.push_back({normalized && vocabulary.normalize_nfc ? normalize_nfc(content) : content, added});
  }
  return tokens;
}

// The tokens of one word while they are merged: a list linked by position, and the possible merges, lowest
// rank first and from left to right within a rank.
class WordMerger {
 public:
  explicit WordMerger(const MergeTable& table) : table_(table) {}

  // Appends the word's tokens to `ids`. `word` holds the tokens of its bytes.
  void merge(const std::vector<int32_t>& word, std::vector<int32_t>& ids) {
    begin(word);
    while (!candidates_.empty()) {
      const Candidate best = candidates_.top();
      candidates_.pop();
      Symbol& left = symbols_[best.position];
      if (left.token != best.left || left.next < 0) continue;
      const Symbol right = symbols_[static_cast<size_t>(left.next)];
      if (right.token != best.right) continue;  // one of the two was merged with another in the meantime
      symbols_[static_cast<size_t>(left.next)].token = -1;
      left.token = best.result;
      left.next = right.next;
      if (right.next >= 0)
        symbols_[static_cast<size_t>(right.next)].previous = static_cast<int32_t>(best.position);
      if (left.previous >= 0) consider(static_cast<size_t>(left.previous));
      consider(best.position);
    }
    for (int32_t i = 0; i >= 0; i = symbols_[static_cast<size_t>(i)].next)
      ids.push_back(symbols_[static_cast<size_t>(i)].token);
  }

 private:
  struct Symbol {
    int32_t token, previous, next;
  };
  struct Candidate {
    int32_t rank;
    size_t position;
    int32_t left, right, result;
    bool operator<(const Candidate& other) const {  // the queue gives the greatest first
      return rank != other.rank ? rank > other.rank : position > other.position;
    }
  };

  void begin(const std::vector<int32_t>& word) {
    const auto count = static_cast<int32_t>(word.size());
    symbols_.resize(word.size());
    for (int32_t i = 0; i < count; ++i)
      symbols_[static_cast<size_t>(i)] = {word[static_cast<size_t>(i)], i - 1, i + 1 < count ? i + 1 : -1};
    for (size_t i = 0; i + 1 < word.size(); ++i) consider(i);
  }

  void consider(size_t position) {
    const Symbol& left = symbols_[position];
    if (left.next < 0) return;
    const int32_t right = symbols_[static_cast<size_t>(left.next)].token;
    const MergeTable::Merge merge = table_.find(left.token, right);
    if (merge.rank >= 0) candidates_.push({merge.rank, position, left.token, right, merge.token});
  }

  const MergeTable& table_;
  std::vector<Symbol> symbols_;
  std::priority_queue<Candidate> candidates_;
};

class BpeTokenizer final : public Tokenizer {
 public:
  explicit BpeTokenizer(const Vocabulary& vocabulary)
      : vocabulary_(vocabulary),
        ids_(token_ids(vocabulary_)),
        merges_(merge_table(vocabulary_, ids_)),
        byte_tokens_(byte_tokens(vocabulary_, ids_)),
        splitter_(vocabulary_.word_patterns),
        exact_(added_tokens(vocabulary_, false)),
        normalized_(added_tokens(vocabulary_, true)) {
    for (const auto& added : vocabulary_.added) is_added_.insert(added.id);
  }

  std::vector<int32_t> encode(std::string_view text, bool add_special) const override {
    Encoding encoding(*this);
    if (add_special && vocabulary_.add_bos && vocabulary_.bos) encoding.ids.push_back(*vocabulary_.bos);
    exact_.split(text, [&](std::string_view piece, std::optional<int32_t> id) {
      if (id)
        encoding.ids.push_back(*id);
      else
        encode_normalized(vocabulary_.normalize_nfc ? encoding.keep(normalize_nfc(piece)) : piece, encoding);
    });
    if (add_special && vocabulary_.add_eos && vocabulary_.eos) encoding.ids.push_back(*vocabulary_.eos);
    return std::move(encoding.ids);
  }

  std::string decode(const std::vector<int32_t>& ids) const override {
    std::string text;
    for (const int32_t id : ids) {
      if (id < 0 || static_cast<size_t>(id) >= vocabulary_.tokens.size())
        fail("the token id {} is outside the vocabulary of {} tokens", id, vocabulary_.tokens.size());
      const std::string& token = vocabulary_.tokens[static_cast<size_t>(id)];
      text += is_added_.count(id) > 0 ? token : from_byte_alphabet(token);
    }
    return text;
  }

 private:
  // The state of one call: the ids so far, and where among them the tokens of each word seen before stand.
  struct Encoding {
    explicit Encoding(const BpeTokenizer& tokenizer) : merger(tokenizer.merges_) {}

    std::string_view keep(std::string text) { return kept.emplace_back(std::move(text)); }

    std::vector<int32_t> ids, bytes;
    WordMerger merger;
    std::unordered_map<std::string_view, std::pair<size_t, size_t>> seen;
    std::deque<std::string> kept;  // texts made on the way, since `seen` points into them
  };

  void encode_normalized(std::string_view text, Encoding& encoding) const {
    normalized_.split(text, [&](std::string_view piece, std::optional<int32_t> id) {
      if (id) {
        encoding.ids.push_back(*id);
        return;
      }
      if (vocabulary_.add_prefix_space && piece[0] != ' ') piece = encoding.keep(' ' + std::string(piece));
      splitter_.split(piece, [&](std::string_view word) { encode_word(word, encoding); });
    });
  }

  void encode_word(std::string_view word, Encoding& encoding) const {
    std::vector<int32_t>& ids = encoding.ids;
    const size_t begin = ids.size();
    const auto [known, fresh] = encoding.seen.try_emplace(word, begin, 0);
    if (!fresh) {
      const auto [first, count] = known->second;
      for (size_t i = 0; i < count; ++i) ids.push_back(ids[first + i]);
      return;
    }
    if (!(vocabulary_.ignore_merges && push_whole_word(word, ids))) {
      encoding.bytes.clear();
      for (const char byte : word) {
        const int32_t token = byte_tokens_[static_cast<uint8_t>(byte)];
        if (token >= 0) encoding.bytes.push_back(token);  // bytes without a token are dropped
      }
      if (!encoding.bytes.empty()) encoding.merger.merge(encoding.bytes, ids);
    }
    known->second.second = ids.size() - begin;
  }

  bool push_whole_word(std::string_view word, std::vector<int32_t>& ids) const {
    const auto found = ids_.find(to_byte_alphabet(word));
    if (found == ids_.end()) return false;
    ids.push_back(found->second);
    return true;
  }

  const Vocabulary vocabulary_;
  const TokenIds ids_;  // points into the vocabulary's tokens
  const MergeTable merges_;
  const std::array<int32_t, 256> byte_tokens_;
  const WordSplitter splitter_;
  const AddedTokenSplitter exact_, normalized_;
  std::unordered_set<int32_t> is_added_;
};

}  // namespace

std::unique_ptr<Tokenizer> make_bpe_tokenizer(const Vocabulary& vocabulary) {
  return std::make_unique<BpeTokenizer>(vocabulary);
}

}  // namespace strata
