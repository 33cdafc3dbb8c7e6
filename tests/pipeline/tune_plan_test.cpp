#include "strata/pipeline/tune_plan.h"

#include <gtest/gtest.h>

#include "strata/forward/decoder.h"
#include "strata/pipeline/quantize.h"
#include "tests/support/architecture_models.h"
#include "tests/support/error_of.h"
#include "tests/support/temporary_directory.h"

namespace strata {
namespace {

QuantizeRequest tuned_request(const std::string& model, const std::filesystem::path& output) {
  QuantizeRequest request;
  request.model = architecture_model(model).directory;
  request.output = output;
  request.method = "uniform:exact";
  request.quantizer.name = "rtn";
  request.workbench.calibration.source = "self";
  request.workbench.calibration.tokens = 192;
  request.workbench.calibration.window = 16;
  request.tuning.when = TuningOptions::When::On;
  request.tuning.steps = 8;
  request.tuning.tokens_per_step = 64;
  request.tuning.learning_rate = 0.003;
  return request;
}

// Mean KL(p || q) by its definition, on the windows that tuning holds back.
double divergence_of(const std::filesystem::path& written, const QuantizeRequest& request) {
  const Model teacher_model = open_model(request.model), student_model = open_model(written);
  const auto calibration =
      require_calibration(teacher_model, request.workbench.calibration, at::kCPU, "the test");
  const int64_t held_back = calibration->blocks() / 8;
  const at::Tensor ids = calibration->ids.narrow(0, calibration->blocks() - held_back, held_back);
  Decoder teacher(teacher_model, {}), student(student_model, {});
  const at::Tensor log_p = at::log_softmax(teacher.forward(ids).to(at::kDouble), -1);
  const at::Tensor log_q = at::log_softmax(student.forward(ids).to(at::kDouble), -1);
  return (log_p.exp() * (log_p - log_q)).sum().item<double>() / static_cast<double>(ids.numel());
}

struct TunedFile {
  const char *model, *format, *schemes;
  double bits_per_weight;
  const char *embedding, *quantizer;
};

class TunedFiles : public testing::TestWithParam<TunedFile> {};

TEST_P(TunedFiles, HaveTheDivergenceThatWasMeasuredBeforeWriting) {
  const TunedFile& file = GetParam();
  const TemporaryDirectory directory;
  const bool is_gguf = std::string(file.format) == "gguf";
  QuantizeRequest request = tuned_request(file.model, directory / (is_gguf ? "out.gguf" : "out"));
  request.format = file.format;
  request.schemes = file.schemes;
  request.boundaries.embedding = request.boundaries.head = file.embedding;
  request.quantizer.name = file.quantizer;
  request.allocator.budget.bits_per_weight = file.bits_per_weight;
  const QuantizeResult result = quantize(request);
  ASSERT_TRUE(result.tuning);
  EXPECT_LT(result.tuning->after, result.tuning->before);
  EXPECT_NEAR(divergence_of(result.exported.path, request), result.tuning->after,
              1e-3 * result.tuning->after);
}

INSTANTIATE_TEST_SUITE_P(
    Formats, TunedFiles,
    testing::Values(TunedFile{"llama", "gguf", "Q4_0,Q4_1", 4.7, "Q5_1", "rtn"},
                    TunedFile{"qwen2", "gguf", "Q4_0", 4.5, "Q4_0", "rtn"},
                    TunedFile{"qwen3", "gguf", "Q4_1", 5, "Q8_0", "rtn"},
                    TunedFile{"olmo2", "gguf", "IQ4_NL", 4.5, "Q5_0", "rtn"},
                    TunedFile{"phi4", "gguf", "Q4_0", 4.5, "auto", "gptq"},
                    TunedFile{"phi4-mini", "compressed-tensors", "w2g32z,w3g32z", 3.5, "auto", "gptq"},
                    TunedFile{"qwen2", "gptq", "w2g32s,w3g32s", 3, "auto", "gptq"},
                    TunedFile{"llama", "gptq_v2", "w2g32z,w4g32z", 3.5, "auto", "rtn"},
                    TunedFile{"llama", "mlx", "w2g32,w4g32", 4, "w4g32", "awq"},
                    TunedFile{"mistral", "strata", "w2g32,w4g32m,w2g32+w4@0.1", 3.7, "w3g32", "rtn"}),
    [](const auto& file) { return test_name(file.param.model) + "_" + test_name(file.param.format); });

TEST(TunePlan, IsRefusedWhereThePlanQuantizesNothing) {
  const TemporaryDirectory directory;
  QuantizeRequest request = tuned_request("llama", directory / "out.gguf");
  request.schemes = "F16";
  request.boundaries.embedding = request.boundaries.head = "F16";
  request.allocator.budget.bits_per_weight = 16;
  const std::string error = error_of([&] { quantize(request); });
  EXPECT_NE(error.find("the plan keeps all matrices as they are"), std::string::npos) << error;
}

}  // namespace
}  // namespace strata
