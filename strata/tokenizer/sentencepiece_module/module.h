#pragma once

#include <cstddef>
#include <cstdint>

// The C face of the module that holds SentencePiece. Debian's libsentencepiece exports its own copy of
// protobuf, and LibTorch brings another: in one symbol scope they overwrite each other before main() starts.
// So SentencePiece lives in a module that is loaded when a tokenizer.model is, into a scope of its own, and
// only plain data crosses the border.
extern "C" {

struct StrataSentencePiece;  // one loaded model

// Calls back with a message that says what failed, or with results.
using StrataMessageSink = void (*)(void* context, const char* text, size_t size);
using StrataIdSink = void (*)(void* context, const int32_t* ids, size_t count);

// Null after an error, which `error` was told of.
StrataSentencePiece* strata_sentencepiece_open(const char* model, size_t size, void* context,
                                               StrataMessageSink error);
void strata_sentencepiece_close(StrataSentencePiece* model);
int32_t strata_sentencepiece_size(const StrataSentencePiece* model);

// False after an error.
bool strata_sentencepiece_encode(const StrataSentencePiece* model, const char* text, size_t size,
                                 void* context, StrataIdSink ids, StrataMessageSink error);
bool strata_sentencepiece_decode(const StrataSentencePiece* model, const int32_t* ids, size_t count,
                                 void* context, StrataMessageSink text, StrataMessageSink error);
}
