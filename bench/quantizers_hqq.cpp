// Weights per second on one core, and errors, of round to nearest and HQQ, beside the same steps written with
// LibTorch's tensor operations as HQQ's published code has them (early stop on the matrix's mean error
// included). Every variant starts from fp32 weights in memory and ends with the dequantized fp32 weights.
//
//   bench_quantizers_hqq [rows cols [repeats]]

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>

#include <cmath>
#include <cstdlib>
#include <ctime>
#include <functional>

#include "bench/heavy_tailed.h"
#include "strata/core/random.h"
#include "strata/core/threads.h"
#include "strata/quantization/quantizer.h"

namespace strata {
namespace {

// Groups along the dimension that min, max and mean reduce.
at::Tensor grouped(const at::Tensor& weights, const AffineScheme& scheme) {
  return scheme.axis == 1 ? weights.reshape({-1, scheme.group_size})
                          : weights.reshape({scheme.group_size, -1});
}

struct TorchGroups {
  at::Tensor w, scale, zero;  // scale is the inverse of what is stored
  double max_code;
  int64_t dim;

  TorchGroups(const at::Tensor& weights, const AffineScheme& scheme)
      : w(grouped(weights, scheme)), max_code((1 << scheme.bits) - 1), dim(scheme.axis) {
    const at::Tensor lowest = w.amin(dim, true), highest = w.amax(dim, true);
    scale = (max_code / (highest - lowest)).clamp_max(2e4);
    zero = -lowest * scale;
    if (scheme.bits == 4) zero = zero.round();
  }

  at::Tensor codes() const { return (w * scale + zero).round().clamp(0, max_code); }
  at::Tensor dequantized() const { return (codes() - zero) / scale; }
};

at::Tensor torch_rtn(const at::Tensor& weights, const AffineScheme& scheme) {
  return TorchGroups(weights, scheme).dequantized().reshape_as(weights);
}

at::Tensor torch_hqq(const at::Tensor& weights, const AffineScheme& scheme) {
  constexpr double kNorm = 0.7;
  TorchGroups groups(weights, scheme);
  double beta = 10, best = HUGE_VAL;
  for (int iteration = 0; iteration < 20; ++iteration) {
    const at::Tensor codes = groups.codes();
    const at::Tensor rounded = (codes - groups.zero) / groups.scale;
    const at::Tensor error = groups.w - rounded, size = error.abs();
    const at::Tensor shrunk = error.sign() * (size - size.pow(kNorm - 1) / beta).relu();
    groups.zero = (codes - (groups.w - shrunk) * groups.scale).mean(groups.dim, true);
    beta *= 1.01;
    const double mean_error = size.mean().item<double>();
    if (mean_error >= best) break;
    best = mean_error;
  }
  return groups.dequantized().reshape_as(weights);
}

struct Result {
  double seconds = HUGE_VAL, mean_absolute = 0, mean_power = 0, mean_squared = 0;
};

void measure_errors(const Matrix<float>& weights, const float* rounded, Result& result) {
  const auto n = static_cast<double>(weights.size());
  for (int64_t i = 0; i < weights.size(); ++i) {
    const double e = std::abs(static_cast<double>(weights.values[i]) - rounded[i]);
    result.mean_absolute += e / n;
    result.mean_power += std::pow(e, 0.7) / n;
    result.mean_squared += e * e / n;
  }
}

// CPU time, which other programs on the machine disturb less than wall time; both sides use one thread.
double seconds_of(const std::function<void()>& work) {
  const std::clock_t start = std::clock();
  work();
  return static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
}

Result run_ours(const Matrix<float>& weights, const Scheme& scheme, const std::string& quantizer,
                int repeats) {
  QuantizerOptions options;
  options.name = quantizer;
  Result result;
  Matrix<float> rounded = weights;
  for (int repeat = 0; repeat < repeats; ++repeat) {
    rounded.values = weights.values;
    result.seconds =
        std::min(result.seconds, seconds_of([&] { fake_quantize(rounded.view(), scheme, options); }));
  }
  measure_errors(weights, rounded.values.data(), result);
  return result;
}

Result run_torch(const Matrix<float>& weights, const Scheme& scheme, const std::string& quantizer,
                 int repeats) {
  const at::Tensor tensor =
      at::from_blob(const_cast<float*>(weights.values.data()), {weights.rows, weights.cols}, at::kFloat);
  Result result;
  at::Tensor rounded;
  for (int repeat = 0; repeat < repeats; ++repeat)
    result.seconds = std::min(result.seconds, seconds_of([&] {
                                rounded = quantizer == "hqq" ? torch_hqq(tensor, scheme.affine)
                                                             : torch_rtn(tensor, scheme.affine);
                              }));
  measure_errors(weights, rounded.contiguous().data_ptr<float>(), result);
  return result;
}

void run(int64_t rows, int64_t cols, int repeats) {
  const at::NoGradGuard no_grad;
  at::set_num_threads(1);
  set_thread_count(1);
  const Matrix<float> weights = heavy_tailed_matrix(rows, cols);
  fmt::print("{} x {} heavy-tailed weights, one thread, best of {}\n", rows, cols, repeats);
  fmt::print("{:<9}{:<5}{:>26}{:>8}{:>34}{:>34}\n", "", "", "Mweights/s", "", "strata mean", "LibTorch mean");
  fmt::print("{:<9}{:<5}{:>13}{:>13}{:>8}{:>11}{:>11}{:>12}{:>11}{:>11}{:>12}\n", "scheme", "", "strata",
             "LibTorch", "ratio", "|e|", "|e|^0.7", "e^2", "|e|", "|e|^0.7", "e^2");
  for (const char* quantizer : {"rtn", "hqq"}) {
    for (const char* name : {"w2g64", "w3g64", "w4g64", "w2g64a0", "w3g64a0", "w4g64a0"}) {
      const Scheme scheme = parse_scheme(name);
      const Result ours = run_ours(weights, scheme, quantizer, 3 * repeats);
      const Result torch = run_torch(weights, scheme, quantizer, repeats);
      const double millions = static_cast<double>(weights.size()) / 1e6;
      fmt::print(
          "{:<9}{:<5}{:>13.1f}{:>13.2f}{:>8.1f}{:>11.4e}{:>11.4e}{:>12.4e}{:>11.4e}{:>11.4e}{:>12.4e}\n",
          name, quantizer, millions / ours.seconds, millions / torch.seconds, torch.seconds / ours.seconds,
          ours.mean_absolute, ours.mean_power, ours.mean_squared, torch.mean_absolute, torch.mean_power,
          torch.mean_squared);
    }
  }
}

}  // namespace
}  // namespace strata

int main(int argc, char** argv) {
  const int64_t rows = argc > 2 ? std::atoll(argv[1]) : 4096, cols = argc > 2 ? std::atoll(argv[2]) : 4096;
  strata::run(rows, cols, argc > 3 ? std::atoi(argv[3]) : 1);
}
