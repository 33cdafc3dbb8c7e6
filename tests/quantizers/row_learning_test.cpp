#include "strata/quantizers/row_learning.h"

#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "strata/core/blas_threads.h"
#include "strata/forward/load_tensor.h"
#include "tests/support/error_of.h"
#include "tests/support/random_ids.h"
#include "tests/support/temporary_directory.h"
#include "tests/support/tiny_model.h"

namespace strata {
namespace {

at::Tensor stored_weights(const QuantizedMatrix& matrix) {
  at::Tensor values = at::empty({matrix.rows, matrix.cols}, at::kFloat);
  matrix.dequantize(values.data_ptr<float>());
  return values;
}

std::map<std::string, Scheme> everywhere(const Model& model, const std::string& scheme) {
  std::map<std::string, Scheme> schemes;
  for (const Module& module : model.modules) schemes[module.tensor] = parse_scheme(scheme);
  return schemes;
}

// Walks through a model as it is quantized and through the unquantized one, and gives every layer's squared
// output error with the quantizer's matrices and with round-to-nearest's in their place.
class LayerErrors {
 public:
  LayerErrors(const Model& model, const at::Tensor& ids) : model_(model), decoder_(model, {}) {
    quantized_ = unquantized_ = decoder_.embed(ids);
  }

  struct Pair {
    double learned = 0, nearest = 0;
  };

  Pair next(int layer, CalibratedQuantizer& quantizer, const std::map<std::string, Scheme>& schemes,
            const RowImpacts& impacts) {
    const at::NoGradGuard no_grad;
    decoder_.restore_all();
    unquantized_ = decoder_.layer(layer, unquantized_);
    std::map<std::string, at::Tensor> learned;
    QuantizerOptions rtn;
    rtn.name = "rtn";
    for (const Module& module : model_.modules) {
      if (module.layer != layer) continue;
      learned[module.tensor] = stored_weights(quantizer.take(module.tensor));
      at::Tensor weights = decoder_.weight(module.tensor).contiguous();
      rtn.row_impact = impacts_of(impacts, module.tensor, module.rows);
      decoder_.replace(module.tensor,
                       stored_weights(quantize_matrix({weights.data_ptr<float>(), module.rows, module.cols},
                                                      schemes.at(module.tensor), rtn)));
    }
    const auto error = [&](const at::Tensor& output) {
      return (output - unquantized_).square().sum(at::kDouble).item<double>();
    };
    Pair errors;
    errors.nearest = error(decoder_.layer(layer, quantized_));
    for (const auto& [tensor, weights] : learned) decoder_.replace(tensor, weights);
    quantized_ = decoder_.layer(layer, quantized_);
    errors.learned = error(quantized_);
    return errors;
  }

 private:
  const Model& model_;
  Decoder decoder_;
  at::Tensor quantized_, unquantized_;
};

// In every second layer at 2 bits, in the others at 3.
TEST(LayerOutputOfTinyLlama, IsCloserThanWithRoundingToNearestInEveryLayer) {
  const BlasThreads one_thread(1);
  const std::filesystem::path source = STRATA_SOURCE_DIR;
  const Model model = open_model(source / "models/tiny-llama");
  CalibrationOptions tokens;
  tokens.source = source / "data/wikitext-2/wiki.train.first-1MB.raw";
  tokens.window = 64;
  tokens.tokens = 128;
  const auto calibration = std::make_shared<const Calibration>(load_calibration(model, tokens));
  constexpr int kLayers = 4;  // of 16, the first ones: those behind them are not computed
  struct LearningCase {
    RowLearning learning;
    int64_t steps;
    double learning_rate;
  };
  std::map<std::string, Scheme> schemes;
  for (const Module& module : model.modules)
    schemes[module.tensor] = parse_scheme(module.layer % 2 == 0 ? "w2g64" : "w3g64");
  for (const LearningCase& each :
       {LearningCase{RowLearning::Clipping, 12, 0.05}, LearningCase{RowLearning::AdaRound, 20, 0.02}}) {
    RowLearningOptions options;
    options.learning = each.learning;
    options.layers.steps = each.steps;
    options.learning_rate = each.learning_rate;
    options.layers.checks = 2;
    options.layers.tokens_per_step = 128;
    const auto quantizer = make_row_learning_quantizer(model, calibration, options);
    quantizer->begin(schemes);
    LayerErrors layers(model, calibration->ids);
    for (int layer = 0; layer < kLayers; ++layer) {
      const LayerErrors::Pair errors = layers.next(layer, *quantizer, schemes, {});
      EXPECT_LT(errors.learned, errors.nearest)
          << "layer " << layer << (each.learning == RowLearning::AdaRound ? " adaround" : "");
    }
  }
}

class RowLearningTest : public testing::Test {
 protected:
  void SetUp() override {
    write_tiny_model(directory_ / "model", {});
    model_ = open_model(directory_ / "model");
    calibration_ = std::make_shared<Calibration>(make_calibration(random_ids(6, 16), "test"));
    options_.layers.steps = 30;
    options_.learning_rate = 0.05;
    options_.layers.tokens_per_step = 64;
  }

