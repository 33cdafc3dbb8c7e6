#include "strata/checkpoint/safetensors_writer.h"

#include <gtest/gtest.h>

#include <numeric>

#include "strata/checkpoint/checkpoint.h"
#include "strata/core/file.h"
#include "strata/core/json.h"
#include "tests/support/files.h"

namespace strata {
namespace {
namespace fs = std::filesystem;

// An odd number of halves stands before floats, so that tensors in the order planned would not be aligned.
const std::vector<PlannedTensor> kTensors = {{"embed", {3, 5}, DType::F16},
                                             {"norm", {7}, DType::F32},
                                             {"empty", {0, 4}, DType::F32},
                                             {"head \"quoted\"", {2, 3}, DType::BF16}};

std::vector<float> values_of(const PlannedTensor& tensor) {
  int64_t count = 1;
  for (const int64_t dimension : tensor.shape) count *= dimension;
  std::vector<float> values(static_cast<size_t>(count));
  std::iota(values.begin(), values.end(), static_cast<float>(tensor.name.size()));
  return values;
}

void write_all(const fs::path& directory, uint64_t shard_bytes) {
  SafetensorsWriter writer(directory, kTensors, {{"format", "pt"}}, shard_bytes);
  std::vector<float> all;
  for (const PlannedTensor& tensor : kTensors)
    for (const float value : values_of(tensor)) all.push_back(value);
  for (size_t i = 0; i < all.size(); i += 4)  // pieces that do not end where tensors do
    writer.write(all.data() + i, static_cast<int64_t>(std::min<size_t>(4, all.size() - i)));
  writer.finish();
}

void expect_all(const fs::path& directory) {
  const auto checkpoint = open_safetensors(directory);
  EXPECT_EQ(checkpoint->tensors().size(), kTensors.size());
  for (const PlannedTensor& tensor : kTensors) {
    EXPECT_EQ(checkpoint->info(tensor.name).shape, tensor.shape);
    EXPECT_EQ(checkpoint->info(tensor.name).type, name_of(tensor.type));
    EXPECT_EQ(checkpoint->read(tensor.name), values_of(tensor));
  }
}

TEST(SafetensorsWriter, OneFile) {
  TemporaryDirectory directory;
  write_all(directory.path(), 1000);
  expect_all(directory.path());
  EXPECT_FALSE(fs::exists(directory / "model.safetensors.index.json"));
  const std::string file = read_text(directory / "model.safetensors");
  uint64_t header;
  std::memcpy(&header, file.data(), 8);
  EXPECT_EQ(header % 8, 0u);
  EXPECT_EQ(file.size(), 8 + header + 30 + 28 + 12);
  const LargeJson entries = LargeJson::parse(file.substr(8, header));
  for (const auto& [name, entry] : entries.items()) {
    if (name == "__metadata__") {
      EXPECT_EQ(entry["format"], "pt");
    } else if (entry["dtype"] == "F32") {
      EXPECT_EQ(entry["data_offsets"][0].get<uint64_t>() % 4, 0u) << name;
    }
  }
}

TEST(SafetensorsWriter, Shards) {
  TemporaryDirectory directory;
  write_all(directory.path(), 31);  // 30 bytes, then 28, then 12
  expect_all(directory.path());
  EXPECT_TRUE(fs::exists(directory / "model-00001-of-00003.safetensors"));
  const LargeJson index = read_large_json(directory / "model.safetensors.index.json");
  EXPECT_EQ(index["metadata"]["total_size"], 70);
  EXPECT_EQ(index["weight_map"]["embed"], "model-00001-of-00003.safetensors");
  EXPECT_EQ(index["weight_map"]["norm"], "model-00002-of-00003.safetensors");
  EXPECT_EQ(index["weight_map"]["empty"], "model-00002-of-00003.safetensors");
  EXPECT_EQ(index["weight_map"]["head \"quoted\""], "model-00003-of-00003.safetensors");
}

TEST(SafetensorsWriter, TheSafetensorsPackageReadsTheSame) {
  const std::string python = python_with("safetensors.numpy, numpy");
  if (python.empty()) GTEST_SKIP() << "Python's safetensors package is not installed";
  TemporaryDirectory directory;
  write_all(directory.path(), 1000);
  write_text(directory / "read.py",
             "import sys, struct, json\n"
             "from safetensors import safe_open\n"
             "with safe_open(sys.argv[1], framework='numpy') as f:\n"
             "    assert f.metadata() == {'format': 'pt'}, f.metadata()\n"
             "    for name in ['embed', 'norm', 'empty']:\n"
             "        t = f.get_tensor(name)\n"
             "        print(name, t.dtype, list(t.shape), t.reshape(-1).tolist())\n"
             "    s = f.get_slice('head \"quoted\"')\n"
             "    print('head', s.get_dtype(), s.get_shape())\n");
  const std::string command = python + " '" + (directory / "read.py").string() + "' '" +
                              (directory / "model.safetensors").string() + "' > '" +
                              (directory / "out").string() + "' 2>&1";
  EXPECT_EQ(std::system(command.c_str()), 0) << read_text(directory / "out");
  EXPECT_EQ(
      read_text(directory / "out"),
      "embed float16 [3, 5] [5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0, 13.0, 14.0, 15.0, 16.0, 17.0, 18.0, "
      "19.0]\n"
      "norm float32 [7] [4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0]\n"
      "empty float32 [0, 4] []\n"
      "head BF16 [2, 3]\n");
}

TEST(SafetensorsWriter, LeavesNothingWithoutAllWeights) {
  TemporaryDirectory directory;
  const float values[64] = {};
  expect_parts(error_of([&] {
                 SafetensorsWriter writer(directory.path(), kTensors, {}, 31);
                 writer.write(values, 16);
                 writer.finish();
               }),
               {"tensor norm has 1 of its 7 weights"});
  expect_parts(error_of([&] {
                 SafetensorsWriter writer(directory.path(), kTensors);
                 writer.write(values, 64);
               }),
               {"36 weights were given beyond the last tensor"});
  expect_parts(error_of([&] {
                 SafetensorsWriter(directory.path(), {{"a", {1}, DType::F32}, {"a", {1}, DType::F32}});
               }),
               {"\"a\" appears twice"});
  EXPECT_TRUE(fs::is_empty(directory.path()));
}

}  // namespace
}  // namespace strata
