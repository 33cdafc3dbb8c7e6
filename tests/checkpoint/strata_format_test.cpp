// Our own packed directories, written by hand after docs/files.md, sound and damaged.
#include <gtest/gtest.h>

#include "strata/checkpoint/packed_checkpoint.h"
#include "strata/checkpoint/safetensors_writer.h"
#include "strata/core/dtype.h"
#include "strata/quantization/scheme.h"
#include "tests/support/files.h"

namespace strata {
namespace {
namespace fs = std::filesystem;

struct StoredTensor {
  std::vector<int64_t> shape;
  DType type;
  std::string bytes;
};

std::string words(const std::vector<uint32_t>& values) {
  std::string bytes;
  for (const uint32_t value : values) bytes += bytes_of(value);
  return bytes;
}

std::string halves(const std::vector<float>& values) {
  std::string bytes;
  for (const float value : values) bytes += bytes_of(float_to_half(value));
  return bytes;
}

// A matrix of 100 rows and 3 columns; row 10 and row 20 have 3 bits (0.02 of the rows), the others 2: code c
// of row r is (r + c) % 4, in a group a row with scale 0.5 and zero point r / 8; the codes of rows 10 and 20
// are 7, 6, 5 with scale 0.25 and zero point 1.
class StrataFormat : public ::testing::Test {
 protected:
  StrataFormat() {
    std::vector<uint32_t> codes;
    std::vector<float> zeros;
    for (uint32_t r = 0; r < 100; ++r) {
      if (r == 10 || r == 20) continue;
      codes.push_back(r % 4 | (r + 1) % 4 << 2 | (r + 2) % 4 << 4);
      zeros.push_back(static_cast<float>(r) / 8);
    }
    tensors_ = {{"m.codes", {{98, 1}, DType::U32, words(codes)}},
                {"m.scales", {{98, 1}, DType::F16, halves(std::vector<float>(98, 0.5f))}},
                {"m.zeros", {{98, 1}, DType::F16, halves(zeros)}},
                {"m.high_codes", {{2, 1}, DType::U32, words({7 | 6 << 3 | 5 << 6, 7 | 6 << 3 | 5 << 6})}},
                {"m.high_scales", {{2, 1}, DType::F16, halves({0.25f, 0.25f})}},
                {"m.high_zeros", {{2, 1}, DType::F16, halves({1, 1})}},
                {"m.high_rows", {{2}, DType::U32, words({10, 20})}},
                {"norm.weight", {{1}, DType::F16, halves({1})}}};
    config_["quantization_config"] = {
        {"quant_method", "strata"},
        {"version", 1},
        {"modules", {{"m", {{"scheme", "w2row+w3@0.02"}, {"shape", {100, 3}}}}}}};
  }

  Json& module() { return config_["quantization_config"]["modules"]["m"]; }

  std::unique_ptr<Checkpoint> open() const {
    std::vector<PlannedTensor> planned;
    for (const auto& [name, tensor] : tensors_) planned.push_back({name, tensor.shape, tensor.type});
    SafetensorsWriter writer(directory_.path(), planned);
    for (const auto& [name, tensor] : tensors_)
      writer.write_bytes(reinterpret_cast<const std::byte*>(tensor.bytes.data()), tensor.bytes.size());
    writer.finish();
    return open_packed(open_safetensors(directory_.path()), config_, "config.json");
  }

  void expect_refused(const std::vector<std::string>& parts) const {
    expect_parts(error_of([&] { open(); }), parts);
  }

