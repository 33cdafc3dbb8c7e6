#include <benchmark/benchmark.h>

#include "strata/core/progress.h"
#include "strata/core/threads.h"
#include "strata/evaluation/evaluate.h"

// Perplexity of the bundled model over 32 windows of 512 tokens: tokens a second with a number of threads.

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

}  // namespace
}  // namespace strata

BENCHMARK_MAIN();
