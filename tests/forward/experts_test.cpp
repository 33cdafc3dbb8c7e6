#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <limits>
#include <numeric>

#include "strata/core/file.h"
#include "strata/core/json.h"
#include "strata/core/threads.h"
#include "strata/forward/decoder.h"
#include "strata/forward/routing.h"
#include "strata/gguf/file.h"
#include "tests/support/architecture_models.h"
#include "tests/support/error_of.h"
#include "tests/support/random_ids.h"
#include "tests/support/temporary_directory.h"

namespace strata {
namespace {

at::Tensor normal(std::vector<int64_t> shape, int seed) {
  at::Tensor values = at::empty(shape, at::kFloat);
  for (int64_t i = 0; i < values.numel(); ++i)
    values.data_ptr<float>()[i] =
        static_cast<float>(std::sin(static_cast<double>((i + 1) * (seed + 7)) * 12.9898));
  return values;
}

// Minus infinity where an expert's group is none of the best ones.
void close_groups(const RouterPlan& plan, std::vector<double>& scores) {
  const size_t size = scores.size() / static_cast<size_t>(plan.groups);
  const size_t best = plan.group_score == RouterPlan::GroupScore::Best ? 1 : 2;
  std::vector<double> of_groups;
  for (size_t first = 0; first < scores.size(); first += size) {
    std::vector<double> members(scores.begin() + static_cast<int64_t>(first),
                                scores.begin() + static_cast<int64_t>(first + size));
    std::sort(members.rbegin(), members.rend());
    of_groups.push_back(std::accumulate(members.begin(), members.begin() + static_cast<int64_t>(best), 0.0));
  }
  for (size_t expert = 0; expert < scores.size(); ++expert) {
    const double own = of_groups[expert / size];
    const auto better =
        std::count_if(of_groups.begin(), of_groups.end(), [&](double other) { return other > own; });
    if (better >= plan.groups_used) scores[expert] = -std::numeric_limits<double>::infinity();
  }
}

// The sum over the chosen experts of gate times W x, token by token in double precision.
at::Tensor by_token(const RouterPlan& plan, const at::Tensor& logits, const at::Tensor& x,
                    const at::Tensor& stack, const at::Tensor& bias = {}) {
  const at::Tensor weights = stack.view({logits.size(-1), -1, x.size(-1)}).to(at::kDouble);
  at::Tensor sums = at::zeros({x.size(0), x.size(1), weights.size(1)}, at::kDouble);
  for (int64_t b = 0; b < x.size(0); ++b)
    for (int64_t t = 0; t < x.size(1); ++t) {
      std::vector<double> scores;
      double all = 0;
      for (int64_t e = 0; e < logits.size(-1); ++e) {
        const double logit = logits[b][t][e].item<double>();
        scores.push_back(plan.score == RouterPlan::Score::Softmax ? std::exp(logit)
                                                                  : 1 / (1 + std::exp(-logit)));
        all += scores.back();
      }
      if (plan.score == RouterPlan::Score::Softmax)
        for (double& score : scores) score /= all;
      std::vector<double> choice = scores;
      for (size_t e = 0; bias.defined() && e < choice.size(); ++e)
        choice[e] += bias[static_cast<int64_t>(e)].item<double>();
      close_groups(plan, choice);
      std::vector<int64_t> order(scores.size());
      std::iota(order.begin(), order.end(), 0);
      std::sort(order.begin(), order.end(), [&](int64_t i, int64_t j) {
        return choice[static_cast<size_t>(i)] > choice[static_cast<size_t>(j)];
      });
      double chosen = 0;
      for (int64_t i = 0; i < plan.used; ++i)
        chosen += scores[static_cast<size_t>(order[static_cast<size_t>(i)])];
      for (int64_t i = 0; i < plan.used; ++i) {
        const int64_t expert = order[static_cast<size_t>(i)];
        const double gate =
            plan.scale * scores[static_cast<size_t>(expert)] / (plan.renormalized ? chosen : 1);
        sums[b][t] += gate * at::mv(weights[expert], x[b][t].to(at::kDouble));
      }
    }
  return sums;
}

TEST(Routing, SumsWhatTheChosenExpertsGiveTimesTheirGates) {
  const at::Tensor x = normal({2, 9, 8}, 1), logits = 2 * normal({2, 9, 5}, 2), stack = normal({5 * 6, 8}, 3);
  for (const auto score : {RouterPlan::Score::Softmax, RouterPlan::Score::Sigmoid})
    for (const bool renormalized : {true, false})
      for (const int64_t used : {1, 2, 5}) {
        const RouterPlan plan = {"gate", score, used, renormalized, 1.7};
        const Routing routing = route(plan, logits);
        int64_t rows = 0;
        for (const Routing::Run& run : routing.runs) rows += run.rows;
        EXPECT_EQ(rows, 2 * 9 * used);
        const at::Tensor products =
            expert_products(routing, rows_of_experts(routing, x), stack, at::Tensor());
        const at::Tensor expected = by_token(plan, logits, x, stack);
        EXPECT_LT((sum_of_experts(routing, products, x) - expected).abs().max().item<double>(), 1e-5);
      }
}

TEST(Routing, ChoosesByABiasAmongTheBestGroups) {
  const at::Tensor x = normal({2, 9, 8}, 1), logits = 2 * normal({2, 9, 12}, 2),
                   stack = normal({12 * 6, 8}, 3), bias = 0.5 * normal({12}, 4);
  for (const auto group_score : {RouterPlan::GroupScore::Best, RouterPlan::GroupScore::TwoBest})
    for (const int64_t groups_used : {1, 2, 4}) {
      RouterPlan plan = {"gate", RouterPlan::Score::Sigmoid, 3, true, 2.5};
      plan.groups = 4;
      plan.groups_used = groups_used;
      plan.group_score = group_score;
      const Routing routing = route(plan, logits, bias);
      const at::Tensor products = expert_products(routing, rows_of_experts(routing, x), stack, at::Tensor());
      const at::Tensor expected = by_token(plan, logits, x, stack, bias);
      EXPECT_LT((sum_of_experts(routing, products, x) - expected).abs().max().item<double>(), 1e-5);
    }
}

TEST(Routing, ShowsEveryExpertItsTokensTimesTheirGates) {
  const at::Tensor x = normal({2, 9, 8}, 1), logits = 2 * normal({2, 9, 5}, 2);
  const Routing routing = route({"gate", RouterPlan::Score::Softmax, 2, true, 1}, logits);
  at::Tensor sum = at::zeros({8});
  for (int64_t expert = 0; expert < 5; ++expert)
    sum += gated_rows(routing, rows_of_experts(routing, x), expert).sum(0);
  EXPECT_LT((sum - x.reshape({-1, 8}).sum(0)).abs().max().item<double>(),
            1e-5);  // the gates of a token add up to 1
}

class ModelsOfExperts : public testing::TestWithParam<std::string> {};

TEST_P(ModelsOfExperts, ComputeTheSameBitsForAnyBatchAndNumberOfThreads) {
  const Model model = open_model(architecture_model(GetParam()).directory);
  const at::Tensor ids = random_ids(5, 24);
  Decoder decoder(model, {});
  const at::Tensor all = decoder.forward(ids);
  for (const int threads : {1, 3}) {
    set_thread_count(threads);
    for (int64_t i = 0; i < 5; ++i)
      EXPECT_TRUE(at::equal(decoder.forward(ids.narrow(0, i, 1))[0], all[i])) << i;
  }
  set_thread_count(0);
}

INSTANTIATE_TEST_SUITE_P(Models, ModelsOfExperts,
                         testing::Values("qwen3-moe", "qwen2-moe", "mixtral", "olmoe", "glm4-moe",
                                         "granitemoe", "gpt-oss", "deepseek-v2", "deepseek-v3"),
                         [](const auto& name) { return test_name(name.param); });

// A model of two layers of 6 experts, changed.
class ChangedExperts : public testing::Test {
 protected:
  void SetUp() override {
    std::filesystem::copy(architecture_model("qwen3-moe").directory, directory_ / "model");
  }

