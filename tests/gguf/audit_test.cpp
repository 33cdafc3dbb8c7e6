#include "strata/gguf/audit.h"

#include <gtest/gtest.h>

#include <fstream>

#include "strata/gguf/codec.h"
#include "strata/gguf/file.h"
#include "tests/support/files.h"

namespace strata {
namespace {

class GgufAudit : public testing::Test {
 protected:
  GgufAudit() {
    std::vector<GgufTensor> tensors(2);
    tensors[0] = {"first", {2, 32}, GgufType::F32};
    tensors[1] = {"second", {3, 64}, GgufType::Q8_0};
    GgufWriter writer(path_,
                      {{"general.architecture", gguf_string("none")}, {"names", gguf_strings({"a", "bc"})}},
                      tensors);
    const std::vector<float> values(3 * 64, 0.5f);
    std::vector<std::byte> blocks(3 * 2 * 34);
    encode_gguf(GgufType::Q8_0, values.data(), 3, 64, nullptr, blocks.data());
    writer.write(reinterpret_cast<const std::byte*>(values.data()), 2 * 32 * 4);
    writer.write(blocks.data(), blocks.size());
    writer.commit();
    std::ifstream stream(path_, std::ios::binary);
    whole_.assign(std::istreambuf_iterator<char>(stream), {});
  }

  std::vector<std::string> faults_of(const std::string& bytes) {
    write_file(path_, bytes);
    return gguf_faults(path_);
  }

  // With the bytes of `from` replaced where they first stand, or `beyond` bytes behind that.
  std::string with(const std::string& from, const std::string& to, size_t beyond = 0) const {
    std::string bytes = whole_;
    const size_t at = bytes.find(from);
    EXPECT_NE(at, std::string::npos);
    return bytes.replace(at + beyond, to.size(), to);
  }

  TemporaryDirectory directory_;
  std::filesystem::path path_ = directory_ / "model.gguf";
  std::string whole_;
};

TEST_F(GgufAudit, FindsNothingInAWholeFile) {
  EXPECT_TRUE(gguf_faults(path_).empty());
}

TEST_F(GgufAudit, NamesEveryFault) {
  const auto expect = [&](const std::string& bytes, const std::string& fault) {
    const std::vector<std::string> faults = faults_of(bytes);
    ASSERT_FALSE(faults.empty()) << fault;
    EXPECT_NE(faults.front().find(fault), std::string::npos) << faults.front();
    EXPECT_EQ(faults.front().find(path_.string() + ": "), 0u) << faults.front();
  };
  constexpr size_t kType = 6 + 4 + 2 * 8, kOffset = kType + 4;  // behind the name "second" begins
  expect("GGUX" + whole_.substr(4), "does not begin as a GGUF file");
  expect(with("GGUF", bytes_of(uint32_t{9}), 4), "its version is 9");
  expect(with("second", bytes_of(uint32_t{77}), kType), "second has type 77");
  expect(with("second", bytes_of(uint64_t{33}), 6 + 4), "second has type 8 and a first dimension of 33");
  expect(with("second", bytes_of(uint64_t{288}), kOffset),
         "second begins at byte 288 of the data; 256 was expected");
  expect(std::string(whole_).replace(whole_.find("second") - 8, 8, bytes_of(uint64_t{1} << 40)),
         "its header ends");
  expect(with("names", bytes_of(uint32_t{13}), 5), "a value of type 13");
  expect(whole_.substr(0, whole_.size() - 40), "it is cut short: its tensors take 460 bytes");
  expect(whole_ + std::string(100, 'x'), "120 bytes stand behind its last tensor");
}

TEST_F(GgufAudit, FindsWhateverIsCutOff) {
  for (size_t length = 0; length + 32 < whole_.size(); length += 7)
    EXPECT_FALSE(faults_of(whole_.substr(0, length)).empty()) << length;
}

// A header with any byte changed is either refused by both readers, or read alike by both.
TEST_F(GgufAudit, AgreesWithTheOtherReader) {
  const size_t header = whole_.find("second") + 6 + 4 + 2 * 8 + 4 + 8;
  int differences = 0;
  for (size_t at = 0; at < header; ++at) {
    std::string bytes = whole_;
    bytes[at] = static_cast<char>(bytes[at] ^ 0x11);
    bool is_read = true;
    std::vector<std::string> faults;
    try {
      faults = faults_of(bytes);
      GgufFile file(path_);
    } catch (const Error&) {
      is_read = false;
    }
    differences += !is_read && faults.empty();
  }
  EXPECT_EQ(differences, 0);
}

}  // namespace
}  // namespace strata
