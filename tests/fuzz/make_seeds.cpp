// Writes the files that fuzzing starts from: make_seeds DIRECTORY gives DIRECTORY/TARGET/*.
#include <fmt/format.h>

#include <filesystem>
#include <string>
#include <vector>

#include "strata/allocation/plan.h"
#include "strata/allocation/scores.h"
#include "strata/checkpoint/safetensors_writer.h"
#include "strata/core/file.h"
#include "strata/tokenizer/gguf_vocabulary.h"
#include "tests/support/files.h"
#include "tests/support/npy.h"
#include "tests/support/small_onnx.h"
#include "tests/support/tiny_gguf.h"

namespace {
namespace fs = std::filesystem;
using namespace strata;

const fs::path kData = STRATA_SOURCE_DIR "/tests/data";

// The file of a seed; its folder is made.
fs::path seed(const fs::path& target, const std::string& name) {
  fs::create_directories(target);
  return target / name;
}

void write_checkpoints(const fs::path& seeds) {
  TinyModel model;
  model.hidden = 8, model.intermediate = 8, model.layers = 1, model.head_dim = 2, model.vocab = 4;
  for (const DType type : {DType::F32, DType::BF16})
    write_safetensors(seed(seeds / "safetensors", std::string(name_of(type))), random_weights(model), type);
  write_file(
      seed(seeds / "index", "two"),
      R"({"metadata": {"total_size": 16}, "weight_map": {"a": "a.safetensors", "b": "b.safetensors"}})");
  for (const auto& entry : fs::directory_iterator(kData / "architectures"))
    if (entry.is_directory())
      fs::copy_file(entry.path() / "config.json", seed(seeds / "config", entry.path().filename()),
                    fs::copy_options::overwrite_existing);
}

struct PackedPart {
  std::string name;
  std::vector<int64_t> shape;
  DType type;
};

void write_packed(const fs::path& seeds, const std::string& name, const std::vector<PackedPart>& parts,
                  const std::string& config) {
  TemporaryDirectory directory;
  std::vector<PlannedTensor> planned;
  for (const PackedPart& part : parts) planned.push_back({part.name, part.shape, part.type});
  SafetensorsWriter writer(directory.path(), planned);
  for (const PackedPart& part : parts) {
    size_t bytes = size_of(part.type);
    for (const int64_t size : part.shape) bytes *= static_cast<size_t>(size);
    const std::string content(bytes, '\0');
    writer.write_bytes(reinterpret_cast<const std::byte*>(content.data()), content.size());
  }
  writer.finish();
  write_file(seed(seeds / "packed", name), config + '\0' + read_text(directory / "model.safetensors"));
}

void write_packed_directories(const fs::path& seeds) {
  write_packed(seeds, "compressed-tensors",
               {{"m.weight_packed", {8, 8}, DType::I32},
                {"m.weight_scale", {8, 2}, DType::F16},
                {"m.weight_zero_point", {1, 2}, DType::I32}},
               R"({"quantization_config": {"quant_method": "compressed-tensors", "format": "pack-quantized",
                   "config_groups": {"group_0": {"targets": ["Linear"], "weights": {"num_bits": 4,
                   "group_size": 32, "strategy": "group", "symmetric": false, "type": "int"}}}}})");
  write_packed(
      seeds, "gptq",
      {{"m.qweight", {8, 8}, DType::I32},
       {"m.qzeros", {2, 1}, DType::I32},
       {"m.scales", {2, 8}, DType::F16},
       {"m.g_idx", {64}, DType::I32}},
      R"({"quantization_config": {"quant_method": "gptq", "bits": 4, "group_size": 32, "sym": false}})");
  write_packed(
      seeds, "mlx",
      {{"m.weight", {8, 8}, DType::U32}, {"m.scales", {8, 2}, DType::F16}, {"m.biases", {8, 2}, DType::F16}},
      R"({"quantization": {"bits": 4, "group_size": 32}})");
  write_packed(seeds, "strata",
               {{"m.codes", {30, 4}, DType::U32},
                {"m.scales", {30, 1}, DType::F16},
                {"m.zeros", {30, 1}, DType::F16},
                {"m.high_codes", {2, 6}, DType::U32},
                {"m.high_scales", {2, 1}, DType::F16},
                {"m.high_zeros", {2, 1}, DType::F16},
                {"m.high_rows", {4}, DType::U8}},
               R"({"quantization_config": {"quant_method": "strata", "version": 1,
                   "modules": {"m": {"scheme": "w2row+w3@0.0625", "shape": [32, 64]}}}})");
}

