// Times end-to-end tuning of a model (bench_model_synthetic makes large ones) on random tokens: what
// comes before the first step, a step, a check on windows held back; and the peak of host memory.
//
//   bench_quantizers_tune MODEL [--scheme w3g128] [--steps 20] [--tokens 2048] [--windows 32] [--window 512]
//                         [--device cpu|cuda] [--threads N]
#include <fmt/format.h>
#include <sys/resource.h>

#include <string>

#include "strata/core/random.h"
#include "strata/core/stopwatch.h"
#include "strata/core/threads.h"
#include "strata/device/device.h"
#include "strata/forward/load_tensor.h"
#include "strata/quantizers/tuning.h"

namespace strata {
namespace {

struct TuneSettings {
  std::string model, scheme = "w3g128", device = "cpu";
  int64_t windows = 32, window = 512;
  TuningOptions tuning;
};

TuneSettings parse_settings(int argc, char** argv) {
  TuneSettings settings;
  settings.tuning.steps = 20;
  if (argc > 1) settings.model = argv[1];
  for (int i = 2; i + 1 < argc; i += 2) {
    const std::string name = argv[i], value = argv[i + 1];
    if (name == "--scheme") settings.scheme = value;
    if (name == "--steps") settings.tuning.steps = std::stoll(value);
    if (name == "--tokens") settings.tuning.tokens_per_step = std::stoll(value);
    if (name == "--windows") settings.windows = std::stoll(value);
    if (name == "--window") settings.window = std::stoll(value);
    if (name == "--device") settings.device = value;
    if (name == "--threads") set_thread_count(std::stoi(value));
  }
  settings.tuning.checks = 2;
  settings.tuning.device = parse_device(settings.device);
  return settings;
}

Calibration random_tokens(const Model& model, int64_t windows, int64_t window) {
  Random random(1);
  at::Tensor ids = at::empty({windows, window}, at::kLong);
  for (int64_t i = 0; i < ids.numel(); ++i)
    ids.data_ptr<int64_t>()[i] =
        static_cast<int64_t>(random.below(static_cast<uint64_t>(model.config.vocab_size)));
  return make_calibration(ids, "random tokens");
}

std::map<std::string, QuantizedMatrix> rounded_matrices(const Model& model, const Scheme& scheme) {
  QuantizerOptions plain;
  plain.name = "rtn";
  std::map<std::string, QuantizedMatrix> matrices;
  for (const Module& module : model.modules) {
    const at::Tensor weights = load_tensor(*model.checkpoint, module.tensor, at::kCPU, at::kFloat);
    matrices[module.tensor] =
        quantize_matrix({weights.data_ptr<float>(), module.rows, module.cols}, scheme, plain);
  }
  return matrices;
}

void run(TuneSettings settings) {
  use_threads();
  const Model model = open_model(settings.model);
  const Calibration calibration = random_tokens(model, settings.windows, settings.window);
  Stopwatch quantizing;
  std::map<std::string, QuantizedMatrix> matrices = rounded_matrices(model, parse_scheme(settings.scheme));
  fmt::print("{} in {} on {}, {} threads; rounded in {:.1f} s\n", settings.model, settings.scheme,
             settings.device, thread_count(), quantizing.seconds());
  Stopwatch watch;
  double first_half = 0;  // until the first check, teacher included
  settings.tuning.checked = [&](int64_t step, double divergence) {
    const double now = watch.seconds();
    if (first_half > 0) {
      const double steps = static_cast<double>(settings.tuning.steps - settings.tuning.steps / 2);
      const double a_step = (now - first_half) / steps;  // with its share of a check
      fmt::print("a step of {} tokens: {:.3f} s, {:.0f} tokens a second\n", settings.tuning.tokens_per_step,
                 a_step, static_cast<double>(settings.tuning.tokens_per_step) / a_step);
    }
    first_half = now;
    fmt::print("after {} steps and {:.1f} s the divergence is {:.4f}\n", step, now, divergence);
  };
  const TunedModel tuned = tune(model, model, std::move(matrices), calibration, settings.tuning);
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  fmt::print("{:.4f} -> {:.4f} in {:.1f} s; host memory at most {:.2f} GiB\n", tuned.divergence_before,
             tuned.divergence_after, watch.seconds(), static_cast<double>(usage.ru_maxrss) / (1 << 20));
}

}  // namespace
}  // namespace strata

int main(int argc, char** argv) {
  strata::run(strata::parse_settings(argc, argv));
}
