// Granite 4, whose gate and up are one matrix in directories and stand apart in GGUF files.

#include <gtest/gtest.h>

#include <set>

#include "strata/core/error.h"
#include "strata/core/file.h"
#include "strata/export/export.h"
#include "strata/forward/decoder.h"
#include "strata/gguf/file.h"
#include "tests/support/architecture_models.h"
#include "tests/support/error_of.h"
#include "tests/support/temporary_directory.h"

namespace strata {
namespace {

// Makes what round-to-nearest makes.
class Nearest : public CalibratedQuantizer {
 public:
  explicit Nearest(const Model& model) : model_(model) {}

  void begin(const std::map<std::string, Scheme>& schemes) override { schemes_ = schemes; }
  bool makes(const std::string& tensor) const override { return schemes_.count(tensor) > 0; }

  QuantizedMatrix take(const std::string& tensor) override {
    if (!taken_.insert(tensor).second) fail("{} has been taken", tensor);
    const TensorInfo& info = model_.checkpoint->info(tensor);
    const std::vector<float> values = model_.checkpoint->read(tensor);
    return quantize_matrix({values.data(), info.rows(), info.cols()}, schemes_.at(tensor), {});
  }

 private:
  const Model& model_;
  std::map<std::string, Scheme> schemes_;
  std::set<std::string> taken_;
};

class GraniteHybrid : public testing::Test {
 protected:
  std::filesystem::path written(const Model& model, const std::string& name, const std::string& scheme,
                                std::shared_ptr<CalibratedQuantizer> calibrated = nullptr) {
    ExportPlan plan;
    plan.embedding = plan.head = parse_scheme("F32");
    for (const Module& module : model.modules) plan.schemes[module.tensor] = parse_scheme(scheme);
    plan.calibrated = std::move(calibrated);
    export_gguf(model, plan, directory_ / name);
    return directory_ / name;
  }

  const Model model_ = open_model(architecture_model("granite4").directory);
  const TemporaryDirectory directory_;
};

TEST_F(GraniteHybrid, HasGateAndUpApartInGgufFiles) {
  const GgufFile file(written(model_, "model.gguf", "Q8_0"));
  const Model read = open_model(file.path());
  const std::string fused = "model.layers.1.shared_mlp.input_linear.weight";
  const std::vector<float> values = read.checkpoint->read(fused), exact = model_.checkpoint->read(fused);
  ASSERT_EQ(values.size(), exact.size());
  for (size_t i = 0; i < values.size(); ++i) EXPECT_NEAR(values[i], exact[i], 0.01) << i;
  for (const char* part : {"blk.1.ffn_gate.weight", "blk.1.ffn_up.weight"}) {
    ASSERT_NE(file.find_tensor(part), nullptr) << part;
    EXPECT_EQ(file.find_tensor(part)->shape, (std::vector<int64_t>{32, 64}));
    EXPECT_EQ(file.find_tensor(part)->type, GgufType::Q8_0);
  }
  EXPECT_EQ(file.find_tensor("blk.0.ssm_a")->shape, (std::vector<int64_t>{8, 1}));
  EXPECT_EQ(file.find_tensor("blk.0.ssm_norm.weight")->shape, (std::vector<int64_t>{2, 64}));
  EXPECT_EQ(file.find_tensor("blk.0.ssm_conv1d.weight")->type, GgufType::F32);
}

TEST_F(GraniteHybrid, TakesAMatrixOfACalibratedQuantizerForBoth) {
  EXPECT_EQ(read_text(written(model_, "calibrated.gguf", "Q4_0", std::make_shared<Nearest>(model_))),
            read_text(written(model_, "nearest.gguf", "Q4_0")));
}

TEST_F(GraniteHybrid, IsQuantizedAgainFromAGguf) {
  const Model whole = open_model(written(model_, "whole.gguf", "F32"));
  EXPECT_EQ(open_model(written(whole, "again.gguf", "Q4_0"))
                .checkpoint->read("model.layers.2.shared_mlp.input_linear.weight"),
            open_model(written(model_, "once.gguf", "Q4_0"))
                .checkpoint->read("model.layers.2.shared_mlp.input_linear.weight"));
}

}  // namespace
}  // namespace strata
