#include "strata/pipeline/quantize_report.h"

#include <gtest/gtest.h>

#include <cmath>

#include "strata/pipeline/model_card.h"
#include "tests/support/count.h"

namespace strata {
namespace {

// A run on a model of 80 layers, as it would have come out.
QuantizeResult large_result() {
  QuantizeResult result;
  result.format = "gguf";
  result.exported.path = "model.gguf";
  result.exported.file_bytes = uint64_t{30} << 30;
  result.scores.model = "model";
  result.scores.method = "kl";
  result.scores.per_module = true;
  const std::vector<Scheme> menu = parse_schemes("gguf");
  for (int layer = 0; layer < 80; ++layer)
    for (const char* module : {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
                               "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"}) {
      const std::string tensor = fmt::format("model.layers.{}.{}.weight", layer, module);
      result.scores.modules.push_back({layer, module, tensor, 8192, 8192});
      result.scores.scores.push_back({layer, module, 0.001 * (layer + 1), 8192 * 8192});
      for (const Scheme& scheme : menu)
        result.scores.costs.push_back(
            {tensor, 8192, 8192, scheme.name(),
             (layer + 1.5) * std::exp2(-2 * scheme.code_bits_per_weight(8192, 8192))});
      result.plan.assignments.push_back({tensor, 8192, 8192, parse_scheme(layer < 40 ? "Q3_K" : "Q4_K")});
    }
  result.plan.method = "kl";
  result.plan.cost = 1;
  result.plan.sum_up();
  LossByToken losses;
  losses.by_position.assign(4096, 0.1);
  for (int i = 0; i < 20; ++i) losses.worst.push_back({"what <was> before", "it", "& after", 5.0 - i});
  result.by_token = losses;
  Measurement measured;
  measured.name = "kl";
  measured.bytes = result.plan.bytes;
  measured.evaluation.ppl = 5.5;
  measured.evaluation.kld = 0.0123;
  measured.evaluation.kld_p99 = 0.5;
  measured.evaluation.top1 = 0.9;
  result.measurements = {measured};
  return result;
}

TEST(QuantizeReport, IsOnePageOfLessThanAMegabyteFor80Layers) {
  QuantizeRequest request;
  request.model = "models/large";
  request.text = "texts/sample.txt";
  const std::string page = quantize_page(request, large_result());
  EXPECT_LT(page.size(), 1000000u);
  EXPECT_EQ(count(page, "data-hint"), 560u + 1);  // and the script that looks for them
  EXPECT_EQ(count(page, "<svg"), 4u);
  EXPECT_EQ(count(page, "what &lt;was&gt; before"), 20u);
  EXPECT_EQ(count(page, "<was>"), 0u);
  EXPECT_NE(page.find("0.0123"), std::string::npos);
  EXPECT_NE(page.find("llama-server -m model.gguf"), std::string::npos);
}

TEST(QuantizeReport, DoesWithoutScoresAndMeasurements) {
  QuantizeResult result = large_result();
  result.scores = {};
  result.measurements.clear();
  result.by_token.reset();
  const std::string page = quantize_page({}, result);
  EXPECT_EQ(count(page, "<svg"), 2u);  // the plan and the sizes
}

TEST(QuantizeReport, CountsTheMatricesOfEveryScheme) {
  const std::string table = recipe_table(large_result()).text();
  EXPECT_NE(table.find("Q3_K"), std::string::npos);
  EXPECT_EQ(count(table, " 280 "), 2u) << table;
}

TEST(QuantizeReport, ListsEveryDeclaredSettingOnce) {
  QuantizeRequest request;
  request.workbench.calibration.tokens = 4321;
  const auto settings = settings_of(request);
  size_t found = 0;
  for (const auto& [name, value] : settings) {
    if (name == "calib-tokens") {
      EXPECT_EQ(value, "4321");
    }
    for (const char* one : {"calib-tokens", "kl-tokens", "damping", "tune", "gap", "seed"})
      found += name == one;
  }
  EXPECT_EQ(found, 6u);
}

TEST(ModelCard, BeginsWithAHeaderThatYamlReads) {
  QuantizeRequest request;
  request.model = "models/a \"quoted\": name/";
  const std::string card = model_card(request, large_result());
  EXPECT_EQ(card.rfind("---\nbase_model: \"a \\\"quoted\\\": name\"\n", 0), 0u) << card.substr(0, 200);
  EXPECT_NE(card.find("\nquantized_by: strata\n"), std::string::npos);
  EXPECT_NE(card.find("| kl "), std::string::npos);
  EXPECT_NE(card.find("0.0123"), std::string::npos);
}

}  // namespace
}  // namespace strata
