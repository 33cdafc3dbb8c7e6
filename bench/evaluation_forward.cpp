#include <benchmark/benchmark.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "strata/checkpoint/safetensors_writer.h"
#include "strata/core/json.h"
#include "strata/core/progress.h"
#include "strata/core/random.h"
#include "strata/core/stopwatch.h"
#include "strata/core/threads.h"
#include "strata/evaluation/evaluate.h"
#include "strata/model/config_json.h"
#include "strata/model/layout.h"
#include "tests/support/architecture_models.h"
#include "tests/support/temporary_directory.h"

// Perplexity of the bundled model over 32 windows of 512 tokens: tokens a second with a number of threads.
// Of a random model of every architecture, all of one size (about 93 million weights), over two such windows:
// tokens a second, billion operations a second of its matrices and its attention, which is what compares
// models whose matrices differ, and that rate over llama's, each the median of pairs of runs.
// And of one with the sizes of Qwen2.5-0.5B.

namespace strata {
namespace {

void perplexity(benchmark::State& state) {
  set_progress_style(ProgressStyle::Quiet);
  set_thread_count(static_cast<int>(state.range(0)));
  const Model model = open_model(STRATA_SOURCE_DIR "/models/tiny-llama");
  const auto ids = tokenize_file(model, STRATA_SOURCE_DIR "/data/books/the-man-who-was-thursday.txt");
  Decoder decoder(model, {});
  EvaluationOptions options;
  options.max_tokens = 1024;
  evaluate(decoder, ids, options);  // loads the weights
  options.max_tokens = 32 * 512;
  int64_t tokens = 0;
  for (auto _ : state) tokens += evaluate(decoder, ids, options).tokens;
  state.counters["tokens/s"] = benchmark::Counter(static_cast<double>(tokens), benchmark::Counter::kIsRate);
}
BENCHMARK(perplexity)
    ->ArgName("threads")
    ->Arg(1)
    ->Arg(2)
    ->Unit(benchmark::kSecond)
    ->UseRealTime()
    ->MeasureProcessCPUTime();

// config.json of a model of tests/data/architectures with the sizes that all have here.
Json common_size(const std::string& name) {
  constexpr int kHidden = 1024, kHeads = 16, kKvHeads = 8, kHeadDim = 64;
  Json config = read_json(architecture_model(name).directory / "config.json");
  for (const char* key : {"layer_types", "per_layer_config", "no_rope_layers", "query_pre_attn_scalar"})
    config.erase(key);
  config.update({{"hidden_size", kHidden},
                 {"intermediate_size", 2816},
                 {"num_hidden_layers", 6},
                 {"num_attention_heads", kHeads},
                 {"num_key_value_heads", kKvHeads},
                 {"head_dim", kHeadDim},
                 {"global_head_dim", kHeadDim},
                 {"num_global_key_value_heads", kKvHeads},
                 {"vocab_size", 32000},
                 {"vocab_size_per_layer_input", 32000},
                 {"num_kv_shared_layers", 0},
                 {"tie_word_embeddings", true}});
  if (config.contains("sliding_window") && !config["sliding_window"].is_null())
    config["sliding_window"] = 256;
  if (config.value("hidden_size_per_layer_input", 0) > 0) config["hidden_size_per_layer_input"] = 256;
  Json& rope = config["rope_parameters"];
  const auto pairs = static_cast<size_t>(kHeadDim * rope.value("partial_rotary_factor", 1.0)) / 2;
  for (const char* factors : {"short_factor", "long_factor"})
    if (rope.contains(factors)) rope[factors] = std::vector<double>(pairs, 2.0);
  return config;
}

void write_random_checkpoint(const std::filesystem::path& directory, const Json& json) {
  write_text(directory / "config.json", json.dump());
  std::vector<PlannedTensor> planned;
  const std::vector<ExpectedTensor> tensors = expected_tensors(read_config(directory / "config.json"));
  for (const ExpectedTensor& tensor : tensors) planned.push_back({tensor.name, tensor.shape, DType::BF16});
  SafetensorsWriter writer(directory, planned);
  Random random(1);
  for (const ExpectedTensor& tensor : tensors) {
    const bool is_matrix = tensor.shape.size() == 2;
    const double size = is_matrix ? 1 / std::sqrt(static_cast<double>(tensor.shape[1])) : 0;
    int64_t count = 1;
    for (const int64_t length : tensor.shape) count *= length;
    std::vector<float> values(static_cast<size_t>(count), 1.0f);
    if (is_matrix)
      for (float& value : values) value = static_cast<float>((2 * random.uniform() - 1) * size);
    writer.write(values.data(), static_cast<int64_t>(values.size()));
  }
  writer.finish();
}

// Sizes of Qwen2.5-0.5B (its config.json).
Json half_billion() {
  Json config = read_json(architecture_model("qwen2").directory / "config.json");
  config.erase("layer_types");
  config.update({{"hidden_size", 896},
                 {"intermediate_size", 4864},
                 {"num_hidden_layers", 24},
                 {"num_attention_heads", 14},
                 {"num_key_value_heads", 2},
                 {"head_dim", 64},
                 {"vocab_size", 151936},
                 {"tie_word_embeddings", true}});
  return config;
}

constexpr int64_t kTokens = 1024, kWindow = 512;

// A random model with this config, its weights loaded.
class RandomModel {
 public:
  explicit RandomModel(const Json& config)
      : model_(written(directory_.path(), config)), decoder_(model_, {}) {
    Random random(2);
    for (int32_t& id : ids_) id = static_cast<int32_t>(random.below(32000));
    run();
  }

