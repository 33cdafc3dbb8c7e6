// Times one layer of a model on random tokens, its weights loaded: tokens a second. Of experts beside a plain
// layer of the same active size, with models made by
//
//   bench_model_synthetic DIRECTORY 0.01 bench/shapes/qwen3-30b-a3b.json (or -dense.json)
//
//   bench_forward_layer DIRECTORY [--device cpu|cuda] [--tokens N] [--steps N]
#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <vector>

#include "strata/core/error.h"
#include "strata/core/random.h"
#include "strata/core/stopwatch.h"
#include "strata/device/device.h"
#include "strata/forward/decoder.h"

namespace strata {
namespace {

constexpr int64_t kWindow = 512;

void run(const std::string& directory, const std::string& device, int64_t tokens, int64_t steps) {
  const at::NoGradGuard no_grad;
  const Model model = open_model(directory);
  DecoderOptions options;
  options.device = parse_device(device);
  if (options.device.is_cuda()) options.dtype = at::kBFloat16;
  Decoder decoder(model, options);
  Random random(1);
  at::Tensor ids = at::empty({tokens / kWindow, kWindow}, at::kLong);
  for (int64_t i = 0; i < ids.numel(); ++i)
    ids.data_ptr<int64_t>()[i] =
        static_cast<int64_t>(random.below(static_cast<uint64_t>(model.config.vocab_size)));
  const at::Tensor hidden = decoder.embed(ids.to(options.device));
  decoder.hold_layer(0);
  const auto step = [&] {
    const Stopwatch stopwatch;
    decoder.layer(0, hidden).flatten()[0].item<float>();  // waits for it
    return stopwatch.seconds();
  };
  step();
  std::vector<double> seconds;
  for (int64_t i = 0; i < steps; ++i) seconds.push_back(step());
  std::sort(seconds.begin(), seconds.end());
  fmt::print("{}: {} tokens through a layer in {:.4g} ms (median of {}), {:.4g} million tokens a second\n",
             directory, ids.numel(), 1e3 * seconds[seconds.size() / 2], steps,
             1e-6 * static_cast<double>(ids.numel()) / seconds[seconds.size() / 2]);
}

}  // namespace
}  // namespace strata

int main(int argc, char** argv) {
  std::string device = "cpu";
  int64_t tokens = 4096, steps = 21;
  for (int i = 2; i + 1 < argc; i += 2) {
    const std::string name = argv[i], value = argv[i + 1];
    if (name == "--device") device = value;
    if (name == "--tokens") tokens = std::stoll(value);
    if (name == "--steps") steps = std::stoll(value);
  }
  try {
    if (argc < 2)
      strata::fail("usage: bench_forward_layer DIRECTORY [--device cpu|cuda] [--tokens N] [--steps N]");
    strata::run(argv[1], device, tokens, steps);
  } catch (const std::exception& error) {
    fmt::print(stderr, "{}\n", error.what());
    return 1;
  }
}
