// Times NSDS on random heavy-tailed weights of a chosen shape (Llama-3.1-8B's by default), beside one
// single-precision LAPACK eigendecomposition of the hidden size and the released algorithm on one head.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <lapacke.h>
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "strata/core/random.h"
#include "strata/core/threads.h"
#include "strata/sensitivity/circuit_moments.h"
#include "strata/sensitivity/nsds_components.h"
#include "strata/sensitivity/spectrum.h"

namespace {

struct Options {
  int64_t layers = 1, hidden = 4096, ffn = 14336, heads = 32, kv_heads = 8, vocab = 128256;
  at::Device device = at::kCPU;
  bool naive = true;
};

[[noreturn]] void usage() {
  std::fprintf(
      stderr,
      "usage: bench_sensitivity_nsds [--layers N] [--device cpu|cuda] [--hidden N] [--ffn N] [--heads N]\n"
      "       [--kv-heads N] [--vocab N] [--threads N] [--no-naive]\n");
  std::exit(2);
}

Options parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string name = argv[i];
    if (name == "--no-naive") {
      options.naive = false;
      continue;
    }
    if (i + 1 == argc) usage();
    const char* value = argv[++i];
    if (name == "--layers")
      options.layers = std::atoll(value);
    else if (name == "--hidden")
      options.hidden = std::atoll(value);
    else if (name == "--ffn")
      options.ffn = std::atoll(value);
    else if (name == "--heads")
      options.heads = std::atoll(value);
    else if (name == "--kv-heads")
      options.kv_heads = std::atoll(value);
    else if (name == "--vocab")
      options.vocab = std::atoll(value);
    else if (name == "--threads")
      strata::set_thread_count(std::atoi(value));
    else if (name == "--device")
      options.device = at::Device(value);
    else
      usage();
  }
  return options;
}

class Stopwatch {
 public:
  explicit Stopwatch(at::Device device) : device_(device) { restart(); }
  void restart() {
    synchronize();
    start_ = std::chrono::steady_clock::now();
  }
  double seconds() const {
    synchronize();
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  }

 private:
  // A copy of one value to the host waits for all work before it.
  void synchronize() const {
    if (device_.is_cuda()) at::zeros({1}, at::TensorOptions().device(device_)).item<float>();
  }
  at::Device device_;
  std::chrono::steady_clock::time_point start_;
};

// Columns of different strength under heavy-tailed noise, in bfloat16 as a checkpoint would hold them.
at::Tensor random_weight(int64_t rows, int64_t cols, at::Device device) {
  const auto options = at::TensorOptions().dtype(at::kBFloat16).device(device);
  at::Tensor weight = at::empty({rows, cols}, options);
  const at::Tensor strength = at::randn({cols}, at::TensorOptions().device(device)).mul_(0.5).exp_();
  for (int64_t first = 0; first < rows; first += 4096) {
    const int64_t count = std::min<int64_t>(4096, rows - first);
    at::Tensor noise = at::randn({count, cols}, at::TensorOptions().device(device));
    noise.mul_(at::randn({count, cols}, noise.options()).mul_(0.4).exp_()).mul_(strength).mul_(0.02);
    weight.narrow(0, first, count).copy_(noise);
  }
  return weight;
}

double peak_memory_gib() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_maxrss) / (1 << 20);
}

double time_eigendecomposition(int64_t n) {
  at::Tensor random = at::randn({n, n});
  at::Tensor matrix = at::mm(random, random.t());
  random.reset();
  std::vector<float> values(n), work(1 + 6 * n + 2 * n * n);
  std::vector<lapack_int> integers(3 + 5 * n);
  const lapack_int order = static_cast<lapack_int>(n);
  Stopwatch watch(at::kCPU);
  LAPACKE_ssyevd_work(LAPACK_COL_MAJOR, 'V', 'U', order, matrix.data_ptr<float>(), order, values.data(),
                      work.data(), static_cast<lapack_int>(work.size()), integers.data(),
                      static_cast<lapack_int>(integers.size()));
  return watch.seconds();
}

struct Layer {
  at::Tensor q, k, v, o, gate, up, down;
};

Layer random_layer(const Options& o) {
  const int64_t head = o.hidden / o.heads;
  return {random_weight(o.hidden, o.hidden, o.device),
          random_weight(o.kv_heads * head, o.hidden, o.device),
          random_weight(o.kv_heads * head, o.hidden, o.device),
          random_weight(o.hidden, o.hidden, o.device),
          random_weight(o.ffn, o.hidden, o.device),
          random_weight(o.ffn, o.hidden, o.device),
          random_weight(o.hidden, o.ffn, o.device)};
}