  // Seconds that its two windows take.
  double run() {
    const Stopwatch stopwatch;
    evaluate(decoder_, ids_, {});
    return stopwatch.seconds();
  }

  // What its matrices and its attention need for a token of a window, on average.
  double operations_per_token() const {
    const ModelConfig& config = model_.config;
    // Of the head, and of what makes features for the layers of embedded tokens.
    int64_t weights =
        (config.vocab_size + config.num_layers * config.layer_embedding_size) * config.hidden_size;
    for (const Module& module : model_.modules) weights += module.params();
    double operations = 2.0 * static_cast<double>(weights);
    for (int layer = 0; layer < config.num_layers; ++layer)
      if (config.attends(layer))
        operations += 4.0 * keys_seen(config, layer) *
                      static_cast<double>(config.num_heads * config.head_dim_of(layer));
    return operations;
  }

 private:
  static Model written(const std::filesystem::path& directory, const Json& config) {
    write_random_checkpoint(directory, config);
    return open_model(directory);
  }

  static double keys_seen(const ModelConfig& config, int layer) {
    const int64_t most = config.slides(layer) ? std::min(config.sliding_window, kWindow) : kWindow;
    int64_t all = 0;
    for (int64_t position = 0; position < kWindow; ++position) all += std::min(position + 1, most);
    return static_cast<double>(all) / kWindow;
  }

  TemporaryDirectory directory_;
  Model model_;
  Decoder decoder_;
  std::vector<int32_t> ids_ = std::vector<int32_t>(kTokens);
};

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

// Beside the model that all are compared with, in turns, so that both meet the same state of the machine.
void evaluate_beside_llama(benchmark::State& state, const Json& config) {
  set_progress_style(ProgressStyle::Quiet);
  static RandomModel llama(common_size("llama"));
  RandomModel model(config);
  const double operations = model.operations_per_token();
  std::vector<double> seconds, ratios;
  for (auto _ : state) {
    seconds.push_back(model.run());
    state.PauseTiming();
    ratios.push_back(operations / seconds.back() / (llama.operations_per_token() / llama.run()));
    state.ResumeTiming();
  }
  state.counters["tokens/s"] = kTokens / median(seconds);
  state.counters["Gop/s"] = 1e-9 * kTokens * operations / median(seconds);
  state.counters["of_llama"] = median(ratios);
}

void half_a_billion(benchmark::State& state) {
  set_progress_style(ProgressStyle::Quiet);
  RandomModel model(half_billion());
  for (auto _ : state) model.run();
  state.counters["tokens/s"] =
      benchmark::Counter(static_cast<double>(kTokens * state.iterations()), benchmark::Counter::kIsRate);
}
BENCHMARK(half_a_billion)->Unit(benchmark::kSecond)->UseRealTime()->MeasureProcessCPUTime();

}  // namespace
}  // namespace strata

int main(int count, char** arguments) {
  constexpr int kPairs = 5;
  for (const std::string& name : strata::architecture_models())
    benchmark::RegisterBenchmark(
        ("architecture/" + name).c_str(),
        [name](benchmark::State& state) { strata::evaluate_beside_llama(state, strata::common_size(name)); })
        ->Unit(benchmark::kSecond)
        ->UseRealTime()
        ->Iterations(kPairs);
  benchmark::Initialize(&count, arguments);
  benchmark::RunSpecifiedBenchmarks();
}
