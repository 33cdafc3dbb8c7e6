// Formats asked for what they cannot hold, GGUF files that lie, and recipes that cannot be followed: one
// sentence each.
#include <gtest/gtest.h>

#include <cstdint>
#include <fstream>
#include <string>
#include <vector>

#include "tests/cli/refusal.h"

namespace strata {
namespace {

constexpr const char* kModel = "models/tiny-llama";

struct GgufEntry {
  std::string name;
  uint64_t cols, rows;
  uint32_t type;
  uint64_t offset;
};

template <class T>
void put(std::string& bytes, T value) {
  bytes.append(reinterpret_cast<const char*>(&value), sizeof value);
}

void put(std::string& bytes, const std::string& text) {
  put(bytes, static_cast<uint64_t>(text.size()));
  bytes += text;
}

// A GGUF file of version 3 with one key, these tensors and so many bytes of data.
void write_gguf(const std::filesystem::path& path, const std::vector<GgufEntry>& entries, size_t data) {
  constexpr uint32_t kString = 8;
  std::string bytes = "GGUF";
  put(bytes, uint32_t{3});
  put(bytes, static_cast<uint64_t>(entries.size()));
  put(bytes, uint64_t{1});
  put(bytes, std::string("general.architecture"));
  put(bytes, kString);
  put(bytes, std::string("llama"));
  for (const GgufEntry& entry : entries) {
    put(bytes, entry.name);
    put(bytes, uint32_t{2});
    put(bytes, entry.cols);
    put(bytes, entry.rows);
    put(bytes, entry.type);
    put(bytes, entry.offset);
  }
  bytes.resize((bytes.size() + 31) / 32 * 32 + data);
  std::ofstream(path, std::ios::binary) << bytes;
}

class FormatBadInput : public testing::Test {
 protected:
  // No output may be left behind.
  void expect_no_quantization(const std::string& arguments, int code, const std::string& what) {
    const auto target = scratch_ / "out";
    expect_refusal(run(scratch_, "quantize --effort quick --quiet -o " + target.string() + " " + arguments),
                   code, what);
    EXPECT_FALSE(std::filesystem::exists(target));
  }

  void expect_refused_gguf(const std::vector<GgufEntry>& entries, size_t data, const std::string& what) {
    const auto path = scratch_ / "lies.gguf";
    write_gguf(path, entries, data);
    expect_refusal(run(scratch_, "inspect " + path.string()), 1, what);
  }

  std::string written(const std::string& name, const std::string& text) {
    std::ofstream(scratch_ / name) << text;
    return (scratch_ / name).string();
  }