void write_ggufs(const fs::path& seeds) {
  for (const char* architecture : {"llama", "qwen2", "qwen3"}) {
    TinyModel model;
    model.architecture = architecture;
    model.intermediate = 64, model.layers = 1, model.vocab = 4;
    for (const char* target : {"gguf", "gguf_audit", "gguf_model"})
      write_tiny_gguf(seed(seeds / target, architecture), model, random_weights(model), tiny_gguf_keys(model),
                      GgufType::Q4_0);
  }
  for (const char* tokenizer : {"prefix", "sentencepiece"}) {
    Vocabulary vocabulary = read_vocabulary(kData / "tokenizer" / tokenizer);
    keep_first_tokens(vocabulary, 264);
    vocabulary.merges.resize(std::min<size_t>(vocabulary.merges.size(), 2));
    if (vocabulary.model == Vocabulary::Model::Bpe) vocabulary.pre_tokenizer = "gpt-2";
    GgufWriter(seed(seeds / "gguf", tokenizer), vocabulary_keys(vocabulary), {}).commit();
  }
  std::vector<GgufTensor> tensors;
  for (const GgufTypeTraits& traits : gguf_types())
    tensors.push_back({std::string(traits.name), {1, 256}, traits.type});
  GgufWriter blocks(seed(seeds / "gguf", "blocks"), {}, tensors);
  for (const GgufTensor& tensor : tensors) {
    const std::string data(tensor.bytes(), '\1');
    blocks.write(reinterpret_cast<const std::byte*>(data.data()), data.size());
  }
  blocks.commit();

  const TinyWeights weights = random_weights({});
  std::vector<GgufTensor> sums;
  for (const std::string& name : weights.names) {
    if (name.find("proj") == std::string::npos) continue;
    const std::string matrix = tiny_gguf_name(name).substr(0, tiny_gguf_name(name).rfind('.')) + ".weight";
    sums.push_back({matrix + ".in_sum2", {weights.shapes.at(name)[1]}, GgufType::F32});
    sums.push_back({matrix + ".counts", {1}, GgufType::F32});
  }
  GgufWriter imatrix(seed(seeds / "imatrix", "tiny"),
                     {{"general.type", gguf_string("imatrix")},
                      {"imatrix.datasets", gguf_strings({"text.txt"})},
                      {"imatrix.chunk_count", gguf_u32(1)},
                      {"imatrix.chunk_size", gguf_u32(512)}},
                     sums);
  for (const GgufTensor& tensor : sums) {
    const std::vector<float> ones(tensor.bytes() / sizeof(float), 1);
    imatrix.write(reinterpret_cast<const std::byte*>(ones.data()), tensor.bytes());
  }
  imatrix.commit();
}

void write_tokenizers(const fs::path& seeds) {
  for (const char* name : {"gpt2", "llama3", "qwen2", "prefix", "tekken", "gpt4o", "deepseek_llm"})
    fs::copy_file(kData / "tokenizer" / name / "tokenizer.json", seed(seeds / "tokenizer_json", name),
                  fs::copy_options::overwrite_existing);
  for (const char* name : {"sentencepiece_json", "unigram_bytes"})
    fs::copy_file(kData / "tokenizer" / name / "tokenizer.json", seed(seeds / "tokenizer_json", name),
                  fs::copy_options::overwrite_existing);
  fs::copy_file(kData / "tokenizer/sentencepiece/tokenizer.model", seed(seeds / "tokenizer_model", "bpe"),
                fs::copy_options::overwrite_existing);
}

