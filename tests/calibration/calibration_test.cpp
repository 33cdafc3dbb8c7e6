#include "strata/calibration/calibration.h"

#include <gtest/gtest.h>

#include <fstream>
#include <set>

#include "strata/calibration/self_text.h"
#include "strata/calibration/token_files.h"
#include "strata/checkpoint/safetensors_header.h"
#include "strata/core/error.h"
#include "strata/core/file.h"
#include "strata/forward/decoder.h"
#include "tests/support/random_model.h"
#include "tests/support/temporary_directory.h"

namespace strata {
namespace {

class CalibrationTest : public testing::Test {
 protected:
  void SetUp() override {
    write_random_model(directory_ / "model", small_config("llama"), DType::F32);
    model_ = open_model(directory_ / "model");
  }

  // A file of raw bytes.
  std::filesystem::path file(const std::string& name, const std::string& bytes) const {
    std::ofstream(directory_ / name, std::ios::binary) << bytes;
    return directory_ / name;
  }

  static std::string npy(const std::string& type, const std::string& shape, const std::string& data,
                         const std::string& fortran = "False") {
    std::string header =
        "{'descr': '" + type + "', 'fortran_order': " + fortran + ", 'shape': " + shape + ", }";
    header.resize((10 + header.size() + 64) / 64 * 64 - 11, ' ');
    header += '\n';
    const auto length = static_cast<uint16_t>(header.size());
    return std::string("\x93NUMPY\x01\x00", 8) + std::string(reinterpret_cast<const char*>(&length), 2) +
           header + data;
  }

  static std::string safetensors(const std::string& header, const std::string& data) {
    const uint64_t length = header.size();
    return std::string(reinterpret_cast<const char*>(&length), 8) + header + data;
  }

  template <class T>
  static std::string bytes_of(const std::vector<T>& values) {
    return std::string(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T));
  }