  const BlasThreads one_thread_{1};
  TemporaryDirectory directory_;
  Model model_;
  std::shared_ptr<const Calibration> calibration_;
  RowLearningOptions options_;
};

// Rows at high bits are the most impactful, keep round-to-nearest's scales (AdaRound) and differ in codes;
// the others have scales of their own (learnable clipping).
TEST_F(RowLearningTest, HybridRoundsHighRowsAndClipsTheOthers) {
  const std::map<std::string, Scheme> schemes = everywhere(model_, "w2g32+w3@0.25");
  for (const Module& module : model_.modules)
    for (int64_t r = 0; r < module.rows; ++r)
      options_.layers.row_impacts[module.tensor].push_back(static_cast<float>(r % 4 == 1));
  const auto quantizer = make_row_learning_quantizer(model_, calibration_, options_);
  quantizer->begin(schemes);
  int64_t codes_that_moved = 0;
  for (const Module& module : model_.modules) {
    at::Tensor weights = load_tensor(*model_.checkpoint, module.tensor, at::kCPU, at::kFloat);
    QuantizerOptions rtn;
    rtn.name = "rtn";
    rtn.row_impact = options_.layers.row_impacts[module.tensor].data();
    const QuantizedMatrix nearest = quantize_matrix({weights.data_ptr<float>(), module.rows, module.cols},
                                                    schemes.at(module.tensor), rtn);
    const QuantizedMatrix learned = quantizer->take(module.tensor);
    EXPECT_EQ(learned.mixed.high_rows, nearest.mixed.high_rows);
    EXPECT_EQ(learned.mixed.high_rows.front(), 1);
    EXPECT_EQ(learned.mixed.high.scales, nearest.mixed.high.scales) << module.tensor;
    EXPECT_NE(learned.mixed.low.scales, nearest.mixed.low.scales) << module.tensor;
    for (size_t i = 0; i < learned.mixed.high.codes.size(); ++i) {
      const int moved = std::abs(int(learned.mixed.high.codes[i]) - int(nearest.mixed.high.codes[i]));
      EXPECT_LE(moved, 1);
      codes_that_moved += moved;
    }
    // Rows are where they belong.
    EXPECT_LT((stored_weights(learned) - weights).square().sum().item<double>(),
              0.5 * weights.square().sum().item<double>());
  }
  EXPECT_GT(codes_that_moved, 0);
}

TEST_F(RowLearningTest, GivesTheSameForOneSeedAndKeepsWhatIsNotPlanned) {
  auto schemes = everywhere(model_, "w2g32");
  schemes.erase(model_.module(0, Role::Up).tensor);
  for (const RowLearning learning : {RowLearning::AdaRound, RowLearning::Clipping}) {
    options_.learning = learning;
    std::map<std::string, at::Tensor> first;
    for (const int run : {0, 1}) {
      const auto quantizer = make_row_learning_quantizer(model_, calibration_, options_);
      quantizer->begin(schemes);
      for (const auto& [tensor, scheme] : schemes) {
        const at::Tensor values = stored_weights(quantizer->take(tensor));
        if (run == 0)
          first[tensor] = values;
        else
          EXPECT_TRUE(at::equal(values, first.at(tensor))) << tensor;
      }
      EXPECT_NE(error_of([&] { quantizer->take(model_.module(0, Role::Up).tensor); }), "");
    }
  }
}

// A learning rate that destroys everything: the start is kept.
TEST_F(RowLearningTest, NeverLosesToTheStart) {
  options_.learning_rate = 1e4;
  const auto schemes = everywhere(model_, "w4g32");
  for (const char* start : {"rtn", "hqq"}) {
    options_.start = start;
    options_.learning = RowLearning::Clipping;
    const auto quantizer = make_row_learning_quantizer(model_, calibration_, options_);
    quantizer->begin(schemes);
    for (const Module& module : model_.modules) {
      at::Tensor weights = load_tensor(*model_.checkpoint, module.tensor, at::kCPU, at::kFloat);
      QuantizerOptions options;
      options.name = start;
      const QuantizedMatrix expected = quantize_matrix({weights.data_ptr<float>(), module.rows, module.cols},
                                                       schemes.at(module.tensor), options);
      EXPECT_TRUE(at::equal(stored_weights(quantizer->take(module.tensor)), stored_weights(expected)));
    }
  }
}

TEST_F(RowLearningTest, RefusesWhatItCannotLearn) {
  const auto learn = [&](const std::map<std::string, Scheme>& schemes) {
    const auto quantizer = make_row_learning_quantizer(model_, calibration_, options_);
    quantizer->begin(schemes);
    quantizer->take(schemes.begin()->first);
  };
  EXPECT_NE(error_of([&] { learn(everywhere(model_, "Q4_0")); }).find("affine"), std::string::npos);
  options_.learning_rate = 0;
  EXPECT_NE(error_of([&] { learn(everywhere(model_, "w2g32")); }).find("positive"), std::string::npos);
  options_.learning_rate = 0.01;
  auto none = std::make_shared<Calibration>();
  none->ids = at::empty({0, 16}, at::kLong);
  EXPECT_NE(error_of([&] { make_row_learning_quantizer(model_, none, options_); }).find("--calib"),
            std::string::npos);
}

}  // namespace
}  // namespace strata
