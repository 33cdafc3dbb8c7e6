#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "strata/checkpoint/checkpoint.h"
#include "strata/checkpoint/packed_checkpoint.h"
#include "tests/support/files.h"

namespace strata {
namespace {
namespace fs = std::filesystem;

std::string safetensors(const std::string& header, const std::string& data) {
  return bytes_of<uint64_t>(header.size()) + header + data;
}

// One F32 tensor "a" of shape [2, 3] with values 0 .. 5.
const std::string kHeader = R"({"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}})";
std::string six_floats() {
  std::string data;
  for (int i = 0; i < 6; ++i) data += bytes_of(static_cast<float>(i));
  return data;
}

TEST(Safetensors, ReadsEveryFloatTypeAndKeepsFileOrder) {
  TemporaryDirectory directory;
  // The header names the tensors in another order than their data has.
  const std::string header = R"({"__metadata__":{"format":"pt"},)"
                             R"("h":{"dtype":"F16","shape":[2],"data_offsets":[24,28]},)"
                             R"("d":{"dtype":"F64","shape":[2,1],"data_offsets":[0,16]},)"
                             R"("f":{"dtype":"F32","shape":[],"data_offsets":[20,24]},)"
                             R"("b":{"dtype":"BF16","shape":[1,2],"data_offsets":[16,20]},)"
                             R"("e":{"dtype":"F16","shape":[0,4],"data_offsets":[28,28]}}   )";
  const std::string data = bytes_of(1.5) + bytes_of(-0.1) + bytes_of<uint16_t>(0x3fc0) +
                           bytes_of<uint16_t>(0xc2f7) + bytes_of(3.25f) + bytes_of<uint16_t>(0x3555) +
                           bytes_of<uint16_t>(0x8001);
  const auto checkpoint =
      open_safetensors(write_file(directory / "x.safetensors", safetensors(header, data)));

  std::vector<std::string> names;
  for (const TensorInfo& tensor : checkpoint->tensors()) names.push_back(tensor.name);
  EXPECT_EQ(names, (std::vector<std::string>{"d", "b", "f", "h", "e"}));
  EXPECT_EQ(checkpoint->read("d"), (std::vector<float>{1.5f, -0.1f}));
  EXPECT_EQ(checkpoint->read("b"), (std::vector<float>{1.5f, -123.5f}));
  EXPECT_EQ(checkpoint->read("f"), (std::vector<float>{3.25f}));
  EXPECT_EQ(checkpoint->read("h"), (std::vector<float>{0.333251953125f, -0x1.0p-24f}));
  EXPECT_TRUE(checkpoint->read("e").empty());
  EXPECT_EQ(checkpoint->info("b").type, "BF16");
  EXPECT_EQ(checkpoint->info("b").bytes, 4u);
  EXPECT_EQ(checkpoint->info("b").rows(), 1);
  EXPECT_EQ(checkpoint->info("b").cols(), 2);
  EXPECT_EQ(checkpoint->info("h").rows(), 1);
  EXPECT_EQ(checkpoint->info("h").cols(), 2);
  EXPECT_EQ(checkpoint->info("f").elements(), 1);
}

TEST(Safetensors, ReadsRows) {
  TemporaryDirectory directory;
  const auto checkpoint =
      open_safetensors(write_file(directory / "x.safetensors", safetensors(kHeader, six_floats())));
  float row[3];
  checkpoint->read_rows(checkpoint->info("a"), 1, 1, row);
  EXPECT_EQ(std::vector<float>(row, row + 3), (std::vector<float>{3, 4, 5}));
  expect_parts(error_of([&] { checkpoint->read_rows(checkpoint->info("a"), 1, 2, row); }), {"rows 1 to 3"});
}

TEST(Safetensors, RereadsPagesItHasReleased) {
  TemporaryDirectory directory;
  const int64_t rows = 64, cols = 1500;
  std::string data;
  for (int64_t i = 0; i < rows * cols; ++i) data += bytes_of(static_cast<float>(i));
  const auto checkpoint = open_safetensors(
      write_file(directory / "x.safetensors",
                 safetensors(R"({"a":{"dtype":"F32","shape":[64,1500],"data_offsets":[0,384000]}})", data)));
  for (int repeat = 0; repeat < 2; ++repeat) {
    const std::vector<float> values = checkpoint->read("a");
    for (int64_t i = 0; i < rows * cols; ++i)
      ASSERT_EQ(values[static_cast<size_t>(i)], static_cast<float>(i));
  }
}