  // The message of the Error that reading this source throws.
  std::string error_of(const std::filesystem::path& source, int64_t window = 4) const {
    try {
      load_calibration(model_, options(source, 1000, window));
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  }

  static CalibrationOptions options(const std::filesystem::path& source, int64_t tokens, int64_t window) {
    CalibrationOptions options;
    options.source = source.string();
    options.tokens = tokens;
    options.window = window;
    return options;
  }

  TemporaryDirectory directory_;
  Model model_;
};

TEST_F(CalibrationTest, BlocksOfATextAreItsWindowsSampledWithoutRepetition) {
  std::string text;
  for (int i = 0; i < 103; ++i) text += static_cast<char>('A' + i % 26);  // a token a byte
  const auto path = file("text.txt", text);
  const Calibration all = load_calibration(model_, options(path, 1000, 8));
  ASSERT_EQ(all.blocks(), 12);
  std::set<std::string> windows;
  const auto tokenizer = make_tokenizer(model_.vocabulary());
  for (int64_t b = 0; b < all.blocks(); ++b) {
    const at::Tensor block = all.ids[b];
    const int64_t* ids = block.data_ptr<int64_t>();
    const std::string piece = tokenizer->decode(std::vector<int32_t>(ids, ids + 8));
    windows.insert(piece);
    bool is_window = false;
    for (size_t at = 0; at + 8 <= text.size(); at += 8) is_window |= text.substr(at, 8) == piece;
    EXPECT_TRUE(is_window) << piece;
  }
  EXPECT_EQ(windows.size(), 12u);

  CalibrationOptions few = options(path, 33, 8);
  const Calibration sample = load_calibration(model_, few);
  EXPECT_EQ(sample.blocks(), 5);  // rounded up
  EXPECT_TRUE(at::equal(sample.ids, load_calibration(model_, few).ids));
  few.seed = 1;
  const Calibration other = load_calibration(model_, few);
  EXPECT_FALSE(at::equal(sample.ids, other.ids));
  EXPECT_NE(sample.fingerprint, other.fingerprint);
}

TEST_F(CalibrationTest, IdsComeFromNpyAndSafetensors) {
  const std::vector<int32_t> narrow = {1, 2, 3, 4, 5, 6, 7, 319, 9, 10};
  const std::vector<int64_t> wide(narrow.begin(), narrow.end());
  const std::vector<std::vector<int64_t>> one = {wide};
  const std::vector<std::vector<int64_t>> two = {{1, 2, 3, 4, 5}, {6, 7, 319, 9, 10}};
  EXPECT_EQ(read_npy_ids(file("a.npy", npy("<i4", "(10,)", bytes_of(narrow)))), one);
  EXPECT_EQ(read_npy_ids(file("b.npy", npy("<i8", "(2, 5)", bytes_of(wide)))), two);
  EXPECT_EQ(read_npy_ids(file("c.npy", npy("|u1", "(2,)", std::string("\xff\x01", 2)))),
            (std::vector<std::vector<int64_t>>{{255, 1}}));
  const std::string header = R"({"input_ids":{"dtype":"I64","shape":[2,5],"data_offsets":[0,80]}})";
  EXPECT_EQ(read_safetensors_ids(file("d.safetensors", safetensors(header, bytes_of(wide)))), two);

  // Windows do not run from one row into the next.
  const Calibration calibration = load_calibration(model_, options(directory_ / "b.npy", 100, 4));
  ASSERT_EQ(calibration.blocks(), 2);
  std::set<int64_t> starts = {calibration.ids[0][0].item<int64_t>(), calibration.ids[1][0].item<int64_t>()};
  EXPECT_EQ(starts, (std::set<int64_t>{1, 6}));
}

TEST_F(CalibrationTest, WhatCannotServeIsRefusedInASentence) {
  const std::vector<int32_t> ids = {1, 2, 3};
  EXPECT_NE(error_of(file("short.txt", "abc")).find("are 3, fewer than one window of 4"), std::string::npos);
  EXPECT_NE(error_of(file("big.npy", npy("<i4", "(4,)", bytes_of<int32_t>({1, 2, 3, 320})))).find("id 320"),
            std::string::npos);
  EXPECT_NE(error_of(file("neg.npy", npy("<i4", "(4,)", bytes_of<int32_t>({1, 2, 3, -1})))).find("id -1"),
            std::string::npos);
  EXPECT_NE(error_of(file("cut.npy", npy("<i4", "(4,)", bytes_of(ids)))).find("do not fit the 12 bytes"),
            std::string::npos);
  EXPECT_NE(error_of(file("huge.npy", npy("<i8", "(281474976710656, 65536)", ""))).find("do not fit"),
            std::string::npos);
  EXPECT_NE(error_of(file("f.npy", npy("<f4", "(3,)", bytes_of(ids)))).find("'<f4'"), std::string::npos);
  EXPECT_NE(error_of(file("o.npy", npy("<i4", "(3,)", bytes_of(ids), "True"))).find("Fortran"),
            std::string::npos);
  EXPECT_NE(error_of(file("three.npy", npy("<i4", "(1, 1, 3)", bytes_of(ids)))).find("3 dimensions"),
            std::string::npos);
  EXPECT_NE(error_of(file("none.npy", "nothing")).find("does not start"), std::string::npos);
  EXPECT_NE(
      error_of(file("end.npy", std::string("\x93NUMPY\x01\x00\xff\xff{", 11))).find("within its header"),
      std::string::npos);
  const std::string real = R"({"w":{"dtype":"F32","shape":[3],"data_offsets":[0,12]}})";
  EXPECT_NE(error_of(file("w.safetensors", safetensors(real, bytes_of(ids)))).find("type F32"),
            std::string::npos);
  EXPECT_THROW(load_calibration(model_, options(directory_ / "short.txt", 10, 1)), UsageError);
  EXPECT_THROW(load_calibration(model_, options(directory_ / "short.txt", -1, 8)), UsageError);
}

// A model whose next token is certain writes that token: its own distribution is what it samples from.
TEST_F(CalibrationTest, SelfTextFollowsTheModelAndItsSeed) {
  const at::Tensor text = write_self_text(model_, 6, 12, 3, at::kCPU);
  EXPECT_TRUE(at::equal(text, write_self_text(model_, 6, 12, 3, at::kCPU)));
  EXPECT_FALSE(at::equal(text, write_self_text(model_, 6, 12, 4, at::kCPU)));

  Decoder decoder(model_, {});
  // Tokens are drawn from softmax(logits): their mean log probability comes near its expectation.
  const at::Tensor many = write_self_text(model_, 256, 4, 5, at::kCPU);
  const at::Tensor log_p = at::log_softmax(decoder.forward(many).narrow(1, 0, 3).to(at::kDouble), -1);
  const at::Tensor drawn = log_p.gather(2, many.narrow(1, 1, 3).unsqueeze(2));
  const at::Tensor expected = (log_p.exp() * log_p).sum(-1);
  const at::Tensor variance = (log_p.exp() * log_p.square()).sum(-1) - expected.square();
  const double deviation = std::sqrt(variance.sum().item<double>());
  EXPECT_NEAR(drawn.sum().item<double>(), expected.sum().item<double>(), 4 * deviation);
}

}  // namespace
}  // namespace strata
