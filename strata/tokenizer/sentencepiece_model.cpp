#include "strata/tokenizer/sentencepiece_model.h"

#include <algorithm>

#include "strata/core/error.h"
#include "strata/core/protobuf.h"

namespace strata {
namespace {

using TokenType = Vocabulary::TokenType;

// Field numbers of sentencepiece_model.proto.
enum ModelField : uint32_t { kPieces = 1, kTrainerSpec = 2, kNormalizerSpec = 3 };
enum PieceField : uint32_t { kPiece = 1, kScore = 2, kType = 3 };
enum TrainerField : uint32_t {
  kModelType = 3,
  kVocabSize = 4,
  kByteFallback = 35,
  kUnkId = 40,
  kUnkPiece = 45
};
enum NormalizerField : uint32_t {
  kName = 1,
  kCharsmap = 2,
  kAddDummyPrefix = 3,
  kRemoveExtraWhitespaces = 4,
  kEscapeWhitespaces = 5
};
constexpr uint64_t kUnigram = 1, kBpe = 2;

void require(const ProtobufReader& reader, const std::string& where) {
  if (!reader.ok()) fail("{} is not a SentencePiece model, or it is truncated", where);
}

void read_piece(std::string_view message, const std::string& where, Vocabulary& vocabulary) {
  std::string piece;
  float score = 0;
  uint64_t type = 1;
  ProtobufReader reader(message);
  while (const auto field = reader.next()) {
    if (field->number == kPiece) piece = field->bytes;
    if (field->number == kScore) score = field->real();
    if (field->number == kType) type = field->integer;
  }
  require(reader, where);
  const size_t id = vocabulary.tokens.size();
  if (type < 1 || type > 6) fail("{}: piece {} has type {}; 1 to 6 were expected", where, id, type);
  vocabulary.tokens.push_back(std::move(piece));
  vocabulary.scores.push_back(score);
  vocabulary.types.push_back(static_cast<TokenType>(type));
  if (vocabulary.types.back() == TokenType::Control) vocabulary.added.push_back({static_cast<int32_t>(id)});
  if (vocabulary.types.back() == TokenType::Unknown) vocabulary.unknown = static_cast<int32_t>(id);
}

}  // namespace

Vocabulary parse_sentencepiece_model(std::string bytes, const std::string& where) {
  Vocabulary vocabulary;
  vocabulary.model = Vocabulary::Model::SentencePiece;
  vocabulary.add_prefix_space = true;
  vocabulary.unigram = vocabulary.removes_spaces = true;
  ProtobufReader reader(bytes);
  while (const auto field = reader.next()) {
    if (field->number == kPieces) read_piece(field->bytes, where, vocabulary);
    ProtobufReader inner(field->number == kTrainerSpec || field->number == kNormalizerSpec ? field->bytes
                                                                                           : "");
    while (const auto setting = inner.next()) {
      if (field->number == kTrainerSpec && setting->number == kModelType)
        vocabulary.unigram = setting->integer == kUnigram;
      if (field->number != kNormalizerSpec) continue;
      if (setting->number == kCharsmap) vocabulary.replacements = setting->bytes;
      if (setting->number == kAddDummyPrefix) vocabulary.add_prefix_space = setting->integer != 0;
      if (setting->number == kRemoveExtraWhitespaces) vocabulary.removes_spaces = setting->integer != 0;
    }
    require(inner, where);
  }
  require(reader, where);
  if (vocabulary.tokens.empty()) fail("{} is not a SentencePiece model: it has no pieces", where);
  if (llama_cpp_knows(vocabulary)) vocabulary.pre_tokenizer = "default";
  vocabulary.sentencepiece_model = std::move(bytes);
  return vocabulary;
}

// What merges make is llama.cpp's where nothing comes before; its unigram models have no bytes for what is in
// no piece.
bool llama_cpp_knows(const Vocabulary& vocabulary) {
  if (!vocabulary.unigram) return vocabulary.replacements.empty() && !vocabulary.removes_spaces;
  return std::find(vocabulary.types.begin(), vocabulary.types.end(), TokenType::Byte) ==
         vocabulary.types.end();
}

std::string build_sentencepiece_model(const Vocabulary& vocabulary, const std::string& where) {
  const auto unknown = std::find(vocabulary.types.begin(), vocabulary.types.end(), TokenType::Unknown);
  const auto unknown_id = static_cast<size_t>(unknown - vocabulary.types.begin());
  const auto bytes = std::count(vocabulary.types.begin(), vocabulary.types.end(), TokenType::Byte);
  const bool without_unknown = unknown == vocabulary.types.end();
  if (without_unknown && bytes != 256)
    fail(
        "{}: the tokenizer has neither a token of the type \"unknown\" nor one for each byte, of which "
        "SentencePiece needs either",
        where);

  ProtobufWriter model;
  const auto add = [&](const std::string& text, float score, TokenType type) {
    ProtobufWriter piece;
    piece.bytes(kPiece, text);
    piece.real(kScore, score);
    piece.integer(kType, static_cast<uint64_t>(type));
    model.bytes(kPieces, piece.message());
  };
  for (size_t i = 0; i < vocabulary.tokens.size(); ++i)
    add(vocabulary.tokens[i], vocabulary.scores[i], vocabulary.types[i]);
  // The library insists on one; with all bytes there nothing becomes it.
  std::string unknown_piece =
      without_unknown ? "<unknown>" : *(vocabulary.tokens.begin() + static_cast<int64_t>(unknown_id));
  if (without_unknown) {
    while (std::find(vocabulary.tokens.begin(), vocabulary.tokens.end(), unknown_piece) !=
           vocabulary.tokens.end())
      unknown_piece += '>';
    add(unknown_piece, 0, TokenType::Unknown);
  }
  ProtobufWriter trainer;
  trainer.integer(kModelType, vocabulary.unigram ? kUnigram : kBpe);
  trainer.integer(kVocabSize, vocabulary.tokens.size() + (without_unknown ? 1 : 0));
  trainer.integer(kByteFallback, bytes > 0 ? 1 : 0);
  trainer.integer(kUnkId, unknown_id);
  trainer.bytes(kUnkPiece, unknown_piece);
  model.bytes(kTrainerSpec, trainer.message());
  ProtobufWriter normalizer;
  normalizer.bytes(kName, vocabulary.replacements.empty() ? "identity" : "replacements");
  if (!vocabulary.replacements.empty()) normalizer.bytes(kCharsmap, vocabulary.replacements);
  normalizer.integer(kAddDummyPrefix, vocabulary.add_prefix_space && !vocabulary.space_is_prefix ? 1 : 0);
  normalizer.integer(kRemoveExtraWhitespaces, vocabulary.removes_spaces ? 1 : 0);
  normalizer.integer(kEscapeWhitespaces, 1);
  model.bytes(kNormalizerSpec, normalizer.message());
  return model.message();
}

}  // namespace strata
