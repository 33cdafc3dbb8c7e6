// Damaged files of tokenizers: each is read without a crash, or refused with an Error.
#include "strata/core/file.h"
#include "strata/core/json.h"
#include "strata/tokenizer/tokenizer.h"
#include "tests/readers/damage.h"

namespace strata {
namespace {
namespace fs = std::filesystem;

const fs::path kTokenizers = STRATA_SOURCE_DIR "/tests/data/tokenizer";

TEST(TokenizerFiles, Json) {
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

TEST(TokenizerFiles, JsonWithWrongTypesEverywhere) {
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

TEST(TokenizerFiles, SentencePieceModel) {
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
