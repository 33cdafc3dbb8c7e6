#include "strata/information/sliced.h"

#include <algorithm>
#include <cmath>
#include <functional>

#include "strata/core/error.h"
#include "strata/core/random.h"
#include "strata/core/threads.h"
#include "strata/information/mutual_information.h"

namespace strata {
namespace {

double mean_over_directions(int64_t count, const std::function<double(int64_t)>& estimate) {
  std::vector<double> estimates(static_cast<size_t>(count));
  parallel_for(count, 4, [&](int64_t begin, int64_t end) {
    for (int64_t d = begin; d < end; ++d) estimates[static_cast<size_t>(d)] = estimate(d);
  });
  double sum = 0;
  for (double value : estimates) sum += value;
  return std::max(0.0, sum / static_cast<double>(count));
}

}  // namespace

at::Tensor random_directions(int64_t features, int64_t count, uint64_t seed) {
  at::Tensor directions = at::empty({count, features}, at::kFloat);
  float* values = directions.data_ptr<float>();
  Random random(seed);
  for (int64_t i = 0; i < directions.numel(); ++i) values[i] = static_cast<float>(random.normal());
  return (directions / directions.norm(2, {1}, true)).t();
}

at::Tensor project(const at::Tensor& samples, const at::Tensor& directions) {
  const at::Tensor centred = samples.to(at::kFloat) - samples.to(at::kFloat).mean(0, true);
  return at::mm(centred, directions.to(samples.device())).t().to(at::kCPU).contiguous();
}

double sliced_information(const at::Tensor& u, const at::Tensor& v, int neighbours) {
  if (u.sizes() != v.sizes())
    fail("sliced mutual information was asked of {} and {} samples along {} and {} directions", u.size(1),
         v.size(1), u.size(0), v.size(0));
  const at::Tensor a = u.contiguous(), b = v.contiguous();
  const int64_t n = a.size(1);
  const float *x = a.data_ptr<float>(), *y = b.data_ptr<float>();
  return mean_over_directions(
      a.size(0), [&](int64_t d) { return kraskov_information(x + d * n, y + d * n, n, neighbours); });
}

double sliced_information(const at::Tensor& u, const std::vector<int64_t>& labels, int neighbours) {
  const at::Tensor a = u.contiguous();
  const int64_t n = a.size(1);
  if (static_cast<int64_t>(labels.size()) != n)
    fail("sliced mutual information was asked of {} samples with {} labels", n, labels.size());
  const float* x = a.data_ptr<float>();
  return mean_over_directions(
      a.size(0), [&](int64_t d) { return ross_information(x + d * n, labels.data(), n, neighbours); });
}

}  // namespace strata
