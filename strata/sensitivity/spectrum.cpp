#include "strata/sensitivity/spectrum.h"

#include <lapacke.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "strata/core/error.h"

namespace strata {
namespace {

// The workspace is counted in integers: LAPACK's own query returns it as a float, which is rounded down once
// 1 + 6 n + 2 n^2 passes 2^24.
lapack_int eigenvector_workspace(int64_t n) {
  const int64_t size = 1 + 6 * n + 2 * n * n;
  if (size > std::numeric_limits<lapack_int>::max())
    fail("an eigendecomposition of order {} is beyond what this LAPACK can index; the largest is 32766", n);
  return static_cast<lapack_int>(size);
}

// Eigenvalues ascend; the eigenvectors overwrite `matrix`, in rows. A row-major lower triangle is LAPACK's
// upper one.
std::vector<float> eigen_in_place(float* matrix, int64_t n) {
  std::vector<float> values(n), work(eigenvector_workspace(n));
  std::vector<lapack_int> integers(3 + 5 * n);
  const lapack_int order = static_cast<lapack_int>(n);
  const lapack_int info = LAPACKE_ssyevd_work(LAPACK_COL_MAJOR, 'V', 'U', order, matrix, order, values.data(),
                                              work.data(), static_cast<lapack_int>(work.size()),
                                              integers.data(), static_cast<lapack_int>(integers.size()));
  if (info != 0)
    fail("the eigendecomposition of a Gram matrix of order {} did not converge (ssyevd: {})", n, info);
  return values;
}

}  // namespace

void add_gram(at::Tensor& gram, const at::Tensor& rows) {
  constexpr int64_t kBlock = 512;
  const int64_t d = gram.size(0);
  for (int64_t first = 0; first < d; first += kBlock) {
    const int64_t width = std::min(kBlock, d - first);
    at::Tensor block = gram.narrow(0, first, width).narrow(1, 0, first + width);
    block.addmm_(rows.narrow(1, first, width).t(), rows.narrow(1, 0, first + width));
  }
}

int64_t leading_count(const double* energies, int64_t n, double tau) {
  double total = 0;
  for (int64_t i = 0; i < n; ++i) total += std::max(0.0, energies[i]);
  double leading = 0;
  int64_t k = 0;
  while (k < n && (k < 2 || leading < tau * total)) leading += std::max(0.0, energies[n - 1 - k++]);
  return k;
}

SingularPairs leading_singular_pairs(at::Tensor gram, double tau) {
  const int64_t n = gram.size(0);
  std::vector<double> energies;
  if (gram.is_cuda()) {
    const auto [values, vectors] = at::linalg_eigh(gram, "L");
    const at::Tensor host = values.to(at::kCPU, at::kDouble).contiguous();
    energies.assign(host.data_ptr<double>(), host.data_ptr<double>() + n);
    gram = vectors.t();
  } else {
    const std::vector<float> values = eigen_in_place(gram.data_ptr<float>(), n);
    energies.assign(values.begin(), values.end());
  }
  const int64_t k = leading_count(energies.data(), n, tau);
  SingularPairs pairs;
  for (int64_t i = n - k; i < n; ++i) pairs.values.push_back(std::sqrt(std::max(0.0, energies[i])));
  pairs.vectors = gram.narrow(0, n - k, k);
  return pairs;
}

std::vector<double> product_eigenpairs(double* a, double* b, int64_t n) {
  std::vector<double> values(n), work(eigenvector_workspace(n));
  std::vector<lapack_int> integers(3 + 5 * n);
  const lapack_int order = static_cast<lapack_int>(n);
  const lapack_int info = LAPACKE_dsygvd_work(
      LAPACK_COL_MAJOR, 2, 'V', 'U', order, a, order, b, order, values.data(), work.data(),
      static_cast<lapack_int>(work.size()), integers.data(), static_cast<lapack_int>(integers.size()));
  if (info != 0)
    fail("the eigendecomposition of a circuit of rank {} did not converge (dsygvd: {})", n, info);
  return values;
}

}  // namespace strata