  Scratch scratch_;
};

TEST_F(FormatBadInput, FormatsRefuseWhatTheyCannotHold) {
  const std::string model = std::string(kModel) + " --method uniform --bpw 4.5 ";
  expect_no_quantization(model + "--format gguf --schemes w4g64", 2, "w4g64");
  expect_no_quantization(model + "--format mlx --schemes Q4_K", 2, "Q4_K");
  expect_no_quantization(model + "--format mlx --schemes w7g64", 2, "w7g64");
  expect_no_quantization(model + "--format gptq --schemes w5g64s", 2, "2, 3, 4 and 8 bits");
  expect_no_quantization(model + "--format gptq_v2 --schemes w4g64", 2, "zero points as codes");
  expect_no_quantization(model + "--format compressed-tensors --schemes w4g64m", 2, "w4g64m");
  expect_no_quantization(model + "--format parquet", 2, "known are gguf");
}

TEST_F(FormatBadInput, QuantizersRefuseExpertsThatTheyCannotLearn) {
  for (const char* quantizer : {"adaround", "lwc", "hybrid"})
    expect_no_quantization(
        std::string("tests/data/architectures/qwen3-moe --bpw 4 --schemes w2g32,w4g32 --quantizer ") +
            quantizer,
        2, "mlp.experts.gate_proj.weight is a stack of experts");
}

TEST_F(FormatBadInput, RuntimesRefuseWhatTheyDoNotLoad) {
  const std::string model = std::string(kModel) + " --method uniform --bpw 4.5 ";
  expect_no_quantization(model + "--runtime vllm --format mlx", 2, "vllm");
  expect_no_quantization(model + "--runtime vllm --format gptq --schemes w3g64s", 2, "vllm");
  expect_no_quantization(model + "--runtime toaster", 2, "known are");
}

TEST_F(FormatBadInput, GgufFilesThatLie) {
  constexpr uint32_t kFloat = 0, kQ4_K = 12, kUnknown = 250;
  const GgufEntry first{"blk.0.attn_q.weight", 32, 2, kFloat, 0};
  expect_refused_gguf({{"blk.0.attn_q.weight", 32, 2, kUnknown, 0}}, 256, "type 250, which is not known");
  const std::string path = (scratch_ / "lies.gguf").string();
  expect_refusal(run(scratch_, "eval --quiet --text data/wikitext-2/wiki.test.raw " + path), 1, "type 250");
  expect_no_quantization(path + " --format gguf --bpw 3", 1, "type 250");
  expect_refused_gguf({first, {"blk.0.attn_k.weight", 32, 2, kFloat, 7}}, 512,
                      "not a multiple of the alignment");
  expect_refused_gguf({first, {"blk.0.attn_k.weight", 32, 2, kFloat, 64}}, 512,
                      "inside the tensor before it");
  expect_refused_gguf({first, {"blk.0.attn_k.weight", 32, 2, kFloat, uint64_t{1} << 60}}, 512, "truncated");
  expect_refused_gguf({first, {"blk.0.attn_k.weight", 32, 2, kFloat, 256}}, 500, "truncated");
  expect_refused_gguf({first, {"blk.0.attn_q.weight", 32, 2, kFloat, 256}}, 512, "appears twice");
  expect_refused_gguf({{"blk.0.attn_q.weight", 32, 2, kQ4_K, 0}}, 512, "do not divide");
  expect_refused_gguf({{"blk.0.attn_q.weight", uint64_t{1} << 62, 8, kFloat, 0}}, 512, "impossible");
}

TEST_F(FormatBadInput, TruncatedGgufHeaders) {
  const auto path = scratch_ / "lies.gguf";
  write_gguf(path, {{"blk.0.attn_q.weight", 32, 2, 0, 0}}, 256);
  const std::string whole = slurp(path);
  for (const size_t length : {size_t{3}, size_t{20}, size_t{40}, size_t{110}}) {
    std::filesystem::resize_file(path, length);
    expect_refusal(run(scratch_, "inspect " + path.string()), 1, "lies.gguf");
    std::ofstream(path, std::ios::binary) << whole;
  }
}

TEST_F(FormatBadInput, RecipesThatCannotBeFollowed) {
  const auto refused = [&](const std::string& recipe, const std::string& what) {
    expect_no_quantization(std::string(kModel) + " --format gguf --plan " + written("types.txt", recipe), 1,
                           what);
  };
  refused(".*=q4_k\nblk\\.77\\.attn_q=q8_0\n",
          "line 2: the expression \"blk\\.77\\.attn_q\" matches no matrix");
  refused(".*=q4_k\nattn_(q=q8_0\n", "line 2");
  refused("attn_q=q4_k\n", "gives no type to");
  refused(".*=q9_k\n", "line 1");
  refused("attn_q\n", "REGEX=TYPE was expected");
  refused("", "no line REGEX=TYPE");
}

TEST_F(FormatBadInput, RecipesForProgramsThatCannotMakeThem) {
  const std::string plan = written(
      "plan.json",
      R"({"format": "strata.plan", "version": 1, "model": "m", "method": "uniform", "allocator": "uniform",
          "budget": "4 bpw", "assignments": [{"tensor": "model.layers.0.self_attn.q_proj.weight",
          "shape": [64, 64], "scheme": "w5g32"}]})");
  expect_refusal(run(scratch_, "recipe " + plan + " --for llama-quantize"), 2, "w5g32");
  expect_refusal(run(scratch_, "recipe " + plan + " --for gptqmodel"), 2, "w5g32");
  expect_refusal(run(scratch_, "recipe " + plan + " --for make"), 2, "known are");
  expect_refusal(run(scratch_, "recipe " + (scratch_ / "missing.json").string() + " --for autoround"), 1,
                 "missing.json");
}

}  // namespace
}  // namespace strata
