#include "strata/allocation/scores.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>

#include "strata/allocation/plan.h"
#include "strata/core/error.h"

namespace strata {
namespace {

Json valid_scores() {
  return Json::parse(R"({"format": "strata.scores", "version": 1, "model": "m", "method": "weight-error",
    "unit": "module",
    "scores": [{"layer": 0, "module": "self_attn.q_proj", "score": 0.5, "params": 4096},
               {"layer": 1, "module": "self_attn.q_proj", "score": -1, "params": 4096}],
    "modules": [{"layer": 0, "module": "self_attn.q_proj", "tensor": "a", "shape": [64, 64]},
                {"layer": 1, "module": "self_attn.q_proj", "tensor": "b", "shape": [32, 128]}],
    "costs": [{"tensor": "a", "shape": [64, 64], "scheme": "W3G64", "cost": 2.5},
              {"tensor": "a", "shape": [64, 64], "scheme": "q4_0", "cost": 1},
              {"tensor": "b", "shape": [32, 128], "scheme": "w3g64", "cost": 3}],
    "pair_costs": [{"tensors": ["a", "b"], "schemes": ["Q4_0", "W3G64"], "cost": -0.25},
                   {"tensors": ["b", "a"], "schemes": ["w3g64", "w3g64"], "cost": 0.5}],
    "details": {"tau": 0.9}})");
}

Json valid_plan() {
  return Json::parse(R"({"format": "strata.plan", "version": 1, "model": "m", "budget": "3 bpw", "gap": 0.001,
    "assignments": [{"tensor": "a", "shape": [64, 64], "scheme": "w3g64"},
                    {"tensor": "b", "shape": [64, 128], "scheme": "w4g64"}]})");
}

