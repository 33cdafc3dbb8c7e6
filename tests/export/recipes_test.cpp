#include "strata/export/recipes.h"

#include <gtest/gtest.h>

#include "strata/core/error.h"
#include "strata/core/json.h"
#include "tests/support/error_of.h"

namespace strata {
namespace {

// Two layers of all modules in the schemes given in turn.
Plan plan_of(const std::vector<std::string>& schemes) {
  Plan plan;
  plan.layers = 2;
  for (int layer = 0; layer < 2; ++layer)
    for (const char* name : {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
                             "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"})
      plan.assignments.push_back({"model.layers." + std::to_string(layer) + "." + name + ".weight", 256, 256,
                                  parse_scheme(schemes[plan.assignments.size() % schemes.size()])});
  return plan;
}

std::string recipe_error(const std::string& text, const Plan& plan) {
  try {
    read_tensor_types(text, plan.assignments, "types.txt");
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

TEST(Recipes, TensorTypesComeBack) {
  for (const std::vector<std::string>& schemes : {std::vector<std::string>{"Q4_K"},
                                                  {"Q2_K", "IQ4_XS", "Q8_0"},
                                                  {"Q3_K", "Q3_K", "Q3_K", "Q6_K", "Q2_K"}}) {
    const Plan plan = plan_of(schemes);
    const auto back = read_tensor_types(recipe_text("llama-quantize", plan), plan.assignments, "types.txt");
    ASSERT_EQ(back.size(), plan.assignments.size());
    for (size_t i = 0; i < back.size(); ++i) {
      EXPECT_EQ(back[i].tensor, plan.assignments[i].tensor);
      EXPECT_EQ(back[i].scheme, plan.assignments[i].scheme) << back[i].tensor;
    }
  }
  EXPECT_EQ(recipe_text("llama-quantize", plan_of({"Q4_K"})),
            "^blk\\.[0-9]+\\.(attn_k|attn_output|attn_q|attn_v|ffn_down|ffn_gate|ffn_up)\\.weight$=q4_k\n");
}

TEST(Recipes, NamesOfOtherArchitecturesStandAsTheyAre) {
  Plan plan;
  for (const char* tensor : {"blk.0.ffn_gate_exps.weight", "blk.1.ffn_gate_exps.weight",
                             "blk.0.ffn_up.3.weight", "model.layers.1.mlp.up_proj.weight"})
    plan.assignments.push_back({tensor, 256, 256, parse_scheme("Q4_K")});
  plan.assignments[2].scheme = parse_scheme("Q6_K");
  plan.assignments[3].scheme = parse_scheme("Q8_0");
  const std::string text = recipe_text("llama-quantize", plan);
  EXPECT_NE(text.find("\\.ffn_gate_exps\\.weight$=q4_k\n"), std::string::npos) << text;
  EXPECT_NE(text.find("^blk\\.0\\.ffn_up\\.3\\.weight$=q6_k\n"), std::string::npos) << text;
  EXPECT_NE(text.find("^blk\\.1\\.ffn_up\\.weight$=q8_0\n"), std::string::npos) << text;
}

TEST(Recipes, ANameThatGgufDoesNotKnowIsRefused) {
  for (const char* tensor :
       {"model.layers.0.foo.weight", "blk.x.attn_q.weight", "token_embd.weight", "blk.0"}) {
    Plan plan = plan_of({"Q4_K"});
    plan.assignments[3].tensor = tensor;
    EXPECT_EQ(error_of([&] { recipe_text("llama-quantize", plan); }),
              std::string(tensor) +
                  " is not the weight of a layer's module with a name in GGUF files, such as "
                  "model.layers.0.self_attn.q_proj.weight or blk.0.attn_q.weight");
  }
}

TEST(Recipes, LayersAreNumberedUnlessThePlanHasThemAll) {
  Plan part = plan_of({"Q4_K"}), unknown = part;
  part.layers = 16;
  unknown.layers = 0;
  Plan gap = part;  // layers 0 and 2 of 2
  gap.layers = 2;
  for (Assignment& a : gap.assignments) a.tensor.replace(13, 1, a.tensor[13] == '1' ? "2" : "0");
  for (const Plan* plan : {&part, &unknown, &gap}) {
    const std::string numbers = plan == &gap ? "(0|2)" : "(0|1)";
    const std::string text = recipe_text("llama-quantize", *plan);
    EXPECT_EQ(text.rfind("^blk\\." + numbers + "\\.(attn_k|", 0), 0u) << text;
  }
  part = plan_of({"w4g128s", "w8g128s"});
  part.layers = 16;
  EXPECT_EQ(recipe_text("gptqmodel", part).find("[0-9]+"), std::string::npos);
  EXPECT_EQ(recipe_text("llm-compressor", part).find("[0-9]+"), std::string::npos);
}

TEST(Recipes, TheFirstExpressionDecides) {
  const Plan plan = plan_of({"Q4_K"});
  const auto back =
      read_tensor_types("attn_v=q8_0\n\n  blk\\.0\\.=Q6_K\r\n.*=iq4_xs\n", plan.assignments, "types.txt");
  EXPECT_EQ(back[0].scheme.name(), "Q6_K");
  EXPECT_EQ(back[2].scheme.name(), "Q8_0");
  EXPECT_EQ(back[9].scheme.name(), "Q8_0");
  EXPECT_EQ(back[10].scheme.name(), "IQ4_XS");
}

TEST(Recipes, ExpressionsFindNamesOfOtherArchitectures) {
  std::vector<Assignment> tensors;
  for (const char* tensor : {"blk.0.attn_q.weight", "blk.0.ffn_gate_exps.weight"})
    tensors.push_back({tensor, 256, 256, {}});
  const auto types = read_tensor_types("_exps=q2_k\n.*=q6_k\n", tensors, "types.txt");
  EXPECT_EQ(types[0].scheme.name(), "Q6_K");
  EXPECT_EQ(types[1].scheme.name(), "Q2_K");
  EXPECT_NE(
      error_of([&] { read_tensor_types("_exps=q2_k", tensors, "types.txt"); }).find("blk.0.attn_q.weight"),
      std::string::npos);
}

TEST(Recipes, WrongTensorTypesAreNamed) {
  const Plan plan = plan_of({"Q4_K"});
  const auto expect = [&](const std::string& text, const std::string& part) {
    const std::string message = recipe_error(text, plan);
    EXPECT_EQ(message.rfind("types.txt", 0), 0u) << message;
    EXPECT_NE(message.find(part), std::string::npos) << message;
    EXPECT_EQ(message.find('\n'), std::string::npos) << message;
  };
  expect(".*=q4_k\nattn_quux=q8_0", "line 2: the expression \"attn_quux\" matches no matrix");
  expect("attn_(q=q8_0", "line 1: the pattern \"attn_(q\" is wrong");
  expect("attn_q=q9_9", "line 1: \"q9_9\" is not a known GGUF type");
  expect("attn_q", "line 1: \"attn_q\" was found; REGEX=TYPE was expected");
  expect("=q8_0", "REGEX=TYPE was expected");
  expect("attn_q=q8_0", "gives no type to blk.0.attn_k.weight");
  expect("\n \n", "has no line");
}

TEST(Recipes, EveryProgramIsToldEveryModule) {
  const Plan plan = plan_of({"w4g128s", "w4g128s", "w4g128s", "w8rowz", "w3g64s", "w3g64s", "w4g128s"});
  const Json gptq = Json::parse(recipe_text("gptqmodel", plan));
  EXPECT_EQ(gptq["bits"], 4);
  EXPECT_EQ(gptq["dynamic"]["+:.*layers\\.[0-9]+\\.self_attn\\.o_proj$"],
            (Json{{"bits", 8}, {"group_size", -1}, {"sym", false}}));
  EXPECT_EQ(gptq["dynamic"]["+:.*layers\\.[0-9]+\\.mlp\\.(gate|up|gate_up)_proj$"]["bits"], 3);

  const Json autoround = Json::parse(recipe_text("autoround", plan));
  EXPECT_EQ(autoround.size(), plan.assignments.size());
  EXPECT_EQ(autoround["model.layers.1.self_attn.q_proj"],
            (Json{{"bits", 4}, {"group_size", 128}, {"sym", true}, {"data_type", "int"}}));

  const std::string yaml = recipe_text("llm-compressor", plan);
  EXPECT_NE(
      yaml.find(
          "targets: [\"re:.*layers\\\\.[0-9]+\\\\.self_attn\\\\.(q|k|v)_proj$\","
          "\"re:.*layers\\\\.[0-9]+\\\\.mlp\\\\.down_proj$\"]\n"
          "          weights:\n            num_bits: 4\n            type: int\n            symmetric: true\n"
          "            strategy: group\n            group_size: 128\n"),
      std::string::npos)
      << yaml;
}

TEST(Recipes, WhatAProgramCannotMakeIsRefused) {
  EXPECT_THROW(recipe_text("llama-quantize", plan_of({"w4g64s"})), UsageError);
  EXPECT_THROW(recipe_text("gptqmodel", plan_of({"Q4_K"})), UsageError);
  EXPECT_THROW(recipe_text("gptqmodel", plan_of({"w5g64s"})), UsageError);
  EXPECT_THROW(recipe_text("autoround", plan_of({"w4g64"})), UsageError);
  EXPECT_THROW(recipe_text("ollama", plan_of({"Q4_K"})), UsageError);
  Plan plan = plan_of({"w4g64s"});
  plan.assignments[0].tensor = "blk.0.attn_q.weight";
  EXPECT_THROW(recipe_text("llm-compressor", plan), Error);
}

}  // namespace
}  // namespace strata