TEST(Safetensors, OpensTheBundledModel) {
  const auto checkpoint = open_safetensors(STRATA_SOURCE_DIR "/models/tiny-llama");
  int64_t params = 0;
  for (const TensorInfo& tensor : checkpoint->tensors()) params += tensor.elements();
  EXPECT_EQ(params, 14688512);
  EXPECT_EQ(checkpoint->info("model.embed_tokens.weight").shape, (std::vector<int64_t>{8192, 256}));
  EXPECT_EQ(checkpoint->read("model.norm.weight").size(), 256u);
  EXPECT_FALSE(checkpoint->contains("lm_head.weight"));
  expect_parts(error_of([&] { checkpoint->info("lm_head.weight"); }), {"lm_head.weight", "tiny-llama"});
}

struct BadFile {
  const char* name;
  std::string content;
  std::string message;
};

class BadSafetensors : public ::testing::TestWithParam<BadFile> {};

TEST_P(BadSafetensors, IsNamedInOneSentence) {
  TemporaryDirectory directory;
  const fs::path file = write_file(directory / "bad.safetensors", GetParam().content);
  expect_parts(error_of([&] { open_safetensors(file); }), {"bad.safetensors", GetParam().message});
}

std::string with_header(const std::string& header) {
  return safetensors(header, six_floats());
}

INSTANTIATE_TEST_SUITE_P(
    Headers, BadSafetensors,
    ::testing::Values(
        BadFile{"empty", "", "has 0 bytes"}, BadFile{"short", "1234567", "has 7 bytes"},
        BadFile{"huge_length", bytes_of<uint64_t>(~0ull) + "{}", "18446744073709551615 bytes"},
        BadFile{"long_length", bytes_of<uint64_t>(99) + "{}", "99 bytes but has only 2"},
        BadFile{"git_lfs", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
                "git lfs pull"},
        BadFile{"not_json", with_header("{\"a\":{\"dtype\":\"F32\""), "not valid JSON"},
        BadFile{"bad_utf8", with_header("{\"\xff\xfe\":{}}"), "not valid JSON"},
        BadFile{"array", with_header("[]"), "JSON object was expected"},
        BadFile{"number", with_header("7"), "JSON object was expected"},
        BadFile{"deep", with_header(std::string(100000, '[')), "JSON object was expected"},
        BadFile{"tensor_is_number", with_header(R"({"a":7})"), "tensor a is 7"},
        BadFile{"metadata_number", with_header(R"({"__metadata__":{"x":1}})"), "__metadata__ contains 1"},
        BadFile{"unknown_type", with_header(R"({"a":{"dtype":"F31","shape":[2,3],"data_offsets":[0,24]}})"),
                "tensor a has the unknown type F31"},
        BadFile{"negative", with_header(R"({"a":{"dtype":"F32","shape":[-2,3],"data_offsets":[0,24]}})"),
                "field shape of tensor a contains -2"},
        BadFile{"fraction", with_header(R"({"a":{"dtype":"F32","shape":[2.5,3],"data_offsets":[0,24]}})"),
                "contains 2.5"},
        BadFile{"beyond_64_bits",
                with_header(R"({"a":{"dtype":"F32","shape":[99999999999999999999],"data_offsets":[0,24]}})"),
                "contains 99999999999999999999"},
        BadFile{
            "overflow",
            with_header(R"({"a":{"dtype":"F32","shape":[4294967296,4294967296,4],"data_offsets":[0,0]}})"),
            "impossibly large"},
        BadFile{
            "overflow_behind_zero",
            with_header(R"({"a":{"dtype":"F32","shape":[0,9223372036854775807,4],"data_offsets":[0,0]}})"),
            "impossibly large"},
        BadFile{"mismatch", with_header(R"({"a":{"dtype":"F32","shape":[2,4],"data_offsets":[0,24]}})"),
                "takes 32 bytes, but its offsets give it 24"},
        BadFile{"backwards", with_header(R"({"a":{"dtype":"F32","shape":[2,3],"data_offsets":[24,0]}})"),
                "ends at 0 before it begins at 24"},
        BadFile{"three_offsets",
                with_header(R"({"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24,1]}})"),
                "3 data_offsets"},
        BadFile{"no_shape", with_header(R"({"a":{"dtype":"F32","data_offsets":[0,24]}})"), "has no shape"},
        BadFile{"twice_shape", with_header(R"({"a":{"shape":[1],"shape":[1]}})"), "twice the field shape"},
        BadFile{"unknown_field", with_header(R"({"a":{"strides":[1]}})"), "unknown field strides"},
        BadFile{"no_name", with_header(R"({"":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}})"),
                "without a name"},
        BadFile{"duplicate",
                with_header(R"({"a":{"dtype":"F32","shape":[3],"data_offsets":[0,12]},)"
                            R"("a":{"dtype":"F32","shape":[3],"data_offsets":[12,24]}})"),
                "names tensor a twice"},
        BadFile{"overlap",
                with_header(R"({"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]},)"
                            R"("b":{"dtype":"F32","shape":[3],"data_offsets":[12,24]}})"),
                "tensor b begins at 12, inside"},
        BadFile{"hole",
                with_header(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
                            R"("b":{"dtype":"F32","shape":[3],"data_offsets":[12,24]}})"),
                "no gap was expected"},
        BadFile{"past_the_end", with_header(R"({"a":{"dtype":"F32","shape":[7],"data_offsets":[0,28]}})"),
                "beyond the file's 24 bytes"},
        BadFile{"trailing", safetensors(kHeader, six_floats() + "x"),
                "25 bytes of data, but its tensors take 24"}),
    [](const auto& tested) { return tested.param.name; });