  TemporaryDirectory directory_;
  std::map<std::string, StoredTensor> tensors_;
  Json config_;
};

TEST_F(StrataFormat, IsReadAsDefined) {
  const auto checkpoint = open();
  ASSERT_EQ(checkpoint->tensors().size(), 2u);
  const TensorInfo& info = checkpoint->info("m.weight");
  EXPECT_EQ(info.shape, (std::vector<int64_t>{100, 3}));
  EXPECT_EQ(info.type, "w2row+w3@0.02");
  EXPECT_EQ(8 * info.bytes, parse_scheme(info.type).stored_bits(100, 3));
  const std::vector<float> values = checkpoint->read("m.weight");
  for (int r = 0; r < 100; ++r)
    for (int c = 0; c < 3; ++c) {
      const bool high = r == 10 || r == 20;
      const float expected = high ? static_cast<float>(6 - c) * 0.25f
                                  : (static_cast<float>((r + c) % 4) - static_cast<float>(r) / 8) * 0.5f;
      EXPECT_EQ(values[r * 3 + c], expected) << r << " " << c;
    }
  EXPECT_EQ(checkpoint->read("norm.weight"), std::vector<float>{1});
}

TEST_F(StrataFormat, RowListsThatLieAreRefused) {
  auto& list = tensors_["m.high_rows"];
  list.bytes = words({10, 100});
  expect_refused({"m.high_rows", "row 100", "100 rows"});
  list.bytes = words({10, 0xffffffff});
  expect_refused({"m.high_rows", "row 4294967295"});
  list.bytes = words({20, 20});
  expect_refused({"m.high_rows", "row 20 after row 20"});
  list.bytes = words({20, 10});
  expect_refused({"m.high_rows", "row 10 after row 20"});
  list = {{3}, DType::U32, words({10, 20, 30})};
  expect_refused({"m.high_rows", "[3]", "[2]"});
  list = {{2}, DType::F32, words({10, 20})};
  expect_refused({"m.high_rows", "F32", "U32"});
  tensors_.erase("m.high_rows");
  expect_refused({"m.high_rows"});
}

TEST_F(StrataFormat, BitmapsThatLieAreRefused) {
  // 4 rows of 100 and more are listed by a bit a row, in 13 bytes.
  module()["scheme"] = "w2row+w3@0.04";
  for (const char* name : {"m.codes", "m.scales", "m.zeros"}) {
    tensors_[name].shape[0] = 96;
    tensors_[name].bytes.resize(tensors_[name].bytes.size() / 98 * 96);
  }
  for (const char* name : {"m.high_codes", "m.high_scales", "m.high_zeros"}) {
    tensors_[name].shape[0] = 4;
    tensors_[name].bytes += tensors_[name].bytes;
  }
  std::string bits(13, '\0');
  bits[0] = '\x81';
  bits[5] = '\x01';
  bits[12] = '\x08';
  auto& list = tensors_["m.high_rows"];
  list = {{13}, DType::U8, bits};
  EXPECT_EQ(open()->read("m.weight")[3 * 99], 1.5f);
  list.bytes[12] = '\x10';
  expect_refused({"m.high_rows", "row 100"});
  list.bytes[12] = '\x00';
  expect_refused({"m.high_rows", "3 rows", "4 of 100"});
  list.bytes[12] = '\x0c';
  expect_refused({"m.high_rows", "5 rows", "4 of 100"});
  list = {{2}, DType::U32, words({10, 20})};
  expect_refused({"m.high_rows", "[2]", "[13]"});
}

TEST_F(StrataFormat, PartsThatDoNotFitAreRefused) {
  const auto sound = tensors_;
  for (const auto& [name, tensor] : sound) {
    if (name == "norm.weight") continue;
    tensors_ = sound;
    tensors_.erase(name);
    expect_refused({name});
    tensors_ = sound;
    tensors_[name].shape.push_back(1);
    expect_refused({name, "shape"});
    tensors_ = sound;
    tensors_[name].type = tensor.type == DType::U32 ? DType::F32 : DType::BF16;
    expect_refused({name, "was expected"});
  }
  tensors_ = sound;
  tensors_["m.scales"].bytes = halves(std::vector<float>(98, INFINITY));
  const auto checkpoint = open();
  expect_parts(error_of([&] { checkpoint->read("m.weight"); }), {"m.weight", "finite"});
}

TEST_F(StrataFormat, TruncatedFilesAreRefused) {
  open();
  const fs::path file = directory_ / "model.safetensors";
  fs::resize_file(file, fs::file_size(file) - 5);
  EXPECT_FALSE(error_of([&] { open_packed(open_safetensors(directory_.path()), config_, "c"); }).empty());
}

TEST_F(StrataFormat, ConfigsThatLieAreRefused) {
  const Json sound = config_;
  const auto refused = [&](const auto& change, const std::vector<std::string>& parts) {
    config_ = sound;
    change(config_["quantization_config"]);
    expect_refused(parts);
  };
  refused([](Json& section) { section["version"] = 2; }, {"version", "2"});
  refused([](Json& section) { section.erase("modules"); }, {"modules"});
  refused([](Json& section) { section["modules"] = 3; }, {"modules"});
  refused([](Json& section) { section["modules"]["m"] = "w4g64"; }, {"m", "object"});
  refused([](Json& section) { section["modules"]["m"].erase("scheme"); }, {"m", "scheme"});
  refused([](Json& section) { section["modules"]["m"]["scheme"] = "w9g64"; }, {"m", "w9g64"});
  refused([](Json& section) { section["modules"]["m"]["scheme"] = "w2row+w3@2"; }, {"m", "from 0 to 1"});
  refused([](Json& section) { section["modules"]["m"]["scheme"] = "Q4_K"; }, {"m", "Q4_K"});
  refused([](Json& section) { section["modules"]["m"]["scheme"] = "w2row+w3@0.5"; }, {"m.codes", "[50, 1]"});
  refused([](Json& section) { section["modules"]["missing"] = section["modules"]["m"]; }, {"missing.codes"});
  for (const Json& shape :
       {Json(), Json("x"), Json::array({100}), Json::array({100, 0}), Json::array({-1, 3}),
        Json::array({100, 3.5}), Json::array({uint64_t{1} << 63, 3}),
        Json::array({int64_t{1} << 40, int64_t{1} << 40})})
    refused([&](Json& section) { section["modules"]["m"]["shape"] = shape; }, {"m", "shape"});
  // Within the bounds of shapes, beyond those of matrices or of the file.
  refused(
      [](Json& section) {
        section["modules"]["m"]["shape"] = {int64_t{1} << 31, int64_t{1} << 31};
      },
      {"2147483648"});
  refused(
      [](Json& section) {
        section["modules"]["m"] = {{"scheme", "w2row+w3@1"}, {"shape", {int64_t{1} << 31, 1}}};
      },
      {"m.high_codes", "2147483648"});
}

}  // namespace
}  // namespace strata
