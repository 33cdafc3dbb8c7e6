#include "strata/tokenizer/tokenizer.h"

#include <gtest/gtest.h>

#include <unordered_set>

#include "strata/core/file.h"
#include "strata/core/json.h"
#include "strata/tokenizer/gguf_vocabulary.h"
#include "tests/support/files.h"

namespace strata {
namespace {
namespace fs = std::filesystem;

const fs::path kFixtures = STRATA_SOURCE_DIR "/tests/data/tokenizer";

uint64_t fingerprint(const std::vector<int32_t>& ids) {  // FNV-1a over ids
  uint64_t hash = 0xcbf29ce484222325ull;
  for (const int32_t id : ids) hash = (hash ^ static_cast<uint64_t>(id)) * 0x100000001b3ull;
  return hash;
}

// Counts and fingerprints are those of the ids that Hugging Face's tokenizers 0.23.3 gives. Windows of 512
// without overlap, of which the first token is not predicted, predict 342,881 and 84,826 tokens.
TEST(Tokenizer, WholeFilesGiveTheIdsOfHuggingFace) {
  const auto tokenizer = make_tokenizer(read_vocabulary(STRATA_SOURCE_DIR "/models/tiny-llama"));
  const std::string wikitext = read_text(STRATA_SOURCE_DIR "/data/wikitext-2/wiki.test.raw");
  const std::string novel = read_text(STRATA_SOURCE_DIR "/data/books/the-man-who-was-thursday.txt");
  const auto wikitext_ids = tokenizer->encode(wikitext), novel_ids = tokenizer->encode(novel);
  EXPECT_EQ(wikitext_ids.size(), 343600u);
  EXPECT_EQ(wikitext_ids.size() / 512 * 511, 342881u);
  EXPECT_EQ(fingerprint(wikitext_ids), 0xf0e2d901c0d78248ull);
  EXPECT_EQ(novel_ids.size(), 85307u);
  EXPECT_EQ(novel_ids.size() / 512 * 511, 84826u);
  EXPECT_EQ(fingerprint(novel_ids), 0x64c510c2f30e5c82ull);
  EXPECT_EQ(tokenizer->decode(wikitext_ids), wikitext);
}

class TokenizerFixture : public ::testing::TestWithParam<const char*> {};

TEST_P(TokenizerFixture, GivesTheIdsOfItsOwnLibrary) {
  const std::string name = GetParam();
  const Vocabulary vocabulary = read_vocabulary(kFixtures / name);
#ifndef STRATA_HAS_UTF8PROC
  if (vocabulary.normalize_nfc) GTEST_SKIP() << "built without utf8proc";
#endif
  const auto tokenizer = make_tokenizer(vocabulary);
  const LargeJson expected = read_large_json(kFixtures / "expected.json");
  ASSERT_GT(expected[name].size(), 80u);
  for (const LargeJson& entry : expected[name]) {
    const auto text = entry["text"].get<std::string>();
    EXPECT_EQ(tokenizer->encode(text), entry["ids"].get<std::vector<int32_t>>()) << entry["text"];
  }
}

TEST_P(TokenizerFixture, SurvivesTheWayThroughGguf) {
  const std::string name = GetParam();
  const Vocabulary vocabulary = read_vocabulary(kFixtures / name);
  if (vocabulary.pre_tokenizer.empty()) {
    expect_parts(error_of([&] { vocabulary_keys(vocabulary); }), {"llama.cpp has no name"});
    // llama.cpp puts no space before the text, and has no bytes in unigram models.
    EXPECT_TRUE(name == "prefix" || name == "unigram_bytes") << name;
    return;
  }
  const auto keys = vocabulary_keys(vocabulary);
  const Vocabulary back = vocabulary_from_keys(keys, "x.gguf");
  EXPECT_EQ(back.pre_tokenizer, vocabulary.pre_tokenizer);
  // llama.cpp leaves digits in a row.
  if (name != "deepseek_llm") {
    EXPECT_EQ(back.word_patterns, vocabulary.word_patterns);
  }
  EXPECT_EQ(back.tokens, vocabulary.tokens);
  EXPECT_EQ(back.types, vocabulary.types);
  EXPECT_EQ(back.merges, vocabulary.merges);
  EXPECT_EQ(back.scores, vocabulary.scores);
  EXPECT_EQ(back.bos, vocabulary.bos);
  EXPECT_EQ(back.eos, vocabulary.eos);
  EXPECT_EQ(back.unknown, vocabulary.unknown);
  EXPECT_EQ(back.padding, vocabulary.padding);
  EXPECT_EQ(back.add_bos, vocabulary.add_bos);
  EXPECT_EQ(back.add_eos, vocabulary.add_eos);
  EXPECT_EQ(back.ignore_merges, vocabulary.ignore_merges);
  EXPECT_EQ(back.add_prefix_space, vocabulary.add_prefix_space);
  // A GGUF file knows neither the flags of added tokens nor normalization.
  const std::string text =
      "It's the end of   chapter 1234,\n\n said \xe4\xbd\xa0\xe5\xa5\xbd\xf0\x9f\x98\x80. <none>";
  EXPECT_EQ(make_tokenizer(back)->encode(text), make_tokenizer(vocabulary)->encode(text));
}

INSTANTIATE_TEST_SUITE_P(Kinds, TokenizerFixture,
                         ::testing::Values("gpt2", "prefix", "llama3", "qwen2", "smollm", "gpt4o", "tekken",
                                           "deepseek_coder", "deepseek_v3", "deepseek_llm", "seed_coder",
                                           "sentencepiece", "sentencepiece_json", "unigram", "unigram_bytes"),
                         [](const auto& tested) { return std::string(tested.param); });

TEST(Tokenizer, RecognisesTheNamesThatGgufUses) {
  EXPECT_EQ(read_vocabulary(kFixtures / "gpt2").pre_tokenizer, "gpt-2");
  EXPECT_EQ(read_vocabulary(kFixtures / "llama3").pre_tokenizer, "llama-bpe");
  EXPECT_EQ(read_vocabulary(kFixtures / "qwen2").pre_tokenizer, "qwen2");
  EXPECT_EQ(read_vocabulary(kFixtures / "smollm").pre_tokenizer, "smollm");
  EXPECT_EQ(read_vocabulary(kFixtures / "gpt4o").pre_tokenizer, "gpt-4o");
  EXPECT_EQ(read_vocabulary(kFixtures / "tekken").pre_tokenizer, "tekken");
  EXPECT_EQ(read_vocabulary(kFixtures / "deepseek_coder").pre_tokenizer, "deepseek-coder");
  EXPECT_EQ(read_vocabulary(kFixtures / "deepseek_v3").pre_tokenizer, "deepseek-v3");
  EXPECT_EQ(read_vocabulary(kFixtures / "deepseek_llm").pre_tokenizer, "deepseek-llm");
  EXPECT_EQ(read_vocabulary(kFixtures / "seed_coder").pre_tokenizer, "seed-coder");
  EXPECT_EQ(read_vocabulary(kFixtures / "sentencepiece_json").pre_tokenizer, "default");
  EXPECT_EQ(read_vocabulary(kFixtures / "prefix").pre_tokenizer, "");
  EXPECT_EQ(read_vocabulary(kFixtures / "sentencepiece").pre_tokenizer, "default");
  EXPECT_EQ(read_vocabulary(STRATA_SOURCE_DIR "/models/tiny-llama").pre_tokenizer, "gpt-2");
}

TEST(Tokenizer, BytesThatAreNotUtf8ComeBack) {
  const auto tokenizer = make_tokenizer(read_vocabulary(kFixtures / "llama3"));
  const std::string text = "ab\xff\xfe cd\xc3 \xe2\x82 x\xed\xa0\x80\xf0\x9f\x98\x80\x80";
  EXPECT_EQ(tokenizer->decode(tokenizer->encode(text, false)), text);
  std::string all;
  for (int byte = 255; byte >= 0; --byte) all += static_cast<char>(byte);
  EXPECT_EQ(tokenizer->decode(tokenizer->encode(all, false)), all);
}

TEST(Tokenizer, SpecialTokensAreAddedOnlyWhenAskedFor) {
  const auto tokenizer = make_tokenizer(read_vocabulary(kFixtures / "llama3"));
  EXPECT_EQ(tokenizer->encode("").size(), 1u);
  EXPECT_TRUE(tokenizer->encode("", false).empty());
  EXPECT_EQ(tokenizer->encode("<|end|>", false), (std::vector<int32_t>{1}));
  EXPECT_EQ(tokenizer->decode({0, 1}), "<|begin|><|end|>");
  expect_parts(error_of([&] { tokenizer->decode({1 << 20}); }), {"1048576 is outside the vocabulary of 600"});
}

TEST(Tokenizer, SentencePieceRecognisesControlTokensInText) {
  const auto vocabulary = read_vocabulary(kFixtures / "sentencepiece");
  EXPECT_EQ(vocabulary.bos, 1);
  EXPECT_EQ(vocabulary.eos, 2);
  EXPECT_EQ(vocabulary.unknown, 0);
  const auto tokenizer = make_tokenizer(vocabulary);
  const auto ids = tokenizer->encode("the man</s>the man", false);
  const auto half = tokenizer->encode("the man", false);
  std::vector<int32_t> expected = half;
  expected.push_back(2);
  expected.insert(expected.end(), half.begin(), half.end());
  EXPECT_EQ(ids, expected);
  EXPECT_EQ(tokenizer->decode(ids), "the man</s>the man");
}

class TokenizerFiles : public ::testing::Test {
 protected:
  void copy(const std::string& fixture) {
    for (const auto& entry : fs::directory_iterator(kFixtures / fixture))
      fs::copy(entry.path(), directory_ / entry.path().filename().string());
  }
  // The error after changing tokenizer.json.
  template <class Edit>
  std::string error_after(Edit edit) {
    LargeJson document = read_large_json(kFixtures / "gpt2" / "tokenizer.json");
    edit(document);
    write_text(directory_ / "tokenizer.json", document.dump());
    return error_of([&] { make_tokenizer(read_vocabulary(directory_.path())); });
  }
  TemporaryDirectory directory_;
};

TEST_F(TokenizerFiles, TakeSpecialTokensAndTemplatesFromWhereTheyStand) {
  copy("gpt2");
  const auto expect = [&](std::optional<int32_t> bos, std::optional<int32_t> eos,
                          std::optional<int32_t> padding) {
    const Vocabulary vocabulary = read_vocabulary(directory_.path());
    EXPECT_EQ(vocabulary.bos, bos);
    EXPECT_EQ(vocabulary.eos, eos);
    EXPECT_EQ(vocabulary.padding, padding);
  };
  fs::remove(directory_ / "tokenizer_config.json");
  expect({}, {}, {});
  write_text(directory_ / "config.json", R"({"bos_token_id":7,"eos_token_id":[8,9],"pad_token_id":-1})");
  expect(7, 8, {});
  write_text(directory_ / "generation_config.json", R"({"bos_token_id":5,"eos_token_id":null})");
  expect(5, 8, {});
  write_text(directory_ / "special_tokens_map.json",
             R"({"eos_token":{"content":"<|end|>"},"pad_token":"<|end|>"})");
  expect(5, 0, 0);
  write_text(directory_ / "tokenizer_config.json", R"({"bos_token":"<|end|>","add_bos_token":true,
      "chat_template":[{"name":"tool","template":"T"},{"name":"default","template":"D"}]})");
  expect(0, 0, 0);
  EXPECT_TRUE(read_vocabulary(directory_.path()).add_bos);
  EXPECT_EQ(read_vocabulary(directory_.path()).chat_template, "D");
  write_text(directory_ / "chat_template.jinja", "J\n");
  EXPECT_EQ(read_vocabulary(directory_.path()).chat_template, "J\n");
  write_text(directory_ / "config.json", R"({"eos_token_id":100000})");
  fs::remove(directory_ / "special_tokens_map.json");
  expect(0, {}, {});  // with a note
  write_text(directory_ / "config.json", R"({"eos_token_id":"end"})");
  expect_parts(error_of([&] { read_vocabulary(directory_.path()); }),
               {"config.json", "eos_token_id is \"end\""});
}

TEST_F(TokenizerFiles, SentencePieceTakesAddedTokens) {
  copy("sentencepiece");
  write_text(directory_ / "added_tokens.json", R"({"<pad>":601})");
  write_text(directory_ / "tokenizer_config.json",
             R"({"add_bos_token":false,"added_tokens_decoder":{"600":{"content":"<tool>","special":true}}})");
  const Vocabulary vocabulary = read_vocabulary(directory_.path());
  ASSERT_EQ(vocabulary.tokens.size(), 602u);
  EXPECT_EQ(vocabulary.tokens[600], "<tool>");
  EXPECT_EQ(vocabulary.types[600], Vocabulary::TokenType::Control);
  EXPECT_EQ(vocabulary.types[601], Vocabulary::TokenType::UserDefined);
  const auto tokenizer = make_tokenizer(vocabulary);
  EXPECT_EQ(tokenizer->encode("<tool><pad>"), (std::vector<int32_t>{600, 601}));
  EXPECT_EQ(tokenizer->decode({600, 601}), "<tool><pad>");
}

TEST_F(TokenizerFiles, AnUnknownPatternWorksButHasNoGgufName) {
  LargeJson document = read_large_json(kFixtures / "llama3" / "tokenizer.json");
  document["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = "[a-z]+";
  write_text(directory_ / "tokenizer.json", document.dump());
  const Vocabulary vocabulary = read_vocabulary(directory_.path());
  EXPECT_EQ(vocabulary.pre_tokenizer, "");
  EXPECT_EQ(make_tokenizer(vocabulary)->decode(make_tokenizer(vocabulary)->encode("ab CD", false)), "ab CD");
  expect_parts(error_of([&] { vocabulary_keys(vocabulary); }), {"llama.cpp has no name"});
}

TEST_F(TokenizerFiles, GapsInTheVocabularyAreFilled) {
  LargeJson document = read_large_json(kFixtures / "smollm" / "tokenizer.json");
  document["model"]["vocab"]["far"] = 410;
  write_text(directory_ / "tokenizer.json", document.dump());
  const Vocabulary vocabulary = read_vocabulary(directory_.path());
  ASSERT_EQ(vocabulary.tokens.size(), 411u);
  EXPECT_EQ(vocabulary.tokens[405], "[PAD405]");
  EXPECT_EQ(vocabulary.types[405], Vocabulary::TokenType::Unused);
}

TEST_F(TokenizerFiles, WhatIsWrongIsNamed) {
  expect_parts(error_of([&] { read_vocabulary(directory_.path()); }),
               {"no tokenizer.json and no tokenizer.model"});
  const auto error = [&](auto edit) { return error_after(edit); };
  expect_parts(error([](LargeJson& d) { d["model"]["type"] = "WordPiece"; }), {"tokenizer of WordPiece"});
  expect_parts(error([](LargeJson& d) {
                 d["pre_tokenizer"] = {{"type", "Metaspace"}};
               }),
               {"SentencePiece-like"});
  expect_parts(error([](LargeJson& d) { d["model"]["vocab"] = 7; }), {"model.vocab"});
  expect_parts(error([](LargeJson& d) { d["model"]["vocab"]["x"] = -1; }), {"\"x\" has the id -1"});
  expect_parts(error([](LargeJson& d) { d["model"]["vocab"]["y"] = 4000000000u; }), {"the id 4000000000"});
  expect_parts(error([](LargeJson& d) { d["model"]["vocab"]["new"] = 5; }), {"both have the id 5"});
  expect_parts(error([](LargeJson& d) { d["model"]["merges"].push_back("a qq"); }),
               {"\"a qq\"", "no token \"aqq\""});
  expect_parts(error([](LargeJson& d) { d["model"]["merges"].push_back("abc"); }),
               {"\"abc\"", "pair of tokens"});
  expect_parts(error([](LargeJson& d) { d["model"]["merges"].push_back(1); }), {"neither a pair"});
  expect_parts(error([](LargeJson& d) { d["model"]["merges"] = 1; }), {"model.merges"});
  expect_parts(error([](LargeJson& d) { d["model"]["unk_token"] = "<none>"; }), {"<none>"});
  expect_parts(error([](LargeJson& d) {
                 d["normalizer"] = {{"type", "Lowercase"}};
               }),
               {"normalizer \"Lowercase\""});
  expect_parts(error([](LargeJson& d) {
                 d["post_processor"] = {{"type", "BertProcessing"}};
               }),
               {"BertProcessing"});
  expect_parts(error([](LargeJson& d) { d["added_tokens"][0]["content"] = ""; }),
               {"added token has no content"});
  expect_parts(error([](LargeJson& d) {
                 d["pre_tokenizer"] = {
                     {"type", "Sequence"},
                     {"pretokenizers",
                      {{{"type", "Split"}, {"behavior", "Isolated"}, {"pattern", {{"Regex", "(a"}}}},
                       {{"type", "ByteLevel"}, {"add_prefix_space", false}}}}};
               }),
               {"pattern \"(a\" is wrong"});
  expect_parts(error([](LargeJson& d) {
                 d["pre_tokenizer"] = {
                     {"type", "Sequence"},
                     {"pretokenizers", {{{"type", "Punctuation"}}, {{"type", "ByteLevel"}}}}};
               }),
               {"pre-tokenizer \"Punctuation\""});
  write_text(directory_ / "tokenizer.json", "{\"model\":");
  expect_parts(error_of([&] { read_vocabulary(directory_.path()); }), {"tokenizer.json", "not valid JSON"});
  fs::remove(directory_ / "tokenizer.json");
  write_text(directory_ / "tokenizer.model", "nonsense");
  expect_parts(error_of([&] { read_vocabulary(directory_.path()); }),
               {"tokenizer.model", "not a SentencePiece model"});
}

// As llama.cpp reads them: byte tokens serve for what no piece has.
TEST(GgufVocabulary, NeedsNoUnknownTokenBesideBytes) {
  const Vocabulary vocabulary = read_vocabulary(kFixtures / "sentencepiece");
  std::vector<GgufKey> keys = vocabulary_keys(vocabulary);
  for (GgufKey& key : keys)
    if (key.name == "tokenizer.ggml.token_type")
      for (int64_t& type : std::get<std::vector<int64_t>>(key.value.value))
        if (type == static_cast<int64_t>(Vocabulary::TokenType::Unknown)) type = 1;
  const std::string text = "Who is Gabriel Syme? \U0001f600 \u4f60\u597d";
  const auto tokenizer = make_tokenizer(vocabulary_from_keys(keys, "x.gguf"));
  EXPECT_EQ(tokenizer->encode(text), make_tokenizer(vocabulary)->encode(text));
  EXPECT_EQ(tokenizer->decode(tokenizer->encode(text, false)), text);
}

// Files from before llama.cpp asked for a pre-tokenizer.
TEST(GgufVocabulary, CutsWordsByDefaultWhereNothingIsSaid) {
  std::vector<GgufKey> keys;
  for (const GgufKey& key : vocabulary_keys(read_vocabulary(kFixtures / "gpt2")))
    if (key.name != "tokenizer.ggml.pre") keys.push_back(key);
  const Vocabulary vocabulary = vocabulary_from_keys(keys, "x.gguf");
  EXPECT_EQ(vocabulary.pre_tokenizer, "default");
  const auto tokenizer = make_tokenizer(vocabulary);
  EXPECT_EQ(tokenizer->decode(tokenizer->encode("It's 12345 o'clock: now!")), "It's 12345 o'clock: now!");
}

// As llama.cpp does, with a warning.
TEST(GgufVocabulary, LeavesOutSpecialTokensThatAreNotThere) {
  Vocabulary vocabulary = read_vocabulary(kFixtures / "gpt2");
  vocabulary.padding = 100000;
  EXPECT_EQ(vocabulary_from_keys(vocabulary_keys(vocabulary), "x.gguf").padding, std::nullopt);
}

TEST(GgufVocabulary, WhatIsWrongIsNamed) {
  const Vocabulary vocabulary = read_vocabulary(kFixtures / "gpt2");
  const auto error_with = [&](const std::string& name, std::optional<GgufValue> value) {
    std::vector<GgufKey> keys;
    for (const GgufKey& key : vocabulary_keys(vocabulary))
      if (key.name != name) keys.push_back(key);
    if (value) keys.push_back({name, *value});
    const std::string message = error_of([&] { make_tokenizer(vocabulary_from_keys(keys, "x.gguf")); });
    expect_parts(message, {"x.gguf", name});
    return message;
  };
  error_with("tokenizer.ggml.model", std::nullopt);
  expect_parts(error_with("tokenizer.ggml.model", gguf_string("bert")), {"\"bert\""});
  expect_parts(error_with("tokenizer.ggml.pre", gguf_string("peculiar")),
               {"\"peculiar\"", "gpt-2, llama-bpe"});
  error_with("tokenizer.ggml.tokens", gguf_u32(1));
  error_with("tokenizer.ggml.tokens", gguf_strings({}));
  error_with("tokenizer.ggml.token_type", gguf_i32s({1, 2}));
  error_with("tokenizer.ggml.merges", std::nullopt);
  error_with("tokenizer.ggml.bos_token_id", gguf_string("<s>"));
  error_with("tokenizer.ggml.add_bos_token", gguf_string("yes"));
}

}  // namespace
}  // namespace strata
