#include "strata/sensitivity/circuit_moments.h"

#include <algorithm>
#include <cmath>

#include "strata/core/statistics.h"
#include "strata/core/threads.h"
#include "strata/sensitivity/fourth_moment.h"

namespace strata {
namespace {

// E (scale x - mean)^4 over the entries of every head's product.
std::vector<double> fourth_moments_on_cpu(const at::Tensor& left, const at::Tensor& right,
                                          const std::vector<double>& scales,
                                          const std::vector<double>& means) {
  const int64_t heads = left.size(0), r = left.size(1), d = left.size(2);
  const at::Tensor left_rows = left.contiguous(), right_rows = right.contiguous();
  std::vector<double> result(heads);
  parallel_for(heads, 1, [&](int64_t begin, int64_t end) {
    for (int64_t h = begin; h < end; ++h)
      result[h] = sum_of_fourth_powers(left_rows.data_ptr<float>() + h * r * d,
                                       right_rows.data_ptr<float>() + h * r * d, r, d, scales[h], means[h]) /
                  (static_cast<double>(d) * static_cast<double>(d));
  });
  return result;
}

// Several products at once, so that no kernel is too small for the device and no more than 1 GiB is held.
std::vector<double> fourth_moments_on_device(const at::Tensor& left, const at::Tensor& right,
                                             const std::vector<double>& scales,
                                             const std::vector<double>& means) {
  const int64_t heads = left.size(0), d = left.size(2);
  const at::Tensor scaled =
      left * at::tensor(scales, at::kDouble).to(left.device(), at::kFloat).reshape({heads, 1, 1});
  const int64_t step = std::max<int64_t>(1, (int64_t{1} << 28) / (d * d));
  const at::Tensor shift =
      at::tensor(means, at::kDouble).neg().to(left.device(), at::kFloat).reshape({heads, 1, 1});
  std::vector<at::Tensor> sums;
  for (int64_t first = 0; first < heads; first += step) {
    const int64_t count = std::min(step, heads - first);
    at::Tensor product =
        at::baddbmm(shift.narrow(0, first, count), scaled.narrow(0, first, count).transpose(1, 2),
                    right.narrow(0, first, count));
    product.square_().square_();
    sums.push_back(product.sum({2}).sum({1}, false, at::kDouble));
  }
  const at::Tensor host = at::cat(sums).to(at::kCPU);
  std::vector<double> result(host.data_ptr<double>(), host.data_ptr<double>() + heads);
  for (double& value : result) value /= static_cast<double>(d) * static_cast<double>(d);
  return result;
}

}  // namespace

// The first two moments follow from small matrices: sum x = (left 1)'(right 1) and
// sum x^2 = <left left', right right'>. What is left, E (x - mean)^4, is taken from products scaled to a root
// mean square of one, which keeps fourth powers inside the range of float.
std::vector<double> product_excess_kurtosis(const at::Tensor& left, const at::Tensor& right,
                                            const at::Tensor& left_gram, const at::Tensor& right_gram) {
  const int64_t heads = left.size(0);
  const double d = static_cast<double>(left.size(2)), entries = d * d;
  const at::Tensor squares = (left_gram * right_gram).sum({1, 2}).clamp_min(0);
  const at::Tensor sums =
      (left.sum({2}, false, at::kDouble) * right.sum({2}, false, at::kDouble)).sum(1).cpu();
  std::vector<double> means(heads), scales(heads);
  for (int64_t h = 0; h < heads; ++h) {
    const double rms = std::sqrt(squares.data_ptr<double>()[h] / entries);
    scales[h] = rms > 0 ? 1 / rms : 0;
    means[h] = sums.data_ptr<double>()[h] / entries * scales[h];
  }
  std::vector<double> kurtosis = left.is_cuda() ? fourth_moments_on_device(left, right, scales, means)
                                                : fourth_moments_on_cpu(left, right, scales, means);
  for (int64_t h = 0; h < heads; ++h) {
    const double variance = 1 - means[h] * means[h];
    constexpr double kRounding = 1e-6;
    const bool constant = scales[h] == 0 || variance < kRounding;
    kurtosis[h] = constant ? 0 : kurtosis[h] / (variance * variance) - 3;
  }
  return kurtosis;
}

std::vector<double> row_excess_kurtosis(const at::Tensor& rows) {
  constexpr double kRounding = 1e-12;  // a variance below this share of the mean square is none
  const at::Tensor floor = at::linalg_vector_norm(rows, 2, {1}).square_().mul_(kRounding / rows.size(1));
  at::Tensor centred = rows - rows.mean({1}, true);
  const at::Tensor variance = centred.square_().mean({1});
  centred.div_(variance.clamp_min(1e-30).unsqueeze(1)).square_();
  const at::Tensor excess = centred.mean({1}).sub_(3).masked_fill_(variance <= floor, 0);
  const at::Tensor host = excess.to(at::kCPU, at::kDouble).contiguous();
  return {host.data_ptr<double>(), host.data_ptr<double>() + host.numel()};
}

double matrix_excess_kurtosis(const at::Tensor& matrix) {
  if (!matrix.is_cuda()) {
    const at::Tensor values = matrix.contiguous();
    return moments(values.data_ptr<float>(), values.numel()).excess_kurtosis();
  }
  at::Tensor centred = matrix.to(at::kDouble);
  centred.sub_(centred.mean()).square_();
  const double variance = centred.mean().item<double>();
  const double fourth = centred.square_().mean().item<double>();
  return variance > 0 ? fourth / (variance * variance) - 3 : 0;
}

}  // namespace strata
