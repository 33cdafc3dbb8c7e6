#include "strata/pipeline/verify.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "strata/core/progress.h"
#include "strata/model/model.h"
#include "tests/support/files.h"
#include "tests/support/tiny_gguf.h"

namespace strata {
namespace {

class Verify : public testing::Test {
 protected:
  Verify() {
    set_progress_style(ProgressStyle::Quiet);
    tiny_.intermediate = 64;  // which blocks of 32 divide
    weights_ = write_tiny_model(reference_, tiny_);
  }

  // The model with these weights as GGUF.
  Verification of_gguf(const TinyWeights& weights, GgufType type = GgufType::Q4_0,
                       std::optional<uint32_t> file_type = std::nullopt) {
    std::vector<GgufKey> keys = tiny_gguf_keys(tiny_);
    if (file_type) keys.push_back({"general.file_type", gguf_u32(*file_type)});
    write_tiny_gguf(gguf_, tiny_, weights, keys, type);
    return verify(gguf_, reference_);
  }

  // Where a tensor's bytes begin in the file.
  uint64_t data_of(const std::string& name) const {
    const GgufFile file(gguf_);
    const MappedFile whole(gguf_);
    const std::byte* bytes = file.data(*file.find_tensor(name));
    for (uint64_t at = 0; at + 16 <= whole.size(); ++at)
      if (std::equal(bytes, bytes + 16, whole.data() + at)) return at;
    ADD_FAILURE() << name;
    return 0;
  }

  void overwrite(const std::filesystem::path& path, uint64_t at, const std::string& bytes) {
    std::fstream stream(path, std::ios::binary | std::ios::in | std::ios::out);
    stream.seekp(static_cast<std::streamoff>(at));
    stream << bytes;
  }

  TemporaryDirectory directory_;
  TinyModel tiny_;
  std::filesystem::path reference_ = directory_ / "reference", gguf_ = directory_ / "model.gguf";
  TinyWeights weights_;
};

TEST_F(Verify, FindsNothingInWholeFiles) {
  for (const GgufType type : {GgufType::Q4_0, GgufType::Q8_0, GgufType::IQ4_NL, GgufType::F16}) {
    const Verification found = of_gguf(weights_, type);
    EXPECT_EQ(found.faults, std::vector<std::string>());
    EXPECT_EQ(found.matrices, 2 * 7 + 1);
    EXPECT_EQ(found.tensors, 2 * 9 + 2);
  }
  const Verification found = verify(reference_, std::nullopt);
  EXPECT_TRUE(found.faults.empty());
  EXPECT_EQ(found.tensors, 2 * 9 + 2);
}

// fp16 infinity as a block's scale, NaN in a vector, and both in a directory.
TEST_F(Verify, NamesTensorsWithNumbersThatAreNone) {
  of_gguf(weights_);
  overwrite(gguf_, data_of("blk.1.ffn_up.weight") + 18, bytes_of(uint16_t{0x7C00}));
  overwrite(gguf_, data_of("output_norm.weight") + 4, bytes_of(std::numeric_limits<float>::quiet_NaN()));
  std::vector<std::string> faults = verify(gguf_, std::nullopt).faults;
  ASSERT_GE(faults.size(), 2u);
  std::sort(faults.begin(), faults.end());
  EXPECT_EQ(faults[0], "blk.1.ffn_up.weight holds numbers that are not finite");
  EXPECT_EQ(faults[1], "output_norm.weight holds numbers that are not finite");

  TinyWeights weights = weights_;
  weights.values["model.layers.0.mlp.up_proj.weight"][3] = INFINITY;
  write_safetensors(reference_ / "model.safetensors", weights, tiny_.type);
  faults = verify(reference_, std::nullopt).faults;
  ASSERT_EQ(faults.size(), 1u);
  EXPECT_NE(faults.front().find("model.layers.0.mlp.up_proj.weight"), std::string::npos) << faults.front();
}

TEST_F(Verify, FindsMatricesThatAreNotTheReferences) {
  TinyWeights weights = weights_;
  std::swap(weights.values["model.layers.0.mlp.up_proj.weight"],
            weights.values["model.layers.1.mlp.up_proj.weight"]);
  const std::vector<std::string> faults = of_gguf(weights).faults;
  ASSERT_EQ(faults.size(), 2u);
  expect_parts(faults.front(),
               {"model.layers.0.mlp.up_proj.weight, stored as Q4_0, is off by", "was expected"});
}

// An error of what 4 bits leave is far beyond what 8 bits may.
TEST_F(Verify, MeasuresErrorsByWhatTheSchemeLeaves) {
  of_gguf(weights_, GgufType::Q4_0);
  TinyWeights weights = weights_;
  const std::string name = "model.layers.1.mlp.down_proj.weight";
  weights.values[name] = open_model(gguf_).checkpoint->read(name);
  const std::vector<std::string> faults = of_gguf(weights, GgufType::Q8_0).faults;
  ASSERT_EQ(faults.size(), 1u);
  EXPECT_EQ(faults.front().find(name + ", stored as Q8_0"), 0u) << faults.front();
}

TEST_F(Verify, LeavesFoldedLayersAlone) {
  TinyWeights weights = weights_;
  for (float& gain : weights.values["model.layers.1.input_layernorm.weight"]) gain *= 2;
  for (const char* matrix : {"q_proj", "k_proj", "v_proj"})
    for (float& weight : weights.values[std::string("model.layers.1.self_attn.") + matrix + ".weight"])
      weight /= 2;
  const Verification found = of_gguf(weights);
  EXPECT_TRUE(found.faults.empty());
  EXPECT_EQ(found.matrices, 7 + 1);
  ASSERT_EQ(found.notes.size(), 1u);
  EXPECT_EQ(found.notes.front().find("model.layers.1.*: "), 0u) << found.notes.front();
}

TEST_F(Verify, HoldsTheLabelAgainstWhatIsStored) {
  constexpr uint32_t kMostlyQ4_0 = 2, kMostlyQ4_K_M = 15;
  EXPECT_TRUE(of_gguf(weights_, GgufType::Q4_0, kMostlyQ4_0).faults.empty());
  const std::vector<std::string> faults = of_gguf(weights_, GgufType::Q4_0, kMostlyQ4_K_M).faults;
  ASSERT_EQ(faults.size(), 1u);
  EXPECT_EQ(faults.front(),
            "general.file_type 15 says that most matrices are Q4_K, but 15 are Q4_0 and 0 are Q4_K");
  EXPECT_EQ(of_gguf(weights_, GgufType::Q4_0, 999).notes.size(), 1u);
}

TEST_F(Verify, NamesWhatIsMissing) {
  TinyModel deeper = tiny_;
  deeper.layers = 3;
  write_tiny_model(directory_ / "deeper", deeper);
  of_gguf(weights_);
  const std::vector<std::string> faults = verify(gguf_, directory_ / "deeper").faults;
  EXPECT_EQ(std::count_if(faults.begin(), faults.end(),
                          [](const std::string& fault) {
                            return fault.find("model.layers.2.") == 0 &&
                                   fault.find(" of the reference is not there") != std::string::npos;
                          }),
            7);
  std::filesystem::resize_file(gguf_, 3000);
  const Verification cut = verify(gguf_, std::nullopt);
  ASSERT_EQ(cut.faults.size(), 1u);
  EXPECT_NE(cut.faults.front().find("it is cut short"), std::string::npos);
}

}  // namespace
}  // namespace strata