  std::string error() const {
    return error_of([&] { open_model(directory_ / "model"); });
  }

  // In the header of the weights, by something as long.
  void replace(const std::string& from, const std::string& to) {
    const std::filesystem::path path = directory_ / "model/model.safetensors";
    std::string bytes = read_text(path);
    const size_t at = bytes.find(from);
    ASSERT_NE(at, std::string::npos);
    bytes.replace(at, from.size(), to);
    write_text(path, bytes);
  }

  void set_experts(int64_t count) {
    Json config = read_json(directory_ / "model/config.json");
    config["num_local_experts"] = count;
    write_json(directory_ / "model/config.json", config);
  }

  TemporaryDirectory directory_;
};

TEST_F(ChangedExperts, OfAnotherNumberAreRefused) {
  set_experts(5);
  EXPECT_NE(error().find("model.layers.0.mlp.experts.5.gate_proj.weight is of one expert more than the 5"),
            std::string::npos)
      << error();
  set_experts(7);
  EXPECT_NE(error().find("has no tensor model.layers.0.mlp.experts.6.gate_proj.weight"), std::string::npos)
      << error();
  set_experts(1);  // of which a token cannot use two
  EXPECT_NE(error().find("the number of experts that a token uses is 2"), std::string::npos) << error();
}

TEST_F(ChangedExperts, OfWhichOneIsMissingAreRefused) {
  replace("model.layers.1.mlp.experts.3.up_proj", "model.layers.1.mlp.experts.9.up_proj");
  EXPECT_NE(error().find("has no tensor model.layers.1.mlp.experts.3.up_proj.weight, one of the 6"),
            std::string::npos)
      << error();
}

TEST_F(ChangedExperts, OfAnotherShapeAreRefused) {
  const std::string name = "model.layers.1.mlp.experts.3.down_proj.weight\":{\"dtype\":\"F16\",\"shape\":";
  replace(name + "[64,32]", name + "[32,64]");
  EXPECT_NE(
      error().find("model.layers.1.mlp.experts.3.down_proj.weight has shape [32, 64], but the 6 matrices"),
      std::string::npos)
      << error();
}

TEST_F(ChangedExperts, InAGgufOfAnotherNumberAreRefused) {
  const std::vector<GgufTensor> tensors = {{"token_embd.weight", {264, 64}, GgufType::F32, 0},
                                           {"blk.0.ffn_up_exps.weight", {6, 32, 64}, GgufType::F32, 0}};
  const std::filesystem::path path = directory_ / "x.gguf";
  GgufWriter writer(path,
                    {{"general.architecture", gguf_string("qwen3moe")},
                     {"qwen3moe.expert_count", gguf_u32(4)},
                     {"qwen3moe.expert_used_count", gguf_u32(2)},
                     {"qwen3moe.expert_feed_forward_length", gguf_u32(32)},
                     {"qwen3moe.embedding_length", gguf_u32(64)},
                     {"qwen3moe.feed_forward_length", gguf_u32(96)},
                     {"qwen3moe.block_count", gguf_u32(1)},
                     {"qwen3moe.attention.head_count", gguf_u32(2)}},
                    tensors);
  for (const GgufTensor& tensor : tensors) {
    const std::vector<std::byte> zeros(tensor.bytes());
    writer.write(zeros.data(), zeros.size());
  }
  writer.commit();
  EXPECT_NE(error_of([&] { open_model(path); })
                .find("blk.0.ffn_up_exps.weight has shape [6, 32, 64], but the config asks for 4 experts of "
                      "[32, 64]"),
            std::string::npos);
}

}  // namespace
}  // namespace strata