std::string error_of_scores(const Json& document) {
  try {
    scores_from_json(document, "s.json");
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

std::string error_of_plan(const Json& document) {
  try {
    plan_from_json(document, "p.json");
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

TEST(Scores, ComeBackAsTheyWereWritten) {
  const Scores scores = scores_from_json(valid_scores(), "s.json");
  EXPECT_EQ(scores.method, "weight-error");
  EXPECT_TRUE(scores.per_module);
  ASSERT_EQ(scores.scores.size(), 2u);
  EXPECT_EQ(scores.scores[1].layer, 1);
  EXPECT_EQ(scores.scores[1].score, -1);
  ASSERT_EQ(scores.costs.size(), 3u);
  EXPECT_EQ(scores.costs[0].scheme, "w3g64");  // canonical names
  EXPECT_EQ(scores.costs[1].scheme, "Q4_0");
  ASSERT_EQ(scores.pair_costs.size(), 2u);
  EXPECT_EQ(scores.pair_costs[0].first_tensor, "a");
  EXPECT_EQ(scores.pair_costs[0].second_scheme, "w3g64");
  EXPECT_EQ(scores.pair_costs[0].cost, -0.25);
  EXPECT_EQ(scores.modules[1].cols, 128);
  EXPECT_EQ(scores.details["tau"], 0.9);

  const auto path = std::filesystem::temp_directory_path() / "strata_scores_test.json";
  write_scores(path, scores);
  EXPECT_EQ(to_json(read_scores(path)), to_json(scores));
  std::filesystem::remove(path);
}

TEST(Scores, KnowEmbeddingAndHeadApartFromTheLayers) {
  Json document = valid_scores();
  document["boundaries"] = {{{"module", "embedding"}, {"tensor", "e"}, {"shape", {320, 64}}},
                            {{"module", "head"}, {"tensor", "h"}, {"shape", {320, 64}}}};
  document["costs"].push_back({{"tensor", "e"}, {"shape", {320, 64}}, {"scheme", "w3g64"}, {"cost", 4}});
  const Scores scores = scores_from_json(document, "s.json");
  ASSERT_EQ(scores.boundaries.size(), 2u);
  EXPECT_TRUE(scores.boundaries[1].is_boundary());
  EXPECT_EQ(scores.boundaries[1].module, "head");
  EXPECT_EQ(scores_from_json(to_json(scores), "again").boundaries[0].tensor, "e");
  document.erase("modules");
  EXPECT_EQ(modules_of(scores_from_json(document, "s.json")).size(), 2u);
  document["boundaries"][0]["module"] = "norm";
  EXPECT_EQ(error_of_scores(document),
            "s.json: boundaries[0]: \"module\" is norm, expected \"embedding\", \"head\" or "
            "\"embedding+head\"");
  document["boundaries"][0]["module"] = "head";
  EXPECT_EQ(error_of_scores(document), "s.json: head is listed twice under \"boundaries\"");
}

TEST(Scores, LayerScoresHaveNoModule) {
  Scores scores;
  scores.method = "nsds";
  scores.scores = {{0, "", 0.25, 100}, {1, "", 0.5, 100}};
  const Json document = to_json(scores);
  EXPECT_TRUE(document["scores"][0]["module"].is_null());
  EXPECT_FALSE(scores_from_json(document, "s.json").per_module);
}

TEST(Scores, SayWhatIsWrongAndWhere) {
  const auto broken = [](const auto& change) {
    Json document = valid_scores();
    change(document);
    return error_of_scores(document);
  };
  EXPECT_EQ(broken([](Json& d) { d.erase("format"); }),
            "s.json: this is not a strata.scores file, since it has no \"format\"");
  EXPECT_EQ(broken([](Json& d) { d["format"] = "strata.plan"; }),
            "s.json: this is a strata.plan file, expected strata.scores");
  EXPECT_EQ(broken([](Json& d) { d["version"] = 2; }),
            "s.json: \"version\" is 2, expected a whole number from 1 to 1");
  EXPECT_EQ(broken([](Json& d) { d["unit"] = "head"; }),
            "s.json: \"unit\" is \"head\", expected \"layer\" or \"module\"");
  EXPECT_EQ(
      broken([](Json& d) { d["unit"] = "layer"; }),
      "s.json: scores[0]: \"module\" is \"self_attn.q_proj\", which does not fit the file's unit \"layer\"");
  EXPECT_EQ(broken([](Json& d) { d["scores"][0]["score"] = "high"; }),
            "s.json: scores[0]: \"score\" is \"high\", expected a number of at most 1e+300 in size");
  EXPECT_EQ(broken([](Json& d) { d["scores"][0]["score"] = NAN; }),
            "s.json: scores[0]: \"score\" is null, expected a number of at most 1e+300 in size");
  EXPECT_EQ(broken([](Json& d) { d["costs"][0]["cost"] = 1e301; }),
            "s.json: costs[0]: \"cost\" is 1e+301, expected a number of at most 1e+300 in size");
  EXPECT_EQ(broken([](Json& d) { d["scores"][1].erase("params"); }),
            "s.json: scores[1]: the field \"params\" is missing");
  EXPECT_EQ(broken([](Json& d) { d["scores"][1]["layer"] = 0; }),
            "s.json: layer 0 module self_attn.q_proj has two scores");
  EXPECT_EQ(
      broken([](Json& d) { d["scores"][1]["layer"] = 18446744073709551615ull; }),
      "s.json: scores[1]: \"layer\" is 18446744073709551615, expected a whole number from 0 to 1000000");
  EXPECT_EQ(broken([](Json& d) { d["scores"] = 3; }), "s.json: \"scores\" is 3, expected a list");
  EXPECT_EQ(broken([](Json& d) { d["scores"][0] = Json::array(); }),
            "s.json: scores[0]: found [], expected an object");
  EXPECT_EQ(broken([](Json& d) { d["costs"][1]["scheme"] = "w3g64"; }), "s.json: a has two costs in w3g64");
  EXPECT_EQ(broken([](Json& d) {
              d["costs"][1]["shape"] = {64, 32};
            }),
            "s.json: a has two shapes, [64, 64] and [64, 32]");
  EXPECT_EQ(
      broken([](Json& d) {
        d["costs"][0]["shape"] = {4000000000, 4000000000};
      }),
      "s.json: costs[0]: \"shape\" is [4000000000,4000000000], expected [out_features, in_features] with at "
      "most 2^38 weights");
  EXPECT_EQ(broken([](Json& d) { d["modules"][1]["tensor"] = "a"; }),
            "s.json: the tensor a is listed twice under \"modules\"");
  EXPECT_EQ(broken([](Json& d) { d["pair_costs"][0]["tensors"] = "a"; }),
            "s.json: pair_costs[0]: \"tensors\" is \"a\", expected a list of two texts");
  EXPECT_EQ(broken([](Json& d) { d["pair_costs"][1].erase("cost"); }),
            "s.json: pair_costs[1]: the field \"cost\" is missing");
  EXPECT_EQ(broken([](Json& d) {
              d["pair_costs"][1]["schemes"] = {"w3g64", "q4_0"};
            }),
            "s.json: b in w3g64 has two costs together with a in Q4_0");
  EXPECT_EQ(broken([](Json& d) {
              d["pair_costs"][1]["tensors"] = {"a", "a"};
            }),
            "s.json: a pair cost names a twice; two tensors were expected");
  EXPECT_EQ(broken([](Json& d) {
              d["pair_costs"][1]["tensors"] = {"a", "c"};
            }),
            "s.json: c has costs together with other tensors, but none of its own under \"costs\"");
  const std::string unknown = broken([](Json& d) { d["costs"][0]["scheme"] = "w9g64"; });
  EXPECT_EQ(unknown.rfind("s.json: costs[0]: ", 0), 0u) << unknown;
  EXPECT_NE(unknown.find("w9g64"), std::string::npos) << unknown;
  EXPECT_EQ(error_of_scores(Json::array()),
            "s.json: this is not a strata.scores file, since it has no \"format\"");
}

TEST(Scores, NumbersBeyondDoublePrecisionAreRefusedByName) {
  const auto path = std::filesystem::temp_directory_path() / "strata_scores_overflow.json";
  std::ofstream(path) << R"({"format": "strata.scores", "version": 1, "score": 1e999})";
  try {
    read_scores(path);
    FAIL();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find(path.string()), std::string::npos) << error.what();
  }
  std::filesystem::remove(path);
}

TEST(Scores, AreNotWrittenWithNan) {
  Scores scores;
  scores.method = "nsds";
  scores.scores = {{3, "", std::nan(""), 100}};
  try {
    to_json(scores);
    FAIL();
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(), "scores of nsds: the score of layer 3 is nan, expected a finite number");
  }
}

TEST(ModulesOf, TakesModulesThenCostsThenScores) {
  Scores scores = scores_from_json(valid_scores(), "s.json");
  EXPECT_EQ(modules_of(scores)[1].tensor, "b");

  scores.modules.clear();
  scores.costs = {{"model.layers.12.mlp.up_proj.weight", 768, 256, "w3g64", 1.0},
                  {"model.layers.12.mlp.up_proj.weight", 768, 256, "w4g64", 0.5},
                  {"blk.3.attn_q.weight", 64, 64, "Q4_K", 1.0},
                  {"lm_head.weight", 64, 64, "Q4_K", 1.0}};
  const auto from_costs = modules_of(scores);
  ASSERT_EQ(from_costs.size(), 3u);
  EXPECT_EQ(from_costs[0].module, "lm_head.weight");
  EXPECT_EQ(from_costs[1].layer, 3);
  EXPECT_EQ(from_costs[1].module, "attn_q");
  EXPECT_EQ(from_costs[2].layer, 12);
  EXPECT_EQ(from_costs[2].module, "mlp.up_proj");
  EXPECT_EQ(from_costs[2].rows, 768);

  scores.costs.clear();
  const auto from_scores = modules_of(scores);
  ASSERT_EQ(from_scores.size(), 2u);
  EXPECT_EQ(from_scores[1].tensor, "model.layers.1.self_attn.q_proj.weight");
  EXPECT_EQ(from_scores[1].params(), 4096);
}

TEST(Plan, ComesBackAsItWasWritten) {
  Plan plan = plan_from_json(valid_plan(), "p.json");
  EXPECT_EQ(plan.assignments[1].scheme.name(), "w4g64");
  EXPECT_EQ(plan.gap, 0.001);
  // 4096 weights of 3 + 32/64 bits and 8192 of 4 + 32/64
  EXPECT_EQ(plan.bytes, (4096 * 3.5 + 8192 * 4.5) / 8);
  EXPECT_DOUBLE_EQ(plan.bits_per_weight, (4096 * 3.5 + 8192 * 4.5) / 12288);
  EXPECT_DOUBLE_EQ(plan.average_code_bits, (4096 * 3.0 + 8192 * 4.0) / 12288);

  const auto path = std::filesystem::temp_directory_path() / "strata_plan_test.json";
  write_plan(path, plan);
  EXPECT_EQ(to_json(read_plan(path)), to_json(plan));
  std::filesystem::remove(path);
}

TEST(Plan, OfAnotherProgramNeedsOnlyTensorsAndSchemes) {
  const Plan plan = plan_from_json(
      Json::parse(
          R"({"format": "strata.plan", "version": 1, "assignments": [{"tensor": "a", "scheme": "Q4_K"}]})"),
      "p.json");
  EXPECT_EQ(plan.assignments[0].rows, 0);
  EXPECT_EQ(plan.assignments[0].scheme.name(), "Q4_K");
}

TEST(Plan, SaysWhatIsWrongAndWhere) {
  const auto broken = [](const auto& change) {
    Json document = valid_plan();
    change(document);
    return error_of_plan(document);
  };
  EXPECT_EQ(broken([](Json& d) { d["format"] = "strata.scores"; }),
            "p.json: this is a strata.scores file, expected strata.plan");
  EXPECT_EQ(broken([](Json& d) { d["assignments"] = Json::array(); }),
            "p.json: \"assignments\" is empty, expected a scheme for every module");
  EXPECT_EQ(broken([](Json& d) { d["assignments"][1]["tensor"] = "a"; }),
            "p.json: the tensor a is assigned twice");
  EXPECT_EQ(
      broken([](Json& d) {
        d["assignments"][1]["shape"] = {0, 5};
      }),
      "p.json: assignments[1]: \"shape\" is [0,5], expected [out_features, in_features] with at most 2^38 "
      "weights");
  EXPECT_EQ(broken([](Json& d) { d["assignments"][0]["scheme"] = ""; }),
            "p.json: assignments[0]: \"scheme\" is \"\", expected a text that is not empty");
  const std::string unknown = broken([](Json& d) { d["assignments"][0]["scheme"] = "Q9_K"; });
  EXPECT_EQ(unknown.rfind("p.json: assignments[0]: ", 0), 0u) << unknown;
}

}  // namespace
}  // namespace strata