TEST(Safetensors, NamesTheTensorWithNanOrInfinity) {
  TemporaryDirectory directory;
  for (const float bad : {std::nanf(""), std::numeric_limits<float>::infinity()}) {
    std::string data = six_floats();
    std::memcpy(data.data() + 16, &bad, 4);
    const auto checkpoint =
        open_safetensors(write_file(directory / "x.safetensors", safetensors(kHeader, data)));
    expect_parts(error_of([&] { checkpoint->read("a"); }),
                 {"x.safetensors", "tensor a", "row 1, column 1", std::isnan(bad) ? "NaN" : "infinity"});
  }
}

TEST(Safetensors, OpensTypesItCannotReadAndSaysSoOnReading) {
  TemporaryDirectory directory;
  for (const std::string type : {"U8", "F8_E4M3"}) {
    const auto checkpoint = open_safetensors(write_file(
        directory / "x.safetensors",
        safetensors(R"({"a":{"dtype":")" + type + R"(","shape":[4],"data_offsets":[0,4]}})", "abcd")));
    expect_parts(error_of([&] { checkpoint->read("a"); }), {"tensor a", type});
  }
}

class ShardedSafetensors : public ::testing::Test {
 protected:
  void SetUp() override {
    write_file(directory_ / "one.safetensors", safetensors(kHeader, six_floats()));
    write_file(directory_ / "two.safetensors",
               safetensors(R"({"b":{"dtype":"F32","shape":[6],"data_offsets":[0,24]}})", six_floats()));
  }
  std::string error_with_index(const std::string& index) {
    write_file(directory_ / "model.safetensors.index.json", index);
    return error_of([&] { open_safetensors(directory_.path()); });
  }
  TemporaryDirectory directory_;
};

TEST_F(ShardedSafetensors, OpensThroughTheIndex) {
  const fs::path index =
      write_file(directory_ / "model.safetensors.index.json",
                 R"({"metadata":{},"weight_map":{"b":"two.safetensors","a":"one.safetensors"}})");
  for (const fs::path& path : {directory_.path(), index}) {
    const auto checkpoint = open_safetensors(path);
    EXPECT_EQ(checkpoint->tensors().size(), 2u);
    EXPECT_EQ(checkpoint->read("a"), checkpoint->read("b"));
  }
}

