#include "strata/quantizers/layerwise_trials.h"

#include <gtest/gtest.h>

#include <map>

#include "strata/core/error.h"
#include "strata/core/random.h"
#include "strata/forward/load_tensor.h"
#include "tests/support/architecture_models.h"
#include "tests/support/error_of.h"
#include "tests/support/random_ids.h"
#include "tests/support/three_layer_model.h"

namespace strata {
namespace {

at::Tensor tensor_of(const QuantizedMatrix& matrix) {
  at::Tensor values = at::empty({matrix.rows, matrix.cols}, at::kFloat);
  matrix.dequantize(values.data_ptr<float>());
  return values;
}

// Second moments of a module's input when the whole model runs as it is in `decoder`.
at::Tensor moments_of(Decoder& decoder, const Module& module, const at::Tensor& ids) {
  at::Tensor sum = at::zeros({module.cols, module.cols}, at::kDouble);
  decoder.observe([&](int layer, std::string_view what, const at::Tensor& value) {
    if (layer != module.layer || what != module.name) return;
    const at::Tensor x = value.reshape({-1, value.size(-1)}).to(at::kDouble);
    sum += at::mm(x.t(), x);
  });
  decoder.forward(ids);
  decoder.observe(nullptr);
  return sum;
}

class LayerwiseQuantizerTest : public ThreeLayerModel {
 protected:
  const std::shared_ptr<const Calibration> calibration_ =
      std::make_shared<Calibration>(make_calibration(random_ids(7, 16), "test"));
};

TEST_F(LayerwiseQuantizerTest, EachMatrixSeesTheInputsThatTheQuantizedOnesBeforeItGive) {
  std::map<std::string, Scheme> schemes;
  for (const Module& module : model_.modules)
    if (module.tensor != model_.module(1, Role::Up).tensor) schemes[module.tensor] = parse_scheme("w2g32");
  for (const bool sequential : {true, false}) {
    LayerwiseOptions options;
    options.sequential = sequential;
    const auto quantizer = make_gptq_quantizer(model_, calibration_, options, {});
    quantizer->begin(schemes);
    Decoder decoder(model_, {});
    std::map<std::string, at::Tensor> waiting;  // replaced once the layer is done
    for (const Module& module : model_.modules) {
      if (module.role == Role::Q) {
        for (const auto& [tensor, weight] : waiting) decoder.replace(tensor, weight);
        waiting.clear();
      }
      if (schemes.count(module.tensor) == 0) continue;
      const at::Tensor moments = moments_of(decoder, module, calibration_->ids);
      at::Tensor weights = load_tensor(*model_.checkpoint, module.tensor, at::kCPU, at::kFloat);
      const at::Tensor expected = tensor_of(gptq({weights.data_ptr<float>(), module.rows, module.cols},
                                                 factor_inverse(moments, {}), parse_scheme("w2g32"), {}));
      const at::Tensor given = tensor_of(quantizer->take(module.tensor));
      // Sums in float on one side: a code at a tie may differ, and with it the rest of its row.
      const at::Tensor rows_that_differ = (given - expected).abs().amax(1).gt(1e-5);
      EXPECT_LE(rows_that_differ.sum().item<int64_t>(), 2) << module.tensor;
      if (sequential)
        decoder.replace(module.tensor, given);
      else
        waiting[module.tensor] = given;
    }
  }
}

TEST_F(LayerwiseQuantizerTest, HandsOutInAnyOrderOnceAndStartsOver) {
  std::map<std::string, Scheme> schemes;
  for (const Module& module : model_.modules) schemes[module.tensor] = parse_scheme("w3g32");
  const auto quantizer = make_gptq_quantizer(model_, calibration_, {}, {});
  quantizer->begin(schemes);
  std::map<std::string, at::Tensor> forwards, backwards;
  for (const Module& module : model_.modules)
    forwards[module.tensor] = tensor_of(quantizer->take(module.tensor));
  EXPECT_THROW(quantizer->take(model_.modules[0].tensor), Error);
  quantizer->begin(schemes);
  for (auto module = model_.modules.rbegin(); module != model_.modules.rend(); ++module)
    backwards[module->tensor] = tensor_of(quantizer->take(module->tensor));
  for (const auto& [tensor, values] : forwards) EXPECT_TRUE(at::equal(values, backwards[tensor])) << tensor;

  schemes.erase(model_.modules[0].tensor);
  quantizer->begin(schemes);
  EXPECT_THROW(quantizer->take(model_.modules[0].tensor), Error);
  EXPECT_THROW(quantizer->begin({{"no.such.matrix", parse_scheme("w3g32")}}), Error);
}

// The weighted error falls against encoding without weights, and the codes are the encoder's own.
// A matrix alone in a scheme, all others as they are, is what the quantizer makes of that plan.
TEST_F(LayerwiseQuantizerTest, TrialsAreThatOfPlansOfOneMatrix) {
  LayerwiseTrials trials(model_, calibration_, {}, gptq_maker({}, std::make_shared<const RowImpacts>()),
                         "gptq");
  const auto quantizer = make_gptq_quantizer(model_, calibration_, {}, {});
  const auto tried = [&](const Module& module, const char* scheme) {
    at::Tensor weights = load_tensor(*model_.checkpoint, module.tensor, at::kCPU, at::kFloat).clone();
    trials.quantize(module.tensor, parse_scheme(scheme),
                    {weights.data_ptr<float>(), module.rows, module.cols});
    return weights;
  };
  // Not in the order of the layers.
  for (const char* scheme : {"w3g32", "w2g32"})
    for (auto module = model_.modules.rbegin(); module != model_.modules.rend(); ++module) {
      quantizer->begin({{module->tensor, parse_scheme(scheme)}});
      EXPECT_TRUE(at::equal(tried(*module, scheme), tensor_of(quantizer->take(module->tensor))))
          << module->tensor << " " << scheme;
    }
  at::Tensor head = at::zeros({4, 4});
  EXPECT_EQ(error_of([&] {
              trials.quantize(model_.embedding, parse_scheme("w2g32"), {head.data_ptr<float>(), 4, 4});
            }),
            "model.embed_tokens.weight is not a matrix of the model's layers");
}

// Experts too, those that few tokens reach among them, also where the moments of one are in memory at a time.
TEST(LayerwiseTrialsOfExperts, AreThoseOfPlansOfOneStack) {
  const Model model = open_model(architecture_model("qwen3-moe").directory);
  const auto calibration =
      std::make_shared<Calibration>(make_calibration(random_ids(7, 16, model.config.vocab_size), "test"));
  const auto maker = gptq_maker({}, std::make_shared<const RowImpacts>());
  LayerwiseTrials trials(model, calibration, {}, maker, "gptq");
  LayerwiseTrials one_by_one(model, calibration, {}, maker, "gptq", 1);
  const auto quantizer = make_gptq_quantizer(model, calibration, {}, {});
  for (const Module& module : model.modules) {
    if (module.experts == 0) continue;
    const auto tried = [&](LayerwiseTrials& by) {
      at::Tensor weights = load_tensor(*model.checkpoint, module.tensor, at::kCPU, at::kFloat).clone();
      by.quantize(module.tensor, parse_scheme("w3g32"),
                  {weights.data_ptr<float>(), module.rows, module.cols});
      return weights.view({module.rows, module.cols});
    };
    quantizer->begin({{module.tensor, parse_scheme("w3g32")}});
    const at::Tensor planned = tensor_of(quantizer->take(module.tensor));
    EXPECT_TRUE(at::equal(tried(trials), planned)) << module.tensor;
    EXPECT_TRUE(at::equal(tried(one_by_one), planned)) << module.tensor;
    trials.unload();  // and measured again
  }
}

TEST_F(LayerwiseQuantizerTest, ImportanceWeighsTheSearchForScales) {
  const Module& module = model_.module(0, Role::O);
  const auto quantizer = make_importance_quantizer(model_, calibration_, {});
  Decoder decoder(model_, {});
  const at::Tensor importance = moments_of(decoder, module, calibration_->ids).diagonal();
  at::Tensor weights = load_tensor(*model_.checkpoint, module.tensor, at::kCPU, at::kFloat);
  const MatrixView<const float> view = {weights.data_ptr<float>(), module.rows, module.cols};
  for (const char* name : {"w2g32", "w3rows", "IQ4_NL"}) {
    const Scheme scheme = parse_scheme(name);
    quantizer->begin({{module.tensor, scheme}});
    const auto error = [&](const QuantizedMatrix& matrix) {
      return ((tensor_of(matrix) - weights).square() * importance).sum().item<double>();
    };
    EXPECT_LT(error(quantizer->take(module.tensor)), error(quantize_matrix(view, scheme, {}))) << name;
  }
}

TEST(GptqOfTinyLlama, LowersTheOutputErrorOfEveryModule) {
  const std::filesystem::path source = STRATA_SOURCE_DIR;
  const Model model = open_model(source / "models/tiny-llama");
  CalibrationOptions options;
  options.source = source / "data/wikitext-2/wiki.train.first-1MB.raw";
  options.tokens = 512;
  const Calibration calibration = load_calibration(model, options);
  ActivationStream stream(model, calibration, {});
  for (; !stream.at_end(); stream.advance()) {
    std::map<std::string, at::Tensor> moments;
    stream.observe([&](const std::string& input, const at::Tensor& x) {
      at::Tensor& sum = moments[input];
      sum = sum.defined() ? sum + at::mm(x.t(), x) : at::mm(x.t(), x);
    });
    std::map<std::string, InverseFactor> factors;
    for (const auto& [input, h] : moments) factors[input] = factor_inverse(h, {});
    for (const Module& module : model.modules) {
      if (module.layer != stream.layer()) continue;
      at::Tensor weights = load_tensor(*model.checkpoint, module.tensor, at::kCPU, at::kFloat);
      const MatrixView<const float> view = {weights.data_ptr<float>(), module.rows, module.cols};
      const at::Tensor& h = moments.at(module.input);
      const auto error = [&](const QuantizedMatrix& matrix) {
        const at::Tensor e = tensor_of(matrix) - weights;
        return (at::mm(e, h) * e).sum().item<double>();
      };
      const Scheme scheme = parse_scheme(module.layer % 2 == 0 ? "w3g128" : "Q3_K");
      const double calibrated = error(gptq(view, factors.at(module.input), scheme, {}));
      QuantizerOptions rtn;
      rtn.name = "rtn";
      EXPECT_LT(calibrated, error(quantize_matrix(view, scheme, rtn))) << module.tensor << scheme.name();
    }
  }
}

}  // namespace
}  // namespace strata
