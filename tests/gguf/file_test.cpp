#include "strata/gguf/file.h"

#include <gtest/gtest.h>

#include "strata/core/file.h"
#include "tests/support/files.h"

namespace strata {
namespace {
namespace fs = std::filesystem;

std::string string_bytes(const std::string& text) {
  return bytes_of<uint64_t>(text.size()) + text;
}

std::string key_bytes(const std::string& name, uint32_t type, const std::string& value) {
  return string_bytes(name) + bytes_of(type) + value;
}

std::string tensor_bytes(const std::string& name, const std::vector<uint64_t>& dimensions, uint32_t type,
                         uint64_t offset) {
  std::string bytes = string_bytes(name) + bytes_of(static_cast<uint32_t>(dimensions.size()));
  for (const uint64_t dimension : dimensions) bytes += bytes_of(dimension);
  return bytes + bytes_of(type) + bytes_of(offset);
}

std::string gguf_bytes(const std::vector<std::string>& keys, const std::vector<std::string>& tensors,
                       const std::string& data, uint32_t version = 3) {
  std::string bytes =
      "GGUF" + bytes_of(version) + bytes_of<uint64_t>(tensors.size()) + bytes_of<uint64_t>(keys.size());
  for (const std::string& key : keys) bytes += key;
  for (const std::string& tensor : tensors) bytes += tensor;
  if (!data.empty()) bytes.resize((bytes.size() + 31) / 32 * 32);
  return bytes + data;
}

std::vector<GgufKey> one_of_each_key() {
  using Type = GgufValue::Type;
  GgufValue bools{Type::Array, std::vector<bool>{true, false, true}, Type::Bool};
  GgufValue bytes{Type::Array, std::vector<int64_t>{0, 255}, Type::U8};
  GgufValue doubles{Type::Array, std::vector<double>{0.1, -1e300}, Type::F64};
  return {{"general.architecture", gguf_string("llama")},
          {"a.u8", {Type::U8, uint64_t{200}}},
          {"a.i8", {Type::I8, int64_t{-100}}},
          {"a.u16", {Type::U16, uint64_t{60000}}},
          {"a.i16", {Type::I16, int64_t{-30000}}},
          {"a.u32", gguf_u32(4000000000u)},
          {"a.i32", {Type::I32, int64_t{-2000000000}}},
          {"a.u64", {Type::U64, uint64_t{1} << 63}},
          {"a.i64", {Type::I64, -(int64_t{1} << 62)}},
          {"a.f32", gguf_f32(0.1f)},
          {"a.f64", {Type::F64, 0.1}},
          {"a.bool", gguf_bool(true)},
          {"a.strings", gguf_strings({"", "caf\xc3\xa9", std::string("z\0z", 3)})},
          {"a.i32s", gguf_i32s({-1, 2, 3})},
          {"a.f32s", gguf_f32s({0.5, -2})},
          {"a.bools", bools},
          {"a.bytes", bytes},
          {"a.doubles", doubles},
          {"a.empty", gguf_strings({})}};
}

std::vector<GgufTensor> some_tensors() {
  return {{"token_embd.weight", {3, 64}, GgufType::Q8_0},
          {"output_norm.weight", {5}, GgufType::F32},
          {"blk.0.attn_q.weight", {2, 256}, GgufType::Q4_K},
          {"experts", {2, 3, 32}, GgufType::Q4_0}};
}

std::string tensor_data(const GgufTensor& tensor) {
  std::string data(tensor.bytes(), '\0');
  for (size_t i = 0; i < data.size(); ++i) data[i] = static_cast<char>(i * 7 + tensor.name.size());
  return data;
}

fs::path write_example(const fs::path& path) {
  GgufWriter writer(path, one_of_each_key(), some_tensors());
  std::string all;
  for (const GgufTensor& tensor : some_tensors()) all += tensor_data(tensor);
  // In pieces that do not end where tensors do.
  for (size_t i = 0; i < all.size(); i += 100)
    writer.write(reinterpret_cast<const std::byte*>(all.data() + i), std::min<size_t>(100, all.size() - i));
  writer.commit();
  return path;
}

TEST(Gguf, WhatIsWrittenIsReadBack) {
  TemporaryDirectory directory;
  const fs::path path = write_example(directory / "x.gguf");
  EXPECT_EQ(fs::file_size(path), GgufWriter::file_size(one_of_each_key(), some_tensors()));

  const GgufFile file(path);
  const auto keys = one_of_each_key();
  ASSERT_EQ(file.keys().size(), keys.size());
  for (size_t i = 0; i < keys.size(); ++i) {
    EXPECT_EQ(file.keys()[i].name, keys[i].name);
    EXPECT_EQ(file.keys()[i].value.type, keys[i].value.type);
    EXPECT_EQ(file.keys()[i].value.value, keys[i].value.value) << keys[i].name;
    if (keys[i].value.type == GgufValue::Type::Array) {
      EXPECT_EQ(file.keys()[i].value.element_type, keys[i].value.element_type);
    }
  }
  const auto tensors = some_tensors();
  ASSERT_EQ(file.tensors().size(), tensors.size());
  for (size_t i = 0; i < tensors.size(); ++i) {
    const GgufTensor& tensor = file.tensors()[i];
    EXPECT_EQ(tensor.name, tensors[i].name);
    EXPECT_EQ(tensor.shape, tensors[i].shape);
    EXPECT_EQ(tensor.type, tensors[i].type);
    EXPECT_EQ(tensor.offset % 32, 0u);
    EXPECT_EQ(std::string(reinterpret_cast<const char*>(file.data(tensor)), tensor.bytes()),
              tensor_data(tensor));
    file.release(tensor);
    EXPECT_EQ(std::string(reinterpret_cast<const char*>(file.data(tensor)), tensor.bytes()),
              tensor_data(tensor));
  }
  EXPECT_EQ(file.find_tensor("experts")->bytes(), 6u * 18);
  EXPECT_EQ(file.find("a.none"), nullptr);
  EXPECT_EQ(gguf_integer(*file.find("a.i8")), -100);
  EXPECT_EQ(gguf_integer(*file.find("a.u64")), std::nullopt) << "beyond the signed range";
  EXPECT_EQ(gguf_number(*file.find("a.u8")), 200.0);
}

TEST(Gguf, TheGgufPackageReadsTheSame) {
  const std::string python = python_with("gguf");
  if (python.empty()) GTEST_SKIP() << "Python's gguf package is not installed";
  TemporaryDirectory directory;
  const fs::path path = directory / "x.gguf";
  {
    GgufWriter writer(path, one_of_each_key(), some_tensors());
    for (const GgufTensor& tensor : some_tensors()) {
      const std::string data = tensor_data(tensor);
      writer.write(reinterpret_cast<const std::byte*>(data.data()), data.size());
    }
    writer.commit();
  }
  const std::string command = python + " '" STRATA_SOURCE_DIR "/tests/gguf/read_gguf.py' '" + path.string() +
                              "' > '" + (directory / "out").string() + "' 2>&1";
  EXPECT_EQ(std::system(command.c_str()), 0);
  const std::string output = read_text(directory / "out");
  expect_parts(
      output,
      {"key general.architecture ['STRING'] llama", "key a.u8 ['UINT8'] 200", "key a.i8 ['INT8'] -100",
       "key a.u16 ['UINT16'] 60000", "key a.i16 ['INT16'] -30000", "key a.u32 ['UINT32'] 4000000000",
       "key a.i32 ['INT32'] -2000000000", "key a.u64 ['UINT64'] 9223372036854775808",
       "key a.i64 ['INT64'] -4611686018427387904", "key a.f64 ['FLOAT64'] 0.1", "key a.bool ['BOOL'] True",
       "key a.i32s ['ARRAY', 'INT32'] [-1, 2, 3]", "key a.f32s ['ARRAY', 'FLOAT32'] [0.5, -2.0]",
       "key a.bools ['ARRAY', 'BOOL'] [True, False, True]", "key a.bytes ['ARRAY', 'UINT8'] [0, 255]",
       "key a.doubles ['ARRAY', 'FLOAT64'] [0.1, -1e+300]", "'caf\xc3\xa9'"});
  for (const GgufTensor& tensor : some_tensors()) {
    uint64_t sum = 0;
    for (const char byte : tensor_data(tensor)) sum += static_cast<uint8_t>(byte);
    std::string dimensions;
    for (auto d = tensor.shape.rbegin(); d != tensor.shape.rend(); ++d)
      dimensions += (dimensions.empty() ? "" : ", ") + std::to_string(*d);
    expect_parts(output, {fmt::format("tensor {} [{}] {} {} {}", tensor.name, dimensions,
                                      traits_of(tensor.type).name, tensor.bytes(), sum)});
  }
}

TEST(Gguf, ReadsVersionTwoAndOtherAlignments) {
  TemporaryDirectory directory;
  const std::string keys = key_bytes("general.alignment", 4, bytes_of<uint32_t>(64));
  const std::string data = std::string(64, 'a') + bytes_of(2.5f);
  std::string bytes =
      gguf_bytes({keys}, {tensor_bytes("a", {16}, 0, 0), tensor_bytes("b", {1}, 0, 64)}, "", 2);
  bytes.resize((bytes.size() + 63) / 64 * 64);
  const GgufFile file(write_file(directory / "x.gguf", bytes + data));
  float value;
  std::memcpy(&value, file.data(*file.find_tensor("b")), 4);
  EXPECT_EQ(value, 2.5f);
}

TEST(Gguf, WriterHonoursTheAlignmentKey) {
  TemporaryDirectory directory;
  const std::vector<GgufKey> keys = {{"general.alignment", gguf_u32(128)}};
  const std::vector<GgufTensor> tensors = {{"a", {1}, GgufType::F32}, {"b", {1}, GgufType::F32}};
  GgufWriter writer(directory / "x.gguf", keys, tensors);
  const float values[] = {1, 2};
  writer.write(reinterpret_cast<const std::byte*>(values), 8);
  writer.commit();
  const GgufFile file(directory / "x.gguf");
  EXPECT_EQ(file.find_tensor("b")->offset, 128u);
  EXPECT_EQ(fs::file_size(directory / "x.gguf"), GgufWriter::file_size(keys, tensors));
  float value;
  std::memcpy(&value, file.data(*file.find_tensor("b")), 4);
  EXPECT_EQ(value, 2);
}

TEST(Gguf, WriterLeavesNothingWithoutAllBytes) {
  TemporaryDirectory directory;
  const fs::path path = directory / "x.gguf";
  expect_parts(error_of([&] {
                 GgufWriter writer(path, {}, {{"a", {4}, GgufType::F32}});
                 writer.write(reinterpret_cast<const std::byte*>("12345678"), 8);
                 writer.commit();
               }),
               {"tensor a has 8 of its 16 bytes", "x.gguf"});
  expect_parts(error_of([&] {
                 GgufWriter writer(path, {}, {{"a", {1}, GgufType::F32}});
                 writer.write(reinterpret_cast<const std::byte*>("12345678"), 8);
               }),
               {"4 bytes were given beyond the last tensor"});
  EXPECT_TRUE(fs::is_empty(directory.path()));
}

TEST(Gguf, WriterRefusesNamesThatReadersRefuse) {
  TemporaryDirectory directory;
  const auto write = [&](std::vector<GgufKey> keys, std::vector<GgufTensor> tensors) {
    return error_of([&] { GgufWriter(directory / "x.gguf", keys, tensors); });
  };
  expect_parts(write({}, {{std::string(64, 'n'), {1}}}), {"64 bytes"});
  expect_parts(write({}, {{"a", {1}}, {"a", {1}}}), {"tensor a appears twice"});
  expect_parts(write({{"k", gguf_u32(1)}, {"k", gguf_u32(2)}}, {}), {"key \"k\""});
  expect_parts(write({{"general.alignment", gguf_u32(24)}}, {}), {"general.alignment"});
  expect_parts(write({}, {{"a", {31}, GgufType::Q8_0}}), {"31"});
}

struct BadGgufFile {
  const char* name;
  std::string content;
  std::string message;
};

class BadGguf : public ::testing::TestWithParam<BadGgufFile> {};

TEST_P(BadGguf, IsNamedInOneSentence) {
  TemporaryDirectory directory;
  const fs::path file = write_file(directory / "bad.gguf", GetParam().content);
  expect_parts(error_of([&] { GgufFile opened(file); }), {"bad.gguf", GetParam().message});
}

std::string with_tensor(const std::string& tensor) {
  return gguf_bytes({}, {tensor}, std::string(64, 'x'));
}
std::string with_key(const std::string& key) {
  return gguf_bytes({key}, {}, "");
}
std::string counts(uint64_t tensors, uint64_t keys) {
  return "GGUF" + bytes_of<uint32_t>(3) + bytes_of(tensors) + bytes_of(keys) + std::string(40, '\0');
}

INSTANTIATE_TEST_SUITE_P(
    Files, BadGguf,
    ::testing::Values(
        BadGgufFile{"empty", "", "truncated"}, BadGgufFile{"other", "GGML....", "not a GGUF file"},
        BadGgufFile{"version_1", gguf_bytes({}, {}, "", 1), "version 1"},
        BadGgufFile{"version_4", gguf_bytes({}, {}, "", 4), "version 4"},
        BadGgufFile{"big_endian", gguf_bytes({}, {}, "", 0x03000000), "big-endian"},
        BadGgufFile{"no_counts", "GGUF" + bytes_of<uint32_t>(3) + "123", "the number of tensors"},
        BadGgufFile{"many_tensors", counts(~0ull, 0), "18446744073709551615 tensors"},
        BadGgufFile{"many_keys", counts(0, 1ull << 60), "1152921504606846976 keys"},
        BadGgufFile{"long_name", with_key(bytes_of<uint64_t>(~0ull) + std::string(20, 'x')),
                    "the name of key 1"},
        BadGgufFile{"empty_name", with_key(key_bytes("", 0, "xx")), "no name"},
        BadGgufFile{"value_type", with_key(key_bytes("k", 13, "12345678")), "value type 13"},
        BadGgufFile{"bool_2", with_key(key_bytes("k", 7, "\2")), "truth value of 2"},
        BadGgufFile{"cut_value", with_key(key_bytes("kk", 10, "123")), "key kk takes 8 bytes"},
        BadGgufFile{"long_string", with_key(key_bytes("k", 8, bytes_of<uint64_t>(1ull << 63))),
                    "key k takes"},
        BadGgufFile{"long_array",
                    with_key(key_bytes("k", 9, bytes_of<uint32_t>(8) + bytes_of<uint64_t>(1ull << 61))),
                    "elements of key k"},
        BadGgufFile{"nested_array",
                    with_key(key_bytes("k", 9, bytes_of<uint32_t>(9) + bytes_of<uint64_t>(1))),
                    "array of arrays"},
        BadGgufFile{"key_twice", gguf_bytes({key_bytes("k", 0, "1"), key_bytes("k", 0, "1")}, {}, ""),
                    "key k appears twice"},
        BadGgufFile{"alignment_24", with_key(key_bytes("general.alignment", 4, bytes_of<uint32_t>(24))),
                    "power of two"},
        BadGgufFile{"alignment_0", with_key(key_bytes("general.alignment", 4, bytes_of<uint32_t>(0))),
                    "power of two"},
        BadGgufFile{"alignment_text", with_key(key_bytes("general.alignment", 8, string_bytes("32"))),
                    "power of two"},
        BadGgufFile{"long_tensor_name", with_tensor(tensor_bytes(std::string(64, 'n'), {1}, 0, 0)),
                    "64 bytes"},
        BadGgufFile{"five_dimensions", with_tensor(tensor_bytes("t", {1, 1, 1, 1, 1}, 0, 0)), "5 dimensions"},
        BadGgufFile{"zero_dimension", with_tensor(tensor_bytes("t", {0}, 0, 0)), "dimension of 0"},
        BadGgufFile{"overflow", with_tensor(tensor_bytes("t", {1ull << 40, 1ull << 40}, 0, 0)), "impossible"},
        BadGgufFile{"negative", with_tensor(tensor_bytes("t", {~0ull}, 0, 0)), "impossible"},
        BadGgufFile{"known_type", with_tensor(tensor_bytes("t", {32}, 16, 0)),
                    "rows of 32 weights, which blocks of 256"},
        BadGgufFile{"unknown_type", with_tensor(tensor_bytes("t", {32}, 99, 0)),
                    "type 99, which is not known"},
        BadGgufFile{"block", with_tensor(tensor_bytes("t", {33}, 8, 0)), "rows of 33"},
        BadGgufFile{"unaligned", with_tensor(tensor_bytes("t", {8}, 0, 16)), "multiple of the alignment"},
        BadGgufFile{"past_the_end", with_tensor(tensor_bytes("t", {8}, 0, 64)),
                    "tensor t takes 32 bytes at 64"},
        BadGgufFile{"far_offset", with_tensor(tensor_bytes("t", {8}, 0, ~31ull)), "tensor t takes 32 bytes"},
        BadGgufFile{"tensor_twice",
                    gguf_bytes({}, {tensor_bytes("t", {8}, 0, 0), tensor_bytes("t", {8}, 0, 32)},
                               std::string(64, 'x')),
                    "tensor t appears twice"},
        BadGgufFile{"overlap",
                    gguf_bytes({}, {tensor_bytes("t", {16}, 0, 0), tensor_bytes("u", {8}, 0, 32)},
                               std::string(64, 'x')),
                    "tensor u begins at 32, inside"}),
    [](const auto& tested) { return tested.param.name; });

TEST(Gguf, EveryTruncationIsAnError) {
  TemporaryDirectory directory;
  const std::string whole = read_text(write_example(directory / "x.gguf"));
  const GgufFile file(directory / "x.gguf");
  const auto& last = file.tensors().back();
  const size_t end = static_cast<size_t>(file.data(last) - file.data(file.tensors()[0])) + last.bytes();
  const size_t header = whole.size() - (end + 31) / 32 * 32;
  for (size_t size = 0; size < header + end; size += size < header ? 7 : 41)
    EXPECT_FALSE(
        error_of([&] { GgufFile(write_file(directory / "cut.gguf", whole.substr(0, size))); }).empty());
}

}  // namespace
}  // namespace strata
