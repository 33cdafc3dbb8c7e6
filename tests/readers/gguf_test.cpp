// Damaged GGUF files: each is read without a crash, or refused with an Error.
#include "strata/core/file.h"
#include "strata/gguf/codec.h"
#include "strata/gguf/file.h"
#include "strata/tokenizer/gguf_vocabulary.h"
#include "strata/tokenizer/tokenizer.h"
#include "tests/readers/damage.h"

namespace strata {
namespace {
namespace fs = std::filesystem;

// All bytes of all tensors, decoded where their type can be.
void read_tensors(const GgufFile& file) {
  unsigned sum = 0;
  for (const GgufTensor& tensor : file.tensors()) {
    for (uint64_t i = 0; i < tensor.bytes(); ++i) sum += static_cast<unsigned>(file.data(tensor)[i]);
    if (!is_coded(tensor.type)) continue;
    int64_t weights = 1;
    for (const int64_t size : tensor.shape) weights *= size;
    std::vector<float> values(static_cast<size_t>(weights));
    decode_gguf(tensor.type, file.data(tensor), weights, values.data());
  }
  EXPECT_LT(sum, 1u << 31);
}

void write_gguf(const fs::path& target, const std::vector<GgufKey>& keys,
                const std::vector<GgufTensor>& tensors, char byte) {
  GgufWriter writer(target, keys, tensors);
  for (const GgufTensor& tensor : tensors) {
    const std::string data(tensor.bytes(), byte);
    writer.write(reinterpret_cast<const std::byte*>(data.data()), data.size());
  }
  writer.commit();
}

TEST(GgufFiles, VocabularyAndTensors) {
  TemporaryDirectory directory;
  Vocabulary vocabulary = read_vocabulary(STRATA_SOURCE_DIR "/tests/data/tokenizer/prefix");
  // The bytes, and the tokens that the first two merges make.
  vocabulary.tokens.resize(259);
  vocabulary.types.resize(259);
  vocabulary.merges.resize(2);
  vocabulary.pre_tokenizer = "gpt-2";
  vocabulary.chat_template = "{{ messages }}";
  const fs::path target = directory / "x.gguf";
  write_gguf(target, vocabulary_keys(vocabulary), {{"a", {2, 32}, GgufType::Q8_0}, {"b", {3}, GgufType::F32}},
             '\1');
  expect_no_crash(read_text(target), target, 3000, [&] {
    const GgufFile file(target);
    read_tensors(file);
    make_tokenizer(vocabulary_from_keys(file.keys(), target.string()))->encode("the end, 12");
  });
}

// Blocks of every type with every byte in them, as files hold them: no code or point lies outside its table.
TEST(GgufFiles, BlocksOfEveryType) {
  TemporaryDirectory directory;
  const fs::path target = directory / "x.gguf";
  std::vector<GgufTensor> tensors;
  for (const GgufTypeTraits& traits : gguf_types())
    tensors.push_back({std::string(traits.name), {1, 256}, traits.type});
  for (int byte = 0; byte < 256; ++byte) {
    write_gguf(target, {}, tensors, static_cast<char>(byte));
    read_tensors(GgufFile(target));
  }
}

}  // namespace
}  // namespace strata
