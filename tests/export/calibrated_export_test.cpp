#include "strata/checkpoint/scaled_checkpoint.h"
#include "strata/export/formats.h"
#include "strata/quantization/calibrated_quantizer.h"
#include "tests/export/export_test_model.h"

namespace strata {
namespace {

// Quantizes the weights turned upside down, so that its results are told from everybody else's, and records
// what it was asked.
class UpsideDown : public CalibratedQuantizer {
 public:
  explicit UpsideDown(const Model& model) : model_(model) {}

  void begin(const std::map<std::string, Scheme>& schemes) override { schemes_ = schemes; }

  bool makes(const std::string& tensor) const override { return schemes_.count(tensor) > 0; }

  QuantizedMatrix take(const std::string& tensor) override {
    const TensorInfo& info = model_.checkpoint->info(tensor);
    std::vector<float> weights = model_.checkpoint->read(tensor);
    for (float& w : weights) w = -w;
    QuantizedMatrix matrix =
        quantize_matrix({weights.data(), info.rows(), info.cols()}, schemes_.at(tensor), {});
    std::vector<float>& kept = given[tensor];
    kept.resize(weights.size());
    matrix.dequantize(kept.data());
    order.push_back(tensor);
    return matrix;
  }

  std::map<std::string, std::vector<float>> given;
  std::vector<std::string> order;

 private:
  const Model& model_;
  std::map<std::string, Scheme> schemes_;
};

class CalibratedExportTest : public ExportTest {};

TEST_F(CalibratedExportTest, EveryFormatStoresWhatTheQuantizerGivesLayerByLayer) {
  const Model model = make_model("llama");
  for (const auto& [format, scheme] : {std::pair("gguf", "Q4_0"),
                                       {"hf", "w3g32"},
                                       {"hf", "Q5_1"},
                                       {"compressed-tensors", "w3g32z"},
                                       {"gptq", "w4g32s"},
                                       {"gptq_v2", "w2g32z"}}) {
    ExportPlan plan = uniform_plan(model, scheme, "F32");
    plan.schemes.erase(model.modules.front().tensor);  // kept as it is
    const auto quantizer = std::make_shared<UpsideDown>(model);
    plan.calibrated = quantizer;
    const auto path = target(std::string(format) == "gguf" ? "model.gguf" : std::string("out") + scheme);
    const ExportResult result = format_for(path, format).write(model, plan, path);
    const Model written = open_model(path);
    std::vector<std::string> expected_order;
    double error = 0;
    for (const Module& module : model.modules) {
      const std::vector<float> original = model.checkpoint->read(module.tensor);
      const std::vector<float> stored = written.checkpoint->read(module.tensor);
      if (&module == &model.modules.front()) {
        EXPECT_EQ(stored, original) << format;
        continue;
      }
      expected_order.push_back(module.tensor);
      EXPECT_EQ(stored, quantizer->given[module.tensor]) << format << " " << module.tensor;
      for (size_t i = 0; i < stored.size(); ++i)
        error +=
            (static_cast<double>(original[i]) - stored[i]) * (static_cast<double>(original[i]) - stored[i]);
    }
    EXPECT_EQ(quantizer->order, expected_order) << format;
    EXPECT_NEAR(result.squared_error, error, 1e-9 * error) << format;
  }
}

TEST_F(CalibratedExportTest, MatricesInTheirTypeAlreadyAreNotAskedFor) {
  const Model model = make_model("llama");
  for (const char* format : {"gguf", "hf"}) {
    ExportPlan plan = uniform_plan(model, "Q4_0", "F32");
    const std::string kept = model.modules[1].tensor;
    plan.schemes[kept] = parse_scheme("F32");
    const auto quantizer = std::make_shared<UpsideDown>(model);
    plan.calibrated = quantizer;
    const auto path = target(std::string("kept.") + format);
    format_for(path, format).write(model, plan, path);
    EXPECT_EQ(open_model(path).checkpoint->read(kept), model.checkpoint->read(kept)) << format;
    EXPECT_EQ(quantizer->order.size() + 1, model.modules.size()) << format;
  }
}

// A GGUF's own blocks and norms are not what a scaled model has.
TEST_F(CalibratedExportTest, AScaledGgufLeavesScaled) {
  const Model model = make_model("llama");
  ExportPlan plain = uniform_plan(model, "Q8_0", "F32");
  export_gguf(model, plain, target("plain.gguf"));
  const Model input = open_model(target("plain.gguf"));
  Model scaled = input;
  const std::string norm = "model.layers.1.input_layernorm.weight", q = model.modules[7].tensor;
  scaled.checkpoint = std::make_shared<ScaledCheckpoint>(
      input.checkpoint, std::map<std::string, TensorScaling>{{norm, {{}, std::vector<float>(64, 0.5f)}},
                                                             {q, {{}, std::vector<float>(64, 2.0f)}}});
  export_gguf(scaled, plain, target("scaled.gguf"));
  const Model written = open_model(target("scaled.gguf"));
  for (const auto& [tensor, factor] : {std::pair(norm, 0.5f), {q, 2.0f}, {model.modules[8].tensor, 1.0f}}) {
    const std::vector<float> before = input.checkpoint->read(tensor),
                             after = written.checkpoint->read(tensor);
    for (size_t i = 0; i < before.size(); ++i) ASSERT_NEAR(after[i], factor * before[i], 0.02) << tensor;
  }
}

TEST(AffineMatrixTest, ScatteredGroupsFollowTheirIndex) {
  AffineMatrix matrix;
  matrix.scheme = parse_scheme("w4g32").affine;
  matrix.rows = 2;
  matrix.cols = 3;
  matrix.codes = {1, 2, 3, 4, 5, 6};
  matrix.scales = {0.5f, 2, 1, 4};
  matrix.zeros = {0, 1, 2, 3};
  matrix.group_of_column = {1, 0, 1};
  std::vector<float> weights(6);
  matrix.dequantize(weights.data());
  EXPECT_EQ(weights, (std::vector<float>{0, 1, 4, 4, 3, 12}));
}

}  // namespace
}  // namespace strata
