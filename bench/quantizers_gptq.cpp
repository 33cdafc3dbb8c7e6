// Times GPTQ of one matrix: factoring the inverse of its inputs' second moments, and rounding with error
// feedback; and compares the error of the outputs, trace(E H E^T), with round-to-nearest and HQQ. Weights are
// random and heavy-tailed, inputs correlated with a few large features.
//
//   bench_quantizers_gptq [--size N | --rows N --cols N] [--scheme w4g128] [--device cpu|cuda] [--repeats N]
//                          [--act-order off|static|reordered] [--threads N]
#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <string>

#include "bench/heavy_tailed.h"
#include "strata/core/random.h"
#include "strata/core/threads.h"
#include "strata/device/device.h"
#include "strata/quantizers/gptq.h"

namespace strata {
namespace {

struct Settings {
  int64_t rows = 4096, cols = 4096;
  std::string scheme = "w4g128", device = "cpu";
  int repeats = 3;
  OptionValues declared;  // GPTQ's
};

Settings parse(int argc, char** argv) {
  Settings options;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string name = argv[i], value = argv[i + 1];
    if (name == "--size") options.rows = options.cols = std::stoll(value);
    if (name == "--rows") options.rows = std::stoll(value);
    if (name == "--cols") options.cols = std::stoll(value);
    if (name == "--scheme") options.scheme = value;
    if (name == "--device") options.device = value;
    if (name == "--repeats") options.repeats = std::stoi(value);
    for (const Option& option : gptq_options(options.declared))
      if (name == "--" + option.name) option.set(value);
    if (name == "--threads") set_thread_count(std::stoi(value));
  }
  return options;
}

// Inputs of which a part lies in a space of a sixteenth of the dimensions.
at::Tensor second_moments(int64_t cols, at::Device device) {
  at::manual_seed(1);
  const int64_t tokens = 2 * cols, rank = std::max<int64_t>(1, cols / 16);
  const at::TensorOptions floats = at::TensorOptions().dtype(at::kFloat).device(device);
  at::Tensor x = at::randn({tokens, cols}, floats);
  x.addmm_(at::randn({tokens, rank}, floats), at::randn({rank, cols}, floats), 1, 2.0 / rank);
  for (int64_t c = 5; c < cols; c += 500) x.select(1, c).mul_(20);
  return at::mm(x.t(), x);
}

double output_error(const Matrix<float>& weights, const QuantizedMatrix& matrix, const at::Tensor& moments) {
  at::Tensor e = at::empty({weights.rows, weights.cols}, at::kFloat);
  matrix.dequantize(e.data_ptr<float>());
  for (int64_t i = 0; i < weights.size(); ++i)
    e.data_ptr<float>()[i] -= weights.values[static_cast<size_t>(i)];
  e = e.to(moments.device());
  return (at::mm(e, moments) * e).sum().item<double>();
}

void run(const Settings& options) {
  use_threads();
  const at::Device device = parse_device(options.device);
  const Scheme scheme = parse_scheme(options.scheme);
  const Matrix<float> weights = heavy_tailed_matrix(options.rows, options.cols);
  const at::Tensor moments = second_moments(options.cols, device);
  moments.sum().item<float>();  // the device has finished
  fmt::print("{} x {} in {} on {}, {} threads\n", options.rows, options.cols, scheme.name(), options.device,
             thread_count());
  using Clock = std::chrono::steady_clock;
  const auto seconds = [](Clock::time_point from, Clock::time_point to) {
    return std::chrono::duration<double>(to - from).count();
  };
  QuantizedMatrix matrix;
  for (int repeat = 0; repeat < options.repeats; ++repeat) {
    const auto start = Clock::now();
    const InverseFactor factor = factor_inverse(moments, options.declared.get<GptqOptions>());
    const auto factored = Clock::now();
    matrix = gptq(weights.view(), factor, scheme, options.declared.get<GptqOptions>());
    const auto end = Clock::now();
    fmt::print("factor {:7.3f} s   round {:7.3f} s   both {:7.3f} s\n", seconds(start, factored),
               seconds(factored, end), seconds(start, end));
  }
  const double error = output_error(weights, matrix, moments);
  for (const char* name : {"rtn", "hqq"}) {
    QuantizerOptions plain;
    plain.name = name;
    const double other = output_error(weights, quantize_matrix(weights.view(), scheme, plain), moments);
    fmt::print("output error {:.4f} of {}'s\n", error / other, name);
  }
}

}  // namespace
}  // namespace strata

int main(int argc, char** argv) {
  const at::NoGradGuard no_grad;
  strata::run(strata::parse(argc, argv));
}