void write_plans(const fs::path& seeds) {
  Plan plan;
  plan.model = "m", plan.method = "uniform", plan.allocator = "exact", plan.budget = "4 bpw", plan.layers = 1;
  for (const char* module : {"self_attn.q_proj", "mlp.down_proj"})
    plan.assignments.push_back(
        {fmt::format("model.layers.0.{}.weight", module), 64, 256, parse_scheme("w4g64")});
  plan.sum_up();
  write_plan(seed(seeds / "plan", "affine"), plan);
  for (Assignment& assignment : plan.assignments) assignment.scheme = parse_scheme("Q4_K");
  plan.sum_up();
  write_plan(seed(seeds / "plan", "gguf"), plan);
  write_file(seed(seeds / "recipe", "two"), "^blk\\.[0-9]+\\.attn_(q|k)=q4_k\ntoken_embd=q6_K\n^blk=q3_k\n");

  Scores scores;
  scores.model = "m", scores.method = "zd", scores.per_module = true;
  scores.scores = {{0, "self_attn.q_proj", 0.5, 16384}, {0, "mlp.down_proj", 1.5, 16384}};
  scores.modules = {{0, "self_attn.q_proj", plan.assignments[0].tensor, 64, 256},
                    {0, "mlp.down_proj", plan.assignments[1].tensor, 64, 256}};
  scores.boundaries = {{-1, "embedding", "model.embed_tokens.weight", 64, 256}};
  for (const Assignment& assignment : plan.assignments)
    for (const char* scheme : {"Q2_K", "Q4_K"})
      scores.costs.push_back({assignment.tensor, 64, 256, scheme, 1});
  scores.pair_costs = {{plan.assignments[0].tensor, "Q2_K", plan.assignments[1].tensor, "Q2_K", -0.5}};
  write_scores(seed(seeds / "scores", "all"), scores);
  fs::copy_file(kData / "boost/llama-2-7b-kurtosis.scores.json", seed(seeds / "scores", "kurtosis"),
                fs::copy_options::overwrite_existing);
}

void write_arrays(const fs::path& seeds) {
  write_npy(seed(seeds / "token_ids", "int64"), "<i8", "2, 3",
            bytes_of(std::vector<int64_t>{1, 2, 3, 4, 5, 6}));
  write_npy(seed(seeds / "token_ids", "uint16"), "<u2", "3,", bytes_of(std::vector<uint16_t>{1, 2, 3}));
  const std::string header = R"({"input_ids":{"dtype":"I32","shape":[2,2],"data_offsets":[0,16]}})";
  write_file(seed(seeds / "token_ids", "safetensors"),
             bytes_of<uint64_t>(header.size()) + header + std::string(16, '\1'));
  write_npy(seed(seeds / "image", "float32"), "<f4", "1, 1, 2, 2", bytes_of(std::vector<float>{0, 1, 2, 3}));
  for (const auto& entry : fs::directory_iterator(kData / "images"))
    if (entry.path().extension() != ".py")
      fs::copy_file(entry.path(), seed(seeds / "image", entry.path().filename()),
                    fs::copy_options::overwrite_existing);
  vision::write_onnx(seed(seeds / "onnx", "small"), vision::small_model());

  std::string base = "_logits_" + bytes_of<int32_t>(4) + bytes_of<int32_t>(3) + bytes_of<int32_t>(1);
  for (int32_t token : {0, 1, 2, 1}) base += bytes_of(token);
  for (int row = 0; row < 2; ++row)
    base += bytes_of(0.5f) + bytes_of(-2.0f) + bytes_of(std::vector<uint16_t>{1, 2, 3, 0});
  write_file(seed(seeds / "kl_base", "tiny"), base);
  write_file(seed(seeds / "result_cache", "two"),
             "{\"format\":\"strata.cache\",\"identity\":{}}\n{\"key\":\"layer 0\",\"value\":[1,2]}\n");
}

}  // namespace

int main(int, char** arguments) {
  const fs::path seeds = arguments[1];
  write_checkpoints(seeds);
  write_packed_directories(seeds);
  write_ggufs(seeds);
  write_tokenizers(seeds);
  write_plans(seeds);
  write_arrays(seeds);
  return 0;
}
