// Times a step of signed rounding on the first layer of a model: rounding the weights, the gradients of the
// layer's output error, and the step itself; and says how near the whole comes to the device's rate of
// products. Tokens are random; the model is tiny-llama where none is given. One of Llama-3.1-8B's layer shape
// is made by bench_model_synthetic DIRECTORY 1.
//
//   bench_quantizers_sign_round [--model DIRECTORY] [--scheme w3g128] [--device cpu|cuda] [--steps N]
//                               [--windows N] [--window N] [--threads N]
#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>

#include <cstdlib>
#include <string>
#include <vector>

#include "strata/core/random.h"
#include "strata/core/stopwatch.h"
#include "strata/core/threads.h"
#include "strata/device/device.h"
#include "strata/device/products.h"
#include "strata/forward/load_tensor.h"
#include "strata/quantizers/layer_output.h"
#include "strata/quantizers/sign_round.h"

namespace strata {
namespace {

struct Settings {
  std::string model = STRATA_SOURCE_DIR "/models/tiny-llama", scheme = "w3g128", device = "cpu";
  int64_t steps = 20, windows = 8, window = 512;
};

Settings parse(int argc, char** argv) {
  Settings settings;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string name = argv[i], value = argv[i + 1];
    if (name == "--model") settings.model = value;
    if (name == "--scheme") settings.scheme = value;
    if (name == "--device") settings.device = value;
    if (name == "--steps") settings.steps = std::stoll(value);
    if (name == "--windows") settings.windows = std::stoll(value);
    if (name == "--window") settings.window = std::stoll(value);
    if (name == "--threads") set_thread_count(std::stoi(value));
  }
  return settings;
}

Calibration random_tokens(const Settings& settings, int64_t vocabulary) {
  Random random(1);
  at::Tensor ids = at::empty({settings.windows, settings.window}, at::kLong);
  for (int64_t i = 0; i < ids.numel(); ++i)
    ids.data_ptr<int64_t>()[i] = static_cast<int64_t>(random.below(static_cast<uint64_t>(vocabulary)));
  return make_calibration(ids, "random");
}

void wait_for(const at::Tensor& tensor) {
  tensor.flatten()[0].item<float>();
}

// TFLOP/s of one large product after another.
double product_rate(const at::TensorOptions& options) {
  const int64_t n = options.device().is_cuda() ? 8192 : 2048, repeats = options.device().is_cuda() ? 20 : 3;
  const at::Tensor a = at::randn({n, n}, options), b = at::randn({n, n}, options);
  wait_for(at::mm(a, b));
  const Stopwatch watch;
  at::Tensor c;
  for (int64_t i = 0; i < repeats; ++i) c = at::mm(a, b);
  wait_for(c);
  return 2e-12 * static_cast<double>(n * n * n * repeats) / watch.seconds();
}

void run(const Settings& settings) {
  const at::NoGradGuard no_grad;
  use_threads();
  const at::Device device = parse_device(settings.device);
  const Model model = open_model(settings.model);
  const Calibration calibration = random_tokens(settings, model.config.vocab_size);
  ActivationOptions activations;
  activations.device = device;
  activations.dtype = device.is_cuda() ? at::kBFloat16 : at::kFloat;
  ActivationStream inputs(model, calibration, activations), targets(model, calibration, activations);
  targets.advance();
  std::vector<SignRound> learned;
  std::vector<std::string> names;
  int64_t weights = 0;
  for (const Module* module : model.layer_modules(0)) {
    const at::Tensor w = load_tensor(*model.checkpoint, module->tensor, at::kCPU, at::kFloat).contiguous();
    QuantizerOptions nearest;
    nearest.name = "rtn";
    const QuantizedMatrix start = quantize_matrix({w.data_ptr<float>(), module->rows, module->cols},
                                                  parse_scheme(settings.scheme), nearest);
    learned.emplace_back(w.to(device), open_grid(start, device).parts.at(0));
    names.push_back(module->name);
    weights += module->params();
  }
  const LayerOutput output(inputs, targets, names);
  std::vector<int64_t> blocks;
  for (int64_t block = 0; block < settings.windows; ++block) blocks.push_back(block);

  const double largest = product_rate(at::TensorOptions().device(device).dtype(activations.dtype));
  const OneThread one;  // but for what is dealt out in tasks
  double rounding = 0, gradients = 0, stepping = 0, together = 0;
  const auto step = [&](bool apart) {
    const Stopwatch all;
    Stopwatch watch;
    std::vector<at::Tensor> rounded, by_weights;
    for (SignRound& each : learned) rounded.push_back(each.weights(activations.dtype));
    if (apart) wait_for(rounded.back()), rounding += watch.seconds(), watch = Stopwatch();
    by_weights = output.gradients(rounded, blocks);
    if (apart) wait_for(by_weights.back()), gradients += watch.seconds(), watch = Stopwatch();
    for (size_t i = 0; i < learned.size(); ++i)
      learned[i].descend(by_weights[i], 1 / static_cast<double>(settings.steps));
    if (apart) wait_for(learned.back().weights(at::kFloat)), stepping += watch.seconds();
    if (!apart) together += all.seconds();
  };
  step(true);
  rounding = gradients = stepping = 0;
  for (int64_t i = 0; i < settings.steps; ++i) step(true);
  const Stopwatch watch;
  for (int64_t i = 0; i < settings.steps; ++i) step(false);
  wait_for(learned.back().weights(at::kFloat));
  const double steps = static_cast<double>(settings.steps), seconds = watch.seconds() / steps;
  const double rate = 6e-12 * static_cast<double>(weights * settings.windows * settings.window) / seconds;
  fmt::print("{} weights a layer in {}, {} x {} tokens a step, {}, {} threads\n", weights, settings.scheme,
             settings.windows, settings.window, settings.device, thread_count());
  fmt::print("one after the other, ms: rounding {:.2f}, gradients {:.2f}, step {:.2f}\n",
             1e3 * rounding / steps, 1e3 * gradients / steps, 1e3 * stepping / steps);
  fmt::print(
      "a step {:.2f} ms (asked for within {:.2f}): {:.2f} TFLOP/s in products with the weights, {:.0f} % of "
      "{:.2f}\n",
      1e3 * seconds, 1e3 * together / steps, rate, 100 * rate / largest, largest);
  fmt::print("200 steps of 32 such layers: {:.1f} min\n", 200 * 32 * seconds / 60);
}

}  // namespace
}  // namespace strata

int main(int argc, char** argv) {
  strata::run(strata::parse(argc, argv));
  return 0;
}
