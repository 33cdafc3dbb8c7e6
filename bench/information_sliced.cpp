// Sliced mutual information of 1,024 samples of 512 features along 128 directions, of two continuous
// variables and with labels: bench_information_sliced [THREADS]
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>

#include "strata/core/threads.h"
#include "strata/information/sliced.h"

namespace {

template <class Body>
double least_milliseconds(const Body& body) {
  double best = 1e30;
  for (int repeat = 0; repeat < 7; ++repeat) {
    const auto start = std::chrono::steady_clock::now();
    body();
    best = std::min(
        best, std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count());
  }
  return best;
}

}  // namespace

int main(int argc, char** argv) {
  using namespace strata;
  set_thread_count(argc > 1 ? std::atoi(argv[1]) : 0);
  at::set_num_threads(thread_count());
  const int64_t n = 1024, features = 512;
  const at::Tensor u = at::randn({n, features}), v = 0.5 * u + at::randn({n, features});
  const at::Tensor theta = random_directions(features, 128, 1), phi = random_directions(features, 128, 2);
  std::vector<int64_t> labels;
  for (int64_t i = 0; i < n; ++i) labels.push_back(i % 10);
  double between = 0, with_labels = 0;
  const double both =
      least_milliseconds([&] { between = sliced_information(project(u, theta), project(v, phi)); });
  const double label =
      least_milliseconds([&] { with_labels = sliced_information(project(u, theta), labels); });
  fmt::print(
      "{} threads: {:.1f} ms between two variables ({:.4f} nats), {:.1f} ms with labels ({:.4f} nats)\n",
      thread_count(), both, between, label, with_labels);
}
