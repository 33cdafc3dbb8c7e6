#pragma once

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "strata/core/blas_threads.h"
#include "strata/sensitivity/nsds_components.h"

// NSDS by its definition: every circuit a [d, d] product in double precision, a full singular value
// decomposition of it, moments entry by entry. Shares no code with the library.
namespace strata::brute_force {

// Matrices this small are faster without BLAS's own threads, by far on a busy machine.
inline const BlasThreads one_thread(1);

inline double excess_kurtosis(const at::Tensor& tensor) {
  const at::Tensor x = tensor.to(at::kDouble).contiguous();
  const double* values = x.data_ptr<double>();
  const int64_t n = x.numel();
  long double mean = 0, second = 0, fourth = 0;
  for (int64_t i = 0; i < n; ++i) mean += values[i];
  mean /= n;
  for (int64_t i = 0; i < n; ++i) {
    const long double square = (values[i] - mean) * (values[i] - mean);
    second += square;
    fourth += square * square;
  }
  if (second == 0) return 0;
  return static_cast<double>(fourth * n / (second * second) - 3);
}

struct Svd {
  at::Tensor u, sigma, vt;
  int64_t k = 0;  // leading ones
};

inline Svd svd(const at::Tensor& matrix, double tau) {
  Svd result;
  std::tie(result.u, result.sigma, result.vt) = at::linalg_svd(matrix.to(at::kDouble), false);
  const double total = result.sigma.square().sum().item<double>();
  double sum = 0;
  while (result.k < result.sigma.numel() && (result.k < 2 || sum < tau * total))
    sum += std::pow(result.sigma[result.k++].item<double>(), 2);
  return result;
}

inline double expressiveness(const Svd& svd, const std::vector<double>& beta, const NsdsOptions& options) {
  double total = 0, entropy = 0;
  for (int64_t i = 0; i < svd.k; ++i) total += svd.sigma[i].item<double>() * beta[i];
  if (total == 0) return 0;
  for (int64_t i = 0; i < svd.k; ++i) {
    const double p = svd.sigma[i].item<double>() * beta[i] / total;
    entropy -= p * std::log(p + 1e-12);
  }
  return options.multiply_entropy ? total * std::exp(entropy) : total / std::exp(entropy);
}

// P: [d, k], columns.
inline at::Tensor basis(const at::Tensor& unembedding, const NsdsOptions& options) {
  const Svd s = svd(unembedding, options.tau);
  return s.vt.narrow(0, 0, s.k).t();
}

inline ComponentValues detector_matrix(const at::Tensor& weight, const NsdsOptions& options) {
  const Svd s = svd(weight, options.tau);
  std::vector<double> beta;
  for (int64_t i = 0; i < s.k; ++i) beta.push_back(std::log(1 + std::max(0.0, excess_kurtosis(s.vt[i]))));
  return {excess_kurtosis(weight), expressiveness(s, beta, options)};
}

inline ComponentValues writer_matrix(const at::Tensor& weight, const at::Tensor& p,
                                     const NsdsOptions& options) {
  const Svd s = svd(weight, options.tau);
  std::vector<double> beta;
  for (int64_t i = 0; i < s.k; ++i) beta.push_back(at::mv(p.t(), s.u.select(1, i)).norm().item<double>());
  return {excess_kurtosis(weight), expressiveness(s, beta, options)};
}

inline ComponentValues query_key(const at::Tensor& query, const at::Tensor& key, int64_t heads,
                                 int64_t kv_heads, const NsdsOptions& options) {
  const int64_t r = query.size(0) / heads;
  ComponentValues mean;
  for (int64_t h = 0; h < heads; ++h) {
    const at::Tensor q = query.narrow(0, h * r, r).to(at::kDouble);
    const at::Tensor k = key.narrow(0, h / (heads / kv_heads) * r, r).to(at::kDouble);
    const at::Tensor product = at::mm(q.t(), k);
    const Svd s = svd(product, options.tau);
    std::vector<double> beta;
    for (int64_t i = 0; i < s.k; ++i)
      beta.push_back(std::log(1 + std::max(0.0, excess_kurtosis(s.u.select(1, i))) *
                                      std::max(0.0, excess_kurtosis(s.vt[i]))));
    mean.numerical_vulnerability += excess_kurtosis(product) / static_cast<double>(heads);
    mean.structural_expressiveness += expressiveness(s, beta, options) / static_cast<double>(heads);
  }
  return mean;
}

inline ComponentValues output_value(const at::Tensor& output, const at::Tensor& value, int64_t heads,
                                    int64_t kv_heads, const at::Tensor& p, const NsdsOptions& options) {
  const int64_t r = output.size(1) / heads;
  ComponentValues mean;
  for (int64_t h = 0; h < heads; ++h) {
    const at::Tensor o = output.narrow(1, h * r, r).to(at::kDouble);
    const at::Tensor v = value.narrow(0, h / (heads / kv_heads) * r, r).to(at::kDouble);
    const ComponentValues head = writer_matrix(at::mm(o, v), p, options);
    mean.numerical_vulnerability += head.numerical_vulnerability / static_cast<double>(heads);
    mean.structural_expressiveness += head.structural_expressiveness / static_cast<double>(heads);
  }
  return mean;
}

}  // namespace strata::brute_force
