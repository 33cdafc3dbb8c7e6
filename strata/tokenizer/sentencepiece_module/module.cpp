#include "strata/tokenizer/sentencepiece_module/module.h"

#include <sentencepiece_processor.h>

#include <string>
#include <vector>

struct StrataSentencePiece {
  sentencepiece::SentencePieceProcessor processor;
};

namespace {

bool succeeded(const sentencepiece::util::Status& status, void* context, StrataMessageSink error) {
  if (status.ok()) return true;
  const std::string text = status.ToString();
  error(context, text.data(), text.size());
  return false;
}

}  // namespace

StrataSentencePiece* strata_sentencepiece_open(const char* model, size_t size, void* context,
                                               StrataMessageSink error) {
  auto* opened = new StrataSentencePiece;
  if (succeeded(opened->processor.LoadFromSerializedProto({model, size}), context, error)) return opened;
  delete opened;
  return nullptr;
}

void strata_sentencepiece_close(StrataSentencePiece* model) {
  delete model;
}

int32_t strata_sentencepiece_size(const StrataSentencePiece* model) {
  return model->processor.GetPieceSize();
}

bool strata_sentencepiece_encode(const StrataSentencePiece* model, const char* text, size_t size,
                                 void* context, StrataIdSink ids, StrataMessageSink error) {
  std::vector<int> encoded;
  if (!succeeded(model->processor.Encode({text, size}, &encoded), context, error)) return false;
  ids(context, encoded.data(), encoded.size());
  return true;
}

bool strata_sentencepiece_decode(const StrataSentencePiece* model, const int32_t* ids, size_t count,
                                 void* context, StrataMessageSink text, StrataMessageSink error) {
  std::string decoded;
  if (!succeeded(model->processor.Decode(std::vector<int>(ids, ids + count), &decoded), context, error))
    return false;
  text(context, decoded.data(), decoded.size());
  return true;
}