void print(const char* what, const strata::ComponentValues& values, double seconds) {
  std::printf("  %-5s NV %10.5g  SE %10.5g  %7.3f s\n", what, values.numerical_vulnerability,
              values.structural_expressiveness, seconds);
  std::fflush(stdout);
}

double time_layer(const Options& o, const Layer& layer, const at::Tensor& basis, bool show) {
  const strata::NsdsOptions nsds;
  const auto load = [](const at::Tensor& weight) { return weight.to(at::kFloat); };
  double total = 0;
  Stopwatch watch(o.device);
  const auto step = [&](const char* what, const auto& compute) {
    watch.restart();
    const strata::ComponentValues values = compute();
    const double seconds = watch.seconds();
    total += seconds;
    if (show) print(what, values, seconds);
  };
  step("qk", [&] {
    return strata::nsds_detector_circuit(
        strata::query_key_circuit(load(layer.q), load(layer.k), o.heads, o.kv_heads), nsds);
  });
  step("ov", [&] {
    return strata::nsds_writer_circuit(
        strata::output_value_circuit(load(layer.o), load(layer.v), o.heads, o.kv_heads), basis, nsds);
  });
  step("gate", [&] { return strata::nsds_detector_matrix(load(layer.gate), nsds); });
  step("up", [&] { return strata::nsds_detector_matrix(load(layer.up), nsds); });
  step("down", [&] { return strata::nsds_writer_matrix(load(layer.down), basis, nsds); });
  return total;
}

double time_naive_head(const Options& o, const Layer& layer) {
  const int64_t head = o.hidden / o.heads;
  const at::Tensor q = layer.q.narrow(0, 0, head).to(at::kFloat),
                   k = layer.k.narrow(0, 0, head).to(at::kFloat);
  Stopwatch watch(o.device);
  const at::Tensor product = at::mm(q.t(), k);
  const auto [u, s, v] = at::linalg_svd(product, false);
  const double seconds = watch.seconds();
  std::printf("  largest singular value %.6g\n", s[0].item<double>());
  return seconds;
}

}  // namespace

int main(int argc, char** argv) {
  const Options options = parse(argc, argv);
  at::set_num_threads(strata::thread_count());
  at::manual_seed(1);
  std::printf("hidden %lld, ffn %lld, heads %lld/%lld, vocabulary %lld, %d threads, device %s\n",
              static_cast<long long>(options.hidden), static_cast<long long>(options.ffn),
              static_cast<long long>(options.heads), static_cast<long long>(options.kv_heads),
              static_cast<long long>(options.vocab), strata::thread_count(), options.device.str().c_str());

  const double eigendecomposition = time_eigendecomposition(options.hidden);
  std::printf("ssyevd of order %lld on the CPU: %.3f s\n", static_cast<long long>(options.hidden),
              eigendecomposition);
  std::fflush(stdout);

  Stopwatch watch(options.device);
  at::Tensor gram = at::zeros({options.hidden, options.hidden}, at::TensorOptions().device(options.device));
  double basis_seconds = 0;
  for (int64_t first = 0; first < options.vocab; first += 8192) {
    const at::Tensor rows =
        random_weight(std::min<int64_t>(8192, options.vocab - first), options.hidden, options.device);
    watch.restart();
    strata::add_gram(gram, rows.to(at::kFloat));
    basis_seconds += watch.seconds();
  }
  watch.restart();
  const at::Tensor basis = strata::unembedding_basis(std::move(gram), {});
  basis_seconds += watch.seconds();
  std::printf("basis of the unembedding (%lld vectors), once a model: %.3f s\n",
              static_cast<long long>(basis.size(0)), basis_seconds);

  Layer layer = random_layer(options);
  std::printf("peak memory before scoring %.2f GiB\n", peak_memory_gib());
  double total = basis_seconds, first_layer = 0;
  for (int64_t l = 0; l < options.layers; ++l) {
    if (l > 0) layer = random_layer(options);
    const double seconds = time_layer(options, layer, basis, l < 2);
    if (l == 0) first_layer = seconds;
    total += seconds;
  }
  std::printf("one layer: %.3f s = %.2f times one ssyevd; %lld layers and the basis: %.3f s\n", first_layer,
              first_layer / eigendecomposition, static_cast<long long>(options.layers), total);
  std::printf("peak memory %.2f GiB (with a layer's weights in bfloat16)\n", peak_memory_gib());
  if (options.naive) {
    const double naive = time_naive_head(options, layer);
    std::printf("the released algorithm, one head of one circuit (full SVD): %.1f s\n", naive);
  }
  return 0;
}
