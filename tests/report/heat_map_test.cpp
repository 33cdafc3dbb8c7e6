#include "strata/report/heat_map.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "strata/report/plan_heat_map.h"
#include "tests/support/count.h"

namespace strata {
namespace {

TEST(HeatMap, ColoursTheLowestAndTheHighestAndEscapesText) {
  HeatMap map;
  map.title = "<plan>";
  map.rows = {"0", "1"};
  map.columns = {"q", "k"};
  map.cells = {{{true, 2, "a", "say \"a\""}, {true, 6, "b", "b"}}, {{}, {true, 4, "c", "c"}}};
  const std::string drawing = svg(map);
  EXPECT_EQ(count(drawing, "data-hint"), 3u);  // one is not there
  const auto colour_of = [&](const std::string& hint) {
    const size_t at = drawing.find("data-hint=\"" + hint);
    return drawing.substr(drawing.find("fill=\"", at) + 6, 7);
  };
  EXPECT_EQ(colour_of("say &quot;a&quot;"), "#440154");
  EXPECT_EQ(colour_of("b"), "#fde725");
  EXPECT_EQ(colour_of("c"), "#21918c");  // half way
  EXPECT_EQ(count(drawing, "<plan>"), 0u);
}

// Of 80 layers, with all costs: well within a page of a megabyte.
TEST(PlanHeatMap, ShowsEveryMatrixAndStaysSmall) {
  Plan plan;
  Scores scores;
  scores.per_module = true;
  const std::vector<Scheme> menu = parse_schemes("gguf");
  for (int layer = 0; layer < 80; ++layer)
    for (const char* module : {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
                               "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"}) {
      const std::string tensor = fmt::format("model.layers.{}.{}.weight", layer, module);
      const bool first = layer == 0 && std::string(module) == "self_attn.q_proj";
      plan.assignments.push_back({tensor, 8192, 8192, parse_scheme(first ? "Q8_0" : "Q4_K")});
      scores.scores.push_back({layer, module, 0.5, 1});
      for (const Scheme& scheme : menu)
        scores.costs.push_back({tensor, 8192, 8192, scheme.name(), 1.2345e-4});
    }
  const HeatMap map = plan_heat_map(scores, plan);
  ASSERT_EQ(map.rows.size(), 80u);
  EXPECT_EQ(map.columns, (std::vector<std::string>{"q", "k", "v", "o", "gate", "up", "down"}));
  EXPECT_DOUBLE_EQ(map.cells[0][0].value, 8.5);
  EXPECT_DOUBLE_EQ(map.cells[79][6].value, 4.5);
  EXPECT_NE(map.cells[0][0].hint.find("Q8_0"), std::string::npos);
  EXPECT_NE(map.cells[0][0].hint.find("score 0.5"), std::string::npos);
  EXPECT_NE(map.cells[0][0].hint.find("Q2_K 0.000123"), std::string::npos) << map.cells[0][0].hint;
  const std::string drawing = svg(map);
  EXPECT_EQ(count(drawing, "data-hint"), 560u);
  EXPECT_LT(drawing.size(), 500000u);
}

}  // namespace
}  // namespace strata
