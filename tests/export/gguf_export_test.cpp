#include <cmath>

#include "strata/core/dtype.h"
#include "strata/core/error.h"
#include "strata/gguf/file.h"
#include "tests/export/export_test_model.h"

namespace strata {
namespace {

namespace fs = std::filesystem;

class GgufExportTest : public ExportTest {};

uint64_t integer(const GgufFile& file, const std::string& key) {
  const GgufValue* value = file.find(key);
  if (value == nullptr) throw Error("no key " + key);
  return std::get<uint64_t>(value->value);
}

double real(const GgufFile& file, const std::string& key) {
  const GgufValue* value = file.find(key);
  if (value == nullptr) throw Error("no key " + key);
  return std::get<double>(value->value);
}

std::string text(const GgufFile& file, const std::string& key) {
  const GgufValue* value = file.find(key);
  return value == nullptr ? "" : std::get<std::string>(value->value);
}

GgufType type_in(const GgufFile& file, const std::string& tensor) {
  const GgufTensor* found = file.find_tensor(tensor);
  if (found == nullptr) throw Error("no tensor " + tensor);
  return found->type;
}

std::vector<float> f32_values(const GgufFile& file, const std::string& tensor) {
  const GgufTensor* found = file.find_tensor(tensor);
  if (found == nullptr || found->type != GgufType::F32) throw Error("no F32 tensor " + tensor);
  std::vector<float> values(found->bytes() / sizeof(float));
  to_float(DType::F32, file.data(*found), values.data(), static_cast<int64_t>(values.size()));
  return values;
}

// The shortest statement of W.reshape(heads, 2, d / 2, cols).swap(1, 2): feature i of a head's first half and
// feature i of its second half become neighbours.
std::vector<float> interleave_halves(const std::vector<float>& weights, int64_t heads, int64_t cols) {
  const int64_t head_dim = static_cast<int64_t>(weights.size()) / cols / heads;
  std::vector<float> result;
  for (int64_t head = 0; head < heads; ++head)
    for (int64_t i = 0; i < head_dim / 2; ++i)
      for (const int64_t row : {head * head_dim + i, head * head_dim + head_dim / 2 + i})
        result.insert(result.end(), weights.begin() + row * cols, weights.begin() + (row + 1) * cols);
  return result;
}

void expect_same_weights(const Model& a, const Model& b) {
  for (const ExpectedTensor& tensor : expected_tensors(a.config))
    EXPECT_EQ(a.checkpoint->read(tensor.name), b.checkpoint->read(tensor.name)) << tensor.name;
}

TEST_F(GgufExportTest, EveryArchitectureReadsBackAsItWas) {
  const std::vector<std::pair<std::string, Json>> cases = {
      {"llama", {{"attention_bias", true}, {"mlp_bias", true}}},
      {"mistral", {{"tie_word_embeddings", false}, {"sliding_window", 64}}},
      {"qwen2", {{"tie_word_embeddings", false}, {"head_dim", 16}}},
      {"qwen3", Json::object()},
  };
  for (const auto& [architecture, changes] : cases) {
    SCOPED_TRACE(architecture);
    const Model model = make_model(architecture, changes);
    const ExportPlan plan = uniform_plan(model, "F32", "F32");
    const ExportResult result = export_gguf(model, plan, target("out.gguf"));
    EXPECT_EQ(result.squared_error, 0);
    EXPECT_EQ(result.file_bytes, fs::file_size(target("out.gguf")));
    EXPECT_EQ(gguf_file_size(model, plan), fs::file_size(target("out.gguf")));

    const Model back = open_model(target("out.gguf"));
    expect_same_weights(model, back);
    EXPECT_EQ(back.config.num_layers, model.config.num_layers);
    EXPECT_EQ(back.config.num_kv_heads, model.config.num_kv_heads);
    EXPECT_EQ(back.config.head_dim, model.config.head_dim);
    EXPECT_EQ(back.config.tied_embeddings, model.config.tied_embeddings);
    EXPECT_NEAR(back.config.rms_norm_eps, model.config.rms_norm_eps, 1e-12);
    const std::string sample = "Layer 3 is fragile.\n";
    EXPECT_EQ(make_tokenizer(back.vocabulary())->encode(sample),
              make_tokenizer(model.vocabulary())->encode(sample));
  }
}

TEST_F(GgufExportTest, LlamaQueriesAndKeysAreInterleaved) {
  const Model model = make_model("llama", {{"attention_bias", true}});
  export_gguf(model, uniform_plan(model, "F32", "F32"), target("out.gguf"));
  const GgufFile file(target("out.gguf"));
  const auto read = [&](const char* name) { return model.checkpoint->read(model.layer_tensor(1, name)); };
  EXPECT_EQ(f32_values(file, "blk.1.attn_q.weight"),
            interleave_halves(read("self_attn.q_proj.weight"), 4, 64));
  EXPECT_EQ(f32_values(file, "blk.1.attn_k.weight"),
            interleave_halves(read("self_attn.k_proj.weight"), 2, 64));
  EXPECT_EQ(f32_values(file, "blk.1.attn_q.bias"), interleave_halves(read("self_attn.q_proj.bias"), 4, 1));
  EXPECT_EQ(f32_values(file, "blk.1.attn_k.bias"), interleave_halves(read("self_attn.k_proj.bias"), 2, 1));
  EXPECT_EQ(f32_values(file, "blk.1.attn_v.weight"), read("self_attn.v_proj.weight"));
}

TEST_F(GgufExportTest, QwenRowsKeepTheirOrder) {
  const Model model = make_model("qwen2", {{"head_dim", 16}});
  export_gguf(model, uniform_plan(model, "F32", "F32"), target("out.gguf"));
  const GgufFile file(target("out.gguf"));
  for (const auto& [gguf, hf] : {std::pair{"blk.0.attn_q.weight", "self_attn.q_proj.weight"},
                                 std::pair{"blk.0.attn_k.bias", "self_attn.k_proj.bias"}})
    EXPECT_EQ(f32_values(file, gguf), model.checkpoint->read(model.layer_tensor(0, hf)));
}

// q of 70,400 rows does not fit one chunk, nor does the embedding.
TEST_F(GgufExportTest, LargeMatricesGoInPiecesOfWholeHeads) {
  const Model model = make_model("llama", {{"num_hidden_layers", 1},
                                           {"num_attention_heads", 2200},
                                           {"vocab_size", 70000},
                                           {"intermediate_size", 64}});
  export_gguf(model, uniform_plan(model, "F32", "F32"), target("out.gguf"));
  expect_same_weights(model, open_model(target("out.gguf")));
}

TEST_F(GgufExportTest, MetadataSaysWhatTheConfigSays) {
  const Model model = make_model("mistral", {{"sliding_window", 64},
                                             {"tie_word_embeddings", false},
                                             {"rope_scaling", {{"type", "linear"}, {"factor", 4.0}}}});
  ExportPlan plan = uniform_plan(model, "Q8_0", "Q4_0");
  plan.schemes[model.modules[3].tensor] = parse_scheme("Q5_1");
  export_gguf(model, plan, target("out.gguf"));
  const GgufFile file(target("out.gguf"));
  EXPECT_EQ(text(file, "general.architecture"), "llama");
  EXPECT_EQ(text(file, "general.name"), "model");
  EXPECT_EQ(integer(file, "general.quantization_version"), 2u);
  EXPECT_EQ(integer(file, "general.file_type"), 7u);  // mostly Q8_0
  EXPECT_EQ(integer(file, "llama.context_length"), 512u);
  EXPECT_EQ(integer(file, "llama.embedding_length"), 64u);
  EXPECT_EQ(integer(file, "llama.block_count"), 2u);
  EXPECT_EQ(integer(file, "llama.feed_forward_length"), 96u);
  EXPECT_EQ(integer(file, "llama.vocab_size"), 320u);
  EXPECT_EQ(integer(file, "llama.attention.head_count"), 4u);
  EXPECT_EQ(integer(file, "llama.attention.head_count_kv"), 2u);
  EXPECT_EQ(integer(file, "llama.attention.key_length"), 32u);
  EXPECT_EQ(integer(file, "llama.attention.value_length"), 32u);
  EXPECT_EQ(integer(file, "llama.attention.sliding_window"), 64u);
  EXPECT_EQ(integer(file, "llama.rope.dimension_count"), 32u);
  EXPECT_FLOAT_EQ(static_cast<float>(real(file, "llama.rope.freq_base")), 10000.0f);
  EXPECT_FLOAT_EQ(static_cast<float>(real(file, "llama.attention.layer_norm_rms_epsilon")), 1e-5f);
  EXPECT_EQ(text(file, "llama.rope.scaling.type"), "linear");
  EXPECT_FLOAT_EQ(static_cast<float>(real(file, "llama.rope.scaling.factor")), 4.0f);
  EXPECT_EQ(text(file, "tokenizer.ggml.model"), "gpt2");
  // One token a row of the embedding, though the tokenizer has 258.
  EXPECT_EQ(std::get<std::vector<std::string>>(file.find("tokenizer.ggml.tokens")->value).size(), 320u);

  EXPECT_EQ(type_in(file, "blk.0.attn_q.weight"), GgufType::Q8_0);
  EXPECT_EQ(type_in(file, "blk.0.attn_output.weight"), GgufType::Q5_1);
  EXPECT_EQ(type_in(file, "token_embd.weight"), GgufType::Q4_0);
  EXPECT_EQ(type_in(file, "output.weight"), GgufType::Q4_0);
  EXPECT_EQ(type_in(file, "blk.0.attn_norm.weight"), GgufType::F32);
  EXPECT_EQ(file.find_tensor("blk.0.attn_q.weight")->shape, (std::vector<int64_t>{128, 64}));
}

TEST_F(GgufExportTest, ModulesWithoutASchemeKeepTheirType) {
  for (const auto& [stored, expected] :
       {std::pair{DType::F16, GgufType::F16}, std::pair{DType::BF16, GgufType::BF16}}) {
    const Model model = make_model("llama", Json::object(), stored);
    ExportPlan plan = uniform_plan(model, "F32", "F32");
    plan.schemes.clear();
    export_gguf(model, plan, target("out.gguf"));
    EXPECT_EQ(type_in(GgufFile(target("out.gguf")), "blk.1.ffn_down.weight"), expected);
    expect_same_weights(model, open_model(target("out.gguf")));
  }
}

TEST_F(GgufExportTest, ATiedHeadIsAbsent) {
  const Model model = make_model("llama");
  export_gguf(model, uniform_plan(model, "F16", "F16"), target("out.gguf"));
  EXPECT_EQ(GgufFile(target("out.gguf")).find_tensor("output.weight"), nullptr);
}

TEST_F(GgufExportTest, RowsThatBlocksDoNotDivideFallBack) {
  const Model model = make_model("llama", {{"hidden_size", 96}, {"intermediate_size", 40}});
  const std::vector<std::pair<std::string, GgufType>> fallbacks = {
      {"Q2_K", GgufType::IQ4_NL}, {"Q3_K", GgufType::IQ4_NL}, {"Q4_K", GgufType::Q5_0},
      {"Q5_K", GgufType::Q5_1},   {"Q6_K", GgufType::Q8_0},   {"Q8_0", GgufType::Q8_0}};
  for (const auto& [asked, stored] : fallbacks) {
    const ExportPlan plan = uniform_plan(model, asked, "Q6_K");
    const ExportResult result = export_gguf(model, plan, target("out.gguf"));
    const GgufFile file(target("out.gguf"));
    EXPECT_EQ(type_in(file, "blk.0.attn_v.weight"), stored) << asked;           // rows of 96
    EXPECT_EQ(type_in(file, "blk.0.ffn_down.weight"), GgufType::F16) << asked;  // rows of 40
    EXPECT_EQ(type_in(file, "token_embd.weight"), GgufType::Q8_0);
    EXPECT_EQ(gguf_file_size(model, plan), fs::file_size(target("out.gguf")));
    uint64_t bits = 0;
    for (const auto& [tensor, scheme] : plan.schemes) {
      const TensorInfo& info = model.checkpoint->info(tensor);
      bits += scheme.stored_bits(info.rows(), info.cols());
    }
    EXPECT_EQ(result.weight_bits, bits);
  }
}

TEST_F(GgufExportTest, SquaredErrorIsThatOfTheFile) {
  const Model model = make_model("llama");
  const ExportResult result = export_gguf(model, uniform_plan(model, "Q4_0", "Q8_0"), target("out.gguf"));
  const Model back = open_model(target("out.gguf"));
  double expected = 0;
  for (const Module& module : model.modules) {
    const std::vector<float> a = model.checkpoint->read(module.tensor);
    const std::vector<float> b = back.checkpoint->read(module.tensor);
    for (size_t i = 0; i < a.size(); ++i) expected += std::pow(static_cast<double>(a[i]) - b[i], 2);
  }
  EXPECT_GT(expected, 0);
  EXPECT_NEAR(result.squared_error, expected, 1e-9 * expected);
}

TEST_F(GgufExportTest, Llama3ScalingBecomesDivisorsOfTheFrequencies) {
  const Model model = make_model("llama", {{"rope_scaling",
                                            {{"rope_type", "llama3"},
                                             {"factor", 8.0},
                                             {"low_freq_factor", 1.0},
                                             {"high_freq_factor", 4.0},
                                             {"original_max_position_embeddings", 8192}}},
                                           {"rope_theta", 500000.0}});
  export_gguf(model, uniform_plan(model, "F32", "F32"), target("out.gguf"));
  const std::vector<float> divisors = f32_values(GgufFile(target("out.gguf")), "rope_freqs.weight");
  ASSERT_EQ(divisors.size(), 16u);
  for (size_t i = 0; i < divisors.size(); ++i) {
    // transformers' _compute_llama3_parameters.
    const double wavelength = 2 * M_PI * std::pow(500000.0, static_cast<double>(2 * i) / 32);
    const double smooth = (8192 / wavelength - 1) / (4 - 1);
    const double expected = wavelength < 8192.0 / 4   ? 1
                            : wavelength > 8192.0 / 1 ? 8
                                                      : 1 / ((1 - smooth) / 8 + smooth);
    EXPECT_NEAR(divisors[i], expected, 1e-5 * expected) << i;
  }
}

TEST_F(GgufExportTest, AnExistingGgufKeepsItsKeysAndUntouchedBlocks) {
  const Model model = make_model("llama");
  export_gguf(model, uniform_plan(model, "Q8_0", "Q8_0"), target("first.gguf"));
  std::vector<GgufKey> keys = GgufFile(target("first.gguf")).keys();
  keys.push_back({"general.author", gguf_string("somebody")});
  keys.push_back({"quantize.imatrix.file", gguf_string("old.dat")});
  {
    const GgufFile first(target("first.gguf"));
    GgufWriter writer(target("input.gguf"), keys, first.tensors());
    for (const GgufTensor& tensor : first.tensors()) writer.write(first.data(tensor), tensor.bytes());
    writer.commit();
  }
  const Model input = open_model(target("input.gguf"));
  ExportPlan plan = uniform_plan(input, "Q4_0", "Q8_0");
  plan.schemes.erase(input.module(1, Role::K).tensor);
  plan.schemes[input.module(1, Role::V).tensor] = parse_scheme("Q8_0");
  export_gguf(input, plan, target("second.gguf"));
  EXPECT_EQ(gguf_file_size(input, plan), fs::file_size(target("second.gguf")));

  const GgufFile first(target("input.gguf")), second(target("second.gguf"));
  EXPECT_EQ(text(second, "general.author"), "somebody");
  EXPECT_EQ(second.find("quantize.imatrix.file"), nullptr);
  EXPECT_EQ(integer(second, "general.file_type"), 2u);
  EXPECT_EQ(type_in(second, "blk.0.attn_q.weight"), GgufType::Q4_0);
  for (const char* name : {"blk.1.attn_k.weight", "blk.1.attn_v.weight", "token_embd.weight"}) {
    const GgufTensor* before = first.find_tensor(name);
    const GgufTensor* after = second.find_tensor(name);
    ASSERT_EQ(after->type, before->type) << name;
    EXPECT_TRUE(std::equal(first.data(*before), first.data(*before) + before->bytes(), second.data(*after)))
        << name;
  }
  // The re-encoded q holds the same rows in the same order, within the coarser type's error.
  const std::vector<float> a = input.checkpoint->read(input.module(0, Role::Q).tensor);
  const std::vector<float> b =
      open_model(target("second.gguf")).checkpoint->read(input.module(0, Role::Q).tensor);
  double error = 0, power = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    error += std::pow(a[i] - b[i], 2);
    power += std::pow(a[i], 2);
  }
  EXPECT_LT(error, 0.02 * power);
}

}  // namespace
}  // namespace strata
