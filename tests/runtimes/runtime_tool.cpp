// What the runtime tests need from strata, without its command line.
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>
#include <vector>

#include "strata/core/error.h"
#include "strata/core/file.h"
#include "strata/core/progress.h"
#include "strata/evaluation/evaluate.h"
#include "strata/export/formats.h"
#include "strata/gguf/codec.h"
#include "strata/gguf/file.h"
#include "tests/runtimes/checked_architectures.h"
#include "tests/support/architecture_models.h"
#include "tests/support/random_model.h"

namespace strata {
namespace {

namespace fs = std::filesystem;

void write_values(const fs::path& path, const void* values, size_t bytes) {
  OutputFile file(path);
  file.write(values, bytes);
  file.commit();
}

// Every GGUF type in turn over the modules, the coarsest ones rarely.
ExportPlan mixed_plan(const Model& model) {
  const std::vector<std::string> types = {"Q4_K", "Q5_K", "Q6_K", "Q3_K", "Q8_0", "Q4_0", "Q5_0",  "Q5_1",
                                          "Q4_1", "BF16", "F32",  "Q6_K", "F16",  "Q2_K", "IQ4_NL"};
  ExportPlan plan;
  for (size_t i = 0; i < model.modules.size(); ++i)
    plan.schemes[model.modules[i].tensor] = parse_scheme(types[i % types.size()]);
  plan.embedding = parse_scheme("Q6_K");
  plan.head = parse_scheme("Q6_K");
  return plan;
}

void export_packed_directories(const Model& model, const fs::path& files);

// FILES/mixed.gguf and FILES/mixed: the same plan as GGUF and dequantized; FILES/FORMAT: a
// directory in each of the packed formats.
void export_mixed(const fs::path& model_path, const fs::path& files) {
  fs::create_directories(files);
  const Model model = open_model(model_path);
  const ExportPlan plan = mixed_plan(model);
  const ExportResult gguf = export_gguf(model, plan, files / "mixed.gguf");
  const ExportResult hf = export_hf(model, plan, files / "mixed");
  fmt::print("mixed.gguf: {} bytes, squared error {:.6g}; mixed: {} bytes, squared error {:.6g}\n",
             gguf.file_bytes, gguf.squared_error, hf.file_bytes, hf.squared_error);
  export_packed_directories(model, files);
}

void write_tokens(const fs::path& model, const fs::path& text, const fs::path& target) {
  const std::vector<int32_t> ids = tokenize_file(open_model(model), text);
  write_values(target, ids.data(), ids.size() * sizeof(int32_t));
}

void print_perplexity(const fs::path& path, const fs::path& text, int64_t windows) {
  const Model model = open_model(path);
  Decoder decoder(model, DecoderOptions{});
  EvaluationOptions options;
  options.max_tokens = windows * options.window;
  fmt::print("{:.6f}\n", evaluate(decoder, tokenize_file(model, text), options).ppl);
}

// Schemes in turn over the layers, so that those that runtimes fuse agree.
void export_packed_directories(const Model& model, const fs::path& files) {
  const std::map<std::string, std::vector<std::string>> schemes = {
      {"compressed-tensors",
       {"w4g128s", "w3g64z", "w8rows", "w2g32z", "w5g32s", "w6g64z", "w7g128z", "w4rowz"}},
      {"gptq", {"w4g128z", "w3g64s", "w8g32z", "w2g32z", "w4rows"}},
      {"gptq_v2", {"w4g128z", "w3g64s", "w8g32z", "w2g32z", "w4rows"}},
      {"mlx", {"w4g128", "w3g64", "w8g32", "w2g32", "w5g64", "w6g128"}}};
  for (const auto& [format, menu] : schemes) {
    ExportPlan plan;
    for (const Module& module : model.modules)
      plan.schemes[module.tensor] = parse_scheme(menu[static_cast<size_t>(module.layer) % menu.size()]);
    plan.embedding = plan.head = parse_scheme(format == "mlx" ? "w8g64" : "F32");
    const ExportResult result = format_for(files / format, format).write(model, plan, files / format);
    fmt::print("{}: {} bytes, squared error {:.6g}\n", format, result.file_bytes, result.squared_error);
  }
}

// All tensors of a directory as float, one after the other; TARGET.names says what they are.
void write_decoded_directory(const fs::path& path, const fs::path& target) {
  const Model model = open_model(path);
  OutputFile output(target);
  std::string names;
  for (const TensorInfo& tensor : model.checkpoint->tensors()) {
    const std::vector<float> values = model.checkpoint->read(tensor.name);
    output.write(values.data(), values.size() * sizeof(float));
    names += fmt::format("{} {}\n", tensor.name.substr(0, tensor.name.rfind('.')), values.size());
  }
  output.commit();
  write_text(target.string() + ".names", names);
}

// All tensors of a GGUF file as float, one after the other.
void write_decoded(const fs::path& path, const fs::path& target) {
  if (fs::is_directory(path)) return write_decoded_directory(path, target);
  const GgufFile file(path);
  OutputFile output(target);
  for (const GgufTensor& tensor : file.tensors()) {
    const int64_t cols = tensor.shape.back();
    int64_t rows = 1;
    for (size_t i = 0; i + 1 < tensor.shape.size(); ++i) rows *= tensor.shape[i];
    std::vector<float> values(static_cast<size_t>(rows * cols));
    decode_gguf(tensor.type, file.data(tensor), rows * cols, values.data());
    output.write(values.data(), values.size() * sizeof(float));
  }
  output.commit();
}

// For the first windows of 512 tokens of a text: the tokens, and for all but the last of each window the most
// probable next token (int32) and the loss of the true one (float).
void write_predictions(const fs::path& path, const fs::path& text, int64_t windows, const fs::path& target,
                       RuntimeRounding rounding) {
  constexpr int64_t kWindow = 512;
  const Model model = open_model(path);
  DecoderOptions options;
  options.rounding = rounding;
  Decoder decoder(model, options);
  std::vector<int32_t> ids = tokenize_file(model, text);
  if (static_cast<int64_t>(ids.size()) < windows * kWindow) fail("{} is too short", text.string());
  ids.resize(static_cast<size_t>(windows * kWindow));
  write_values(target.string() + ".tokens", ids.data(), ids.size() * sizeof(int32_t));
  OutputFile output(target);
  for (int64_t w = 0; w < windows; ++w) {
    const at::Tensor window = at::from_blob(ids.data() + w * kWindow, {1, kWindow}, at::kInt).to(at::kLong);
    const at::Tensor logits = decoder.forward(window)[0].narrow(0, 0, kWindow - 1);
    const at::Tensor best = logits.argmax(-1).to(at::kInt).contiguous();
    const at::Tensor next = window[0].narrow(0, 1, kWindow - 1).unsqueeze(1);
    const at::Tensor loss = (logits.logsumexp(-1, true) - logits.gather(1, next)).to(at::kFloat).contiguous();
    output.write(best.data_ptr<int32_t>(), best.nbytes());
    output.write(loss.data_ptr<float>(), loss.nbytes());
  }
  output.commit();
}

struct Variant {
  std::string name;
  Json changes;  // to small_config(architecture)
};

std::vector<Variant> variants() {
  const Json llama3 = {{"rope_type", "llama3"},
                       {"factor", 8.0},
                       {"low_freq_factor", 1.0},
                       {"high_freq_factor", 4.0},
                       {"original_max_position_embeddings", 64}};
  return {
      {"llama", {{"model_type", "llama"}, {"tie_word_embeddings", false}}},
      {"llama-biases", {{"model_type", "llama"}, {"attention_bias", true}, {"mlp_bias", true}}},
      {"llama-linear", {{"model_type", "llama"}, {"rope_scaling", {{"type", "linear"}, {"factor", 4.0}}}}},
      {"llama-llama3", {{"model_type", "llama"}, {"rope_scaling", llama3}}},
      {"mistral", {{"model_type", "mistral"}, {"sliding_window", 4096}, {"tie_word_embeddings", false}}},
      {"qwen2", {{"model_type", "qwen2"}, {"tie_word_embeddings", false}, {"head_dim", 16}}},
      {"qwen3", {{"model_type", "qwen3"}}},
  };
}

// A model as FILES/NAME.gguf with all its matrices in this type, and the logits that strata computes with
// that file for the tokens 1, 2, ... 96 as FILES/NAME.f32.
void export_with_logits(const fs::path& directory, const fs::path& files, const std::string& name,
                        const std::string& type) {
  const Model model = open_model(directory);
  ExportPlan plan;
  plan.embedding = plan.head = parse_scheme(type);
  if (type != "F32")
    for (const Module& module : model.modules) plan.schemes[module.tensor] = parse_scheme(type);
  export_gguf(model, plan, files / (name + ".gguf"));
  const Model written = open_model(files / (name + ".gguf"));
  DecoderOptions options;
  // Experts are chosen: what is near a boundary falls on its other side where inputs are rounded.
  if (written.config.experts.count > 0) options.rounding = RuntimeRounding::LlamaCpp;
  Decoder decoder(written, options);
  const at::Tensor ids = at::arange(1, 97, at::kLong).unsqueeze(0);
  const at::Tensor logits = decoder.forward(ids).contiguous();
  write_values(files / (name + ".f32"), logits.data_ptr<float>(), logits.nbytes());
  fmt::print("{}\n", name);
}

// Small random models of every architecture: those made here, and those of tests/data/architectures but for
// those that llama.cpp's graph has no place for.
void export_architectures(const fs::path& files) {
  for (const std::string& name : architecture_models()) {
    const fs::path directory = architecture_model(name).directory;
    const ModelConfig config = open_model(directory).config;
    if (!llama_cpp_agrees_on(config)) continue;
    std::vector<std::string> types = {"F32", "Q8_0"};
    if (name == "gpt-oss-mxfp4") types.push_back("MXFP4");
    for (const std::string& type : types)
      export_with_logits(directory, files, "transformers-" + name + "-" + type, type);
  }
  for (const Variant& variant : variants()) {
    Json config = small_config(variant.changes["model_type"]);
    config.update(variant.changes);
    const fs::path directory = files / variant.name;
    write_random_model(directory, config, DType::F32);
    export_with_logits(directory, files, variant.name, "F32");
  }
}

// Every model of tests/data/architectures that mlx-lm loads as an MLX directory FILES/mlx-NAME, and what
// strata computes from it.
void export_mlx_architectures(const fs::path& files) {
  for (const std::string& name : architecture_models()) {
    if (!mlx_agrees_on(name)) continue;
    const Model model = open_model(architecture_model(name).directory);
    ExportPlan plan;
    for (const Module& module : model.modules) plan.schemes[module.tensor] = parse_scheme("w8g32");
    plan.embedding = plan.head = parse_scheme("w8g32");
    const fs::path directory = files / ("mlx-" + name);
    fs::remove_all(directory);
    format_for(directory, "mlx").write(model, plan, directory);
    const Model written = open_model(directory);
    const at::Tensor ids = at::arange(1, 97, at::kLong).unsqueeze(0);
    const at::Tensor logits = Decoder(written, {}).forward(ids).contiguous();
    write_values(files / ("mlx-" + name + ".f32"), logits.data_ptr<float>(), logits.nbytes());
    fmt::print("{}\n", name);
  }
}

// The tokenizers of tests/data/tokenizer that llama.cpp knows in full, each in the GGUF of a random model:
// FILES/tokenizer-NAME.gguf. (It knows neither the flags of added tokens nor normalization.)
void export_tokenizers(const fs::path& files) {
  const fs::path fixtures = STRATA_SOURCE_DIR "/tests/data/tokenizer";
  for (const std::string name : {"gpt4o", "tekken", "deepseek_coder", "deepseek_v3", "deepseek_llm",
                                 "seed_coder", "sentencepiece", "sentencepiece_json", "unigram"}) {
    const fs::path directory = files / ("tokenizer-" + name);
    Json config = small_config("llama");
    config["vocab_size"] = read_vocabulary(fixtures / name).tokens.size();
    config["eos_token_id"] = 0;
    write_random_model(directory, config, DType::F16);
    fs::remove(directory / "tokenizer.json");
    for (const char* file : {"tokenizer.json", "tokenizer.model", "tokenizer_config.json"})
      if (fs::exists(fixtures / name / file))
        fs::copy_file(fixtures / name / file, directory / file, fs::copy_options::overwrite_existing);
    export_gguf(open_model(directory), mixed_plan(open_model(directory)),
                files / ("tokenizer-" + name + ".gguf"));
    fs::remove_all(directory);
    fmt::print("{}\n", name);
  }
}

int run(const std::vector<std::string>& arguments) {
  set_progress_style(ProgressStyle::Quiet);
  const std::string& what = arguments.at(1);
  if (what == "export")
    export_mixed(arguments.at(2), arguments.at(3));
  else if (what == "tokens")
    write_tokens(arguments.at(2), arguments.at(3), arguments.at(4));
  else if (what == "perplexity")
    print_perplexity(arguments.at(2), arguments.at(3), std::stoll(arguments.at(4)));
  else if (what == "predictions")
    write_predictions(arguments.at(2), arguments.at(3), std::stoll(arguments.at(4)), arguments.at(5),
                      parse_runtime_rounding(arguments.size() > 6 ? arguments[6] : "none"));
  else if (what == "decode")
    write_decoded(arguments.at(2), arguments.at(3));
  else if (what == "architectures")
    export_architectures(arguments.at(2));
  else if (what == "tokenizers")
    export_tokenizers(arguments.at(2));
  else if (what == "mlx-architectures")
    export_mlx_architectures(arguments.at(2));
  else
    fail("unknown step '{}'", what);
  return 0;
}

}  // namespace
}  // namespace strata

int main(int argc, char** argv) {
  try {
    return strata::run({argv, argv + argc});
  } catch (const std::exception& error) {
    fmt::print(stderr, "{}\n", error.what());
    return 1;
  }
}
