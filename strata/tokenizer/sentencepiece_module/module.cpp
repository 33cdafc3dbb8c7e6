#include "strata/tokenizer/sentencepiece_module/module.h"

#include <sentencepiece_processor.h>

#include <exception>
#include <memory>
#include <string>
#include <vector>

struct StrataSentencePiece {
  sentencepiece::SentencePieceProcessor processor;
};

namespace {

// Whether a call of the library ends well. It says most of what is wrong by its status, and some by
// exceptions.
template <class Call>
bool succeeded(const Call& call, void* context, StrataMessageSink error) {
  std::string text;
  try {
    const sentencepiece::util::Status status = call();
    if (status.ok()) return true;
    text = status.ToString();
  } catch (const std::exception& thrown) {
    text = thrown.what();
  }
  error(context, text.data(), text.size());
  return false;
}

}  // namespace

StrataSentencePiece* strata_sentencepiece_open(const char* model, size_t size, void* context,
                                               StrataMessageSink error) {
  auto opened = std::make_unique<StrataSentencePiece>();
  const auto load = [&] { return opened->processor.LoadFromSerializedProto({model, size}); };
  return succeeded(load, context, error) ? opened.release() : nullptr;
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
  const auto encode = [&] { return model->processor.Encode({text, size}, &encoded); };
  if (!succeeded(encode, context, error)) return false;
  ids(context, encoded.data(), encoded.size());
  return true;
}

bool strata_sentencepiece_decode(const StrataSentencePiece* model, const int32_t* ids, size_t count,
                                 void* context, StrataMessageSink text, StrataMessageSink error) {
  std::string decoded;
  const auto decode = [&] { return model->processor.Decode(std::vector<int>(ids, ids + count), &decoded); };
  if (!succeeded(decode, context, error)) return false;
  text(context, decoded.data(), decoded.size());
  return true;
}
