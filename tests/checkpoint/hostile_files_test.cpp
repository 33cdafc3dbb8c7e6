// Thousands of damaged files of every format: each is read without a crash, or refused with an Error. Run it
// under the address and undefined-behaviour sanitizers to find what an ordinary run cannot see.

#include <gtest/gtest.h>

#include "strata/checkpoint/checkpoint.h"
#include "strata/core/file.h"
#include "strata/core/json.h"
#include "strata/core/random.h"
#include "strata/gguf/file.h"
#include "strata/tokenizer/gguf_vocabulary.h"
#include "strata/tokenizer/tokenizer.h"
#include "tests/support/files.h"

namespace strata {
namespace {
namespace fs = std::filesystem;

const fs::path kTokenizers = STRATA_SOURCE_DIR "/tests/data/tokenizer";

std::string damage(std::string bytes, Random& random) {
  const auto position = [&] { return static_cast<size_t>(random.below(bytes.size())); };
  // Most damage goes near the beginning, where headers are.
  const auto early = [&] {
    return random.below(2) == 0 ? position() : position() % std::min<size_t>(bytes.size(), 200);
  };
  for (uint64_t changes = 1 + random.below(4); changes > 0 && !bytes.empty(); --changes) {
    switch (random.below(6)) {
      case 0:
        bytes.resize(position());
        break;
      case 1:
        bytes[early()] ^= static_cast<char>(1 << random.below(8));
        break;
      case 2:
        bytes[early()] = static_cast<char>(random.below(256));
        break;
      case 3:
        bytes[early()] = "0123456789-\"{}[],:e."[random.below(20)];
        break;
      case 4:
        bytes.erase(early(), 1 + random.below(8));
        break;
      default: {
        const std::string piece = bytes.substr(position(), 1 + random.below(16));
        bytes.insert(early(), piece);
      }
    }
  }
  return bytes;
}

// Reads `count` damaged versions of a file; at least some must be refused.
template <class Read>
void expect_no_crash(const std::string& original, const fs::path& target, int count, Read read) {
  Random random(11);
  int refused = 0;
  for (int i = 0; i < count; ++i) {
    write_file(target, damage(original, random));
    try {
      read();
    } catch (const Error& error) {
      ++refused;
      EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos) << error.what();
    }
  }
  EXPECT_GT(refused, count / 10);
}

TEST(HostileFiles, Safetensors) {
  TemporaryDirectory directory;
  const std::string header =
      R"({"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},)"
      R"("b":{"dtype":"BF16","shape":[4],"data_offsets":[24,32]},"c":{"dtype":"I64","shape":[],"data_offsets":[32,40]}})";
  const std::string original = bytes_of<uint64_t>(header.size()) + header + std::string(40, '\1');
  const fs::path target = directory / "x.safetensors";
  expect_no_crash(original, target, 3000, [&] {
    const auto checkpoint = open_safetensors(target);
    for (const TensorInfo& tensor : checkpoint->tensors())
      if (tensor.type != "I64") checkpoint->read(tensor.name);
  });
}

TEST(HostileFiles, Gguf) {
  TemporaryDirectory directory;
  Vocabulary vocabulary = read_vocabulary(kTokenizers / "prefix");
  vocabulary.tokens.resize(20);
  vocabulary.types.resize(20);
  vocabulary.merges.resize(2);
  vocabulary.pre_tokenizer = "gpt-2";
  vocabulary.chat_template = "{{ messages }}";
  const fs::path target = directory / "x.gguf";
  {
    GgufWriter writer(target, vocabulary_keys(vocabulary),
                      {{"a", {2, 32}, GgufType::Q8_0}, {"b", {3}, GgufType::F32}});
    const std::string data(68 + 12, '\1');
    writer.write(reinterpret_cast<const std::byte*>(data.data()), data.size());
    writer.commit();
  }
  expect_no_crash(read_text(target), target, 3000, [&] {
    const GgufFile file(target);
    unsigned sum = 0;
    for (const GgufTensor& tensor : file.tensors())
      for (uint64_t i = 0; i < tensor.bytes(); ++i) sum += static_cast<unsigned>(file.data(tensor)[i]);
    EXPECT_LT(sum, 1u << 31);
    make_tokenizer(vocabulary_from_keys(file.keys(), target.string()))->encode("the end, 12");
  });
}

TEST(HostileFiles, TokenizerJson) {
  TemporaryDirectory directory;
  for (const std::string fixture : {"llama3", "qwen2"}) {
    const std::string text = read_text(kTokenizers / fixture / "tokenizer.json");
    const fs::path target = directory / "tokenizer.json";
    expect_no_crash(text, target, 500, [&] {
      const auto tokenizer = make_tokenizer(read_vocabulary(directory.path()));
      tokenizer->decode(tokenizer->encode("It's the end, 123\xff\xe4\xbd\xa0 <|end|> word"));
    });
  }
}

TEST(HostileFiles, TokenizerJsonWithWrongTypesEverywhere) {
  TemporaryDirectory directory;
  const LargeJson original = read_large_json(kTokenizers / "qwen2" / "tokenizer.json");
  const LargeJson flat = original.flatten();
  const LargeJson others[] = {nullptr, -1, 1e300, "", "x", LargeJson::array(), LargeJson::object(), true};
  int step = 0;
  for (const auto& [pointer, value] : flat.items()) {
    if (++step % 7 != 0 && pointer.rfind("/model/", 0) == 0)
      continue;  // a sample of the vocabulary and the merges
    LargeJson document = original;
    document[LargeJson::json_pointer(pointer)] = others[static_cast<size_t>(step) % std::size(others)];
    write_file(directory / "tokenizer.json", document.dump());
    try {
      make_tokenizer(read_vocabulary(directory.path()))->encode("the end");
    } catch (const Error&) {
    }
  }
}

TEST(HostileFiles, SentencePieceModel) {
  TemporaryDirectory directory;
  const std::string original = read_text(kTokenizers / "sentencepiece" / "tokenizer.model");
  const fs::path target = directory / "tokenizer.model";
  Random random(3);
  for (int i = 0; i < 500; ++i) {
    write_file(target, damage(original, random));
    try {
      read_vocabulary(directory.path());  // what libsentencepiece does with such a model is its own affair
    } catch (const Error&) {
    }
  }
}

}  // namespace
}  // namespace strata
