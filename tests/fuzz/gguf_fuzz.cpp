// A .gguf file: its keys, all blocks, and the tokenizer in it.
#include "strata/gguf/codec.h"
#include "strata/gguf/file.h"
#include "strata/tokenizer/gguf_vocabulary.h"
#include "tests/fuzz/fuzz_target.h"

STRATA_FUZZ_TARGET(gguf) {
  const std::filesystem::path path = strata::fuzz_file("x.gguf", bytes);
  const strata::GgufFile file(path);
  for (const strata::GgufTensor& tensor : file.tensors()) {
    if (!strata::is_coded(tensor.type)) continue;
    int64_t weights = 1;
    for (const int64_t size : tensor.shape) weights *= size;
    std::vector<float> values(static_cast<size_t>(weights));
    strata::decode_gguf(tensor.type, file.data(tensor), weights, values.data());
  }
  const auto vocabulary = strata::vocabulary_from_keys(file.keys(), path.string());
  if (vocabulary.model == strata::Vocabulary::Model::Bpe)
    strata::make_tokenizer(vocabulary)->encode("It's the end, 12 \xe4\xbd\xa0");
}