TEST_F(ShardedSafetensors, BadIndexesAreNamed) {
  expect_parts(error_of([&] { open_safetensors(directory_.path()); }), {"2 .safetensors files but no"});
  expect_parts(error_with_index("{"), {"not valid JSON"});
  expect_parts(error_with_index("{}"), {"weight_map"});
  expect_parts(error_with_index(R"({"weight_map":{}})"), {"empty"});
  expect_parts(error_with_index(R"({"weight_map":{"a":1}})"), {"tensor a"});
  expect_parts(error_with_index(R"({"weight_map":{"a":"../one.safetensors"}})"), {"same directory"});
  expect_parts(error_with_index(R"({"weight_map":{"a":"three.safetensors"}})"),
               {"three.safetensors", "missing"});
  expect_parts(error_with_index(R"({"weight_map":{"a":"two.safetensors","b":"one.safetensors"}})"),
               {"it is in one.safetensors"});
}

// Tied heads and buffers stand in indexes without being saved; a note names them.
TEST_F(ShardedSafetensors, TensorsThatNoShardHoldsAreNoted) {
  write_file(directory_ / "model.safetensors.index.json",
             R"({"weight_map":{"a":"one.safetensors","b":"two.safetensors","c":"two.safetensors"}})");
  testing::internal::CaptureStderr();
  const auto checkpoint = open_safetensors(directory_.path());
  EXPECT_NE(testing::internal::GetCapturedStderr().find("lists 1 tensors that no file holds, c among them"),
            std::string::npos);
  EXPECT_EQ(checkpoint->tensors().size(), 2u);
  expect_parts(error_of([&] { checkpoint->read("c"); }), {"c"});
}

TEST_F(ShardedSafetensors, AThousandShards) {
  std::string map;
  for (int shard = 0; shard < 1000; ++shard) {
    const std::string name = fmt::format("part-{}.safetensors", shard);
    write_file(
        directory_ / name,
        safetensors(fmt::format(R"({{"t{}":{{"dtype":"F32","shape":[6],"data_offsets":[0,24]}}}})", shard),
                    six_floats()));
    map += fmt::format("{}\"t{}\":\"{}\"", shard > 0 ? "," : "", shard, name);
  }
  write_file(directory_ / "model.safetensors.index.json", "{\"weight_map\":{" + map + "}}");
  const auto checkpoint = open_safetensors(directory_.path());
  EXPECT_EQ(checkpoint->tensors().size(), 1000u);
  EXPECT_EQ(checkpoint->read("t999"), checkpoint->read("t0"));
}

TEST_F(ShardedSafetensors, ATensorInTwoShardsIsNamed) {
  write_file(directory_ / "two.safetensors", safetensors(kHeader, six_floats()));
  expect_parts(error_with_index(R"({"weight_map":{"a":"one.safetensors","b":"two.safetensors"}})"),
               {"tensor a is also in", "one.safetensors"});
}

// A config that speaks of quantization beside weights that are plain: the tensors are believed.
TEST(PackedCheckpoint, LeftOverSectionsAreNoted) {
  TemporaryDirectory directory;
  const fs::path file = write_file(directory / "model.safetensors", safetensors(kHeader, six_floats()));
  for (const Json& section :
       {Json::object(), Json{{"quant_method", "bitsandbytes"}, {"load_in_4bit", true}}}) {
    testing::internal::CaptureStderr();
    const auto checkpoint = open_packed(open_safetensors(file), {{"quantization_config", section}},
                                        fmt::format("config of {} keys", section.size()));
    EXPECT_NE(testing::internal::GetCapturedStderr().find("is left over"), std::string::npos);
    EXPECT_EQ(checkpoint->read("a"), open_safetensors(file)->read("a"));
  }
}

TEST(Safetensors, MissingPathsAreNamed) {
  TemporaryDirectory directory;
  expect_parts(error_of([&] { open_safetensors(directory.path() / "none"); }), {"does not exist"});
  expect_parts(error_of([&] { open_safetensors(directory.path()); }), {"no .safetensors file"});
}

}  // namespace
}  // namespace strata
