#include "strata/export/plans.h"

#include <gtest/gtest.h>

#include <cstring>

#include "strata/allocation/allocator.h"
#include "strata/pipeline/quantize.h"
#include "strata/sensitivity/method.h"
#include "tests/support/error_of.h"
#include "tests/support/temporary_directory.h"
#include "tests/support/tiny_gguf.h"

namespace strata {
namespace {

class PlansForModels : public testing::Test {
 protected:
  void SetUp() override {
    write_tiny_model(directory_ / "model", {});
    model_ = open_model(directory_ / "model");
    plan_.model = "model";
    for (const Module& module : model_.modules)
      plan_.assignments.push_back({module.tensor, module.rows, module.cols, parse_scheme("Q8_0")});
    plan_.sum_up();
  }

  Plan read_back(const Plan& plan) const {
    write_plan(directory_ / "plan.json", plan);
    return read_plan_for(model_, directory_ / "plan.json");
  }

  std::string refusal_of(const Plan& plan) const {
    return error_of([&] { read_back(plan); });
  }

  TemporaryDirectory directory_;
  Model model_;
  Plan plan_;
};

TEST_F(PlansForModels, APlanOfTheWholeModelIsTaken) {
  EXPECT_EQ(read_back(plan_).bytes, plan_.bytes);
  Plan without_shapes = plan_;
  for (Assignment& assignment : without_shapes.assignments) assignment.rows = assignment.cols = 0;
  without_shapes.bytes = 1;
  const Plan read = read_back(without_shapes);
  EXPECT_EQ(read.bytes, plan_.bytes);
  EXPECT_EQ(read.assignments.front().cols, 32);
}

TEST_F(PlansForModels, APlanKnowsHowManyLayersTheModelHas) {
  SensitivityOptions options;
  options.schemes = parse_schemes("Q4_0,Q8_0");
  AllocatorOptions allocator;
  allocator.schemes = options.schemes;
  allocator.budget.bits_per_weight = 9;
  Scores scores = score(model_, "uniform", options);
  EXPECT_EQ(read_back(allocate(modules_of(scores), scores, allocator)).layers, 2);
  scores.modules.clear();  // as another program may leave them out
  EXPECT_EQ(allocate(modules_of(scores), scores, allocator).layers, 0);
}

TEST_F(PlansForModels, APlanOfAPartIsRefused) {
  Plan part = plan_;
  part.assignments.resize(9);
  part.assignments.erase(part.assignments.begin() + 7);
  const std::string message = refusal_of(part);
  EXPECT_NE(message.find("gives no scheme to model.layers.1.self_attn.q_proj.weight (6 of 14 matrices"),
            std::string::npos)
      << message;
}

TEST_F(PlansForModels, AnotherShapeOrNameIsRefused) {
  Plan wrong = plan_;
  wrong.assignments[2].rows = 4096;
  EXPECT_NE(refusal_of(wrong).find(
                "its model.layers.0.self_attn.v_proj.weight has the shape [4096, 32], and that of"),
            std::string::npos);
  wrong = plan_;
  wrong.assignments[2].tensor = "model.layers.9.self_attn.v_proj.weight";
  EXPECT_NE(refusal_of(wrong).find("names the tensor model.layers.9.self_attn.v_proj.weight, which"),
            std::string::npos);
}

// An output's embedding and head, as `quantize` takes them from plans for a GGUF.
class BoundariesOfPlans : public testing::Test {
 protected:
  void SetUp() override {
    tiny_.tied = false;
    tiny_.intermediate = 64;
    write_tiny_gguf(directory_ / "model.gguf", tiny_, random_weights(tiny_), tiny_gguf_keys(tiny_));
    request_.model = directory_ / "model.gguf";
    request_.output = directory_ / "out.gguf";
    request_.quantizer.name = "rtn";
  }

  std::string types_with(const std::string& plan_name, const std::string& lines) {
    request_.plan = directory_ / plan_name;
    if (!lines.empty()) write_text(request_.plan, lines);
    const QuantizeResult result = quantize(request_);
    const GgufFile written(request_.output);
    return fmt::format("{} {}", name_of_type(written, "token_embd.weight"),
                       name_of_type(written, "output.weight"));
  }

  static std::string_view name_of_type(const GgufFile& file, const std::string& tensor) {
    return traits_of(file.find_tensor(tensor)->type).name;
  }

  TemporaryDirectory directory_;
  TinyModel tiny_;
  QuantizeRequest request_;
};

TEST_F(BoundariesOfPlans, LinesOfLlamaQuantizeDecideThem) {
  EXPECT_EQ(types_with("both.txt", "token_embd=q5_1\n^output=q4_0\nblk=q8_0\n"), "Q5_1 Q4_0");
  EXPECT_EQ(types_with("head.txt", "^output=q4_0\nblk=q8_0\n"), "Q5_0 Q4_0");  // rows too short for Q4_K
  EXPECT_EQ(types_with("all.txt", ".*=q4_1\n"), "Q4_1 Q4_1");
  request_.boundaries.embedding = "Q8_0";
  EXPECT_EQ(types_with("all.txt", ".*=q4_1\n"), "Q8_0 Q4_1");
}

TEST_F(BoundariesOfPlans, AnotherFileHasThem) {
  write_tiny_gguf(directory_ / "other.gguf", tiny_, random_weights(tiny_), tiny_gguf_keys(tiny_),
                  GgufType::Q5_1);
  EXPECT_EQ(types_with("other.gguf", ""), "Q5_1 Q5_1");
  write_plan(directory_ / "same.json", read_plan_for(open_model(request_.model), directory_ / "other.gguf"));
  EXPECT_EQ(types_with("same.json", ""), "Q5_1 Q5_1");
  request_.boundaries.head = "F16";
  EXPECT_EQ(types_with("other.gguf", ""), "Q5_1 F16");
}

// A GGUF with an embedding, tied to the head, in blocks that cannot be decoded.
TEST_F(BoundariesOfPlans, WhatCannotBeDecodedIsKept) {
  std::vector<GgufTensor> tensors(2);
  tensors[0].name = "token_embd.weight";
  tensors[1].name = "blk.0.mixer.weight";
  for (GgufTensor& tensor : tensors) tensor.shape = {64, 64};
  tensors[0].type = GgufType::Q8_1;
  tensors[1].type = GgufType::F32;
  GgufWriter writer(request_.model, {{"general.architecture", gguf_string("peculiar")}}, tensors);
  for (const GgufTensor& tensor : tensors) {
    const std::vector<std::byte> blocks(tensor.bytes(), std::byte{1});
    writer.write(blocks.data(), blocks.size());
  }
  writer.commit();
  request_.plan = directory_ / "all.txt";
  write_text(request_.plan, ".*=q8_0\n");
  EXPECT_EQ(quantize(request_).exported_plan.embedding.name(), "Q8_1");
  const GgufFile before(request_.model), after(request_.output);
  ASSERT_EQ(name_of_type(after, "token_embd.weight"), "Q8_1");
  EXPECT_EQ(std::memcmp(before.data(*before.find_tensor("token_embd.weight")),
                        after.data(*after.find_tensor("token_embd.weight")), tensors[0].bytes()),
            0);
  request_.boundaries.embedding = "Q8_0";
  request_.output = directory_ / "other.gguf";  // the first is being read
  EXPECT_NE(error_of([&] { quantize(request_); })
                .find("token_embd.weight is stored as Q8_1, which cannot be decoded, so it can be kept but "
                      "not become Q8_0"),
            std::string::npos);
}

}  // namespace
}  // namespace strata
