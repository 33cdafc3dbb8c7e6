#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <vector>

namespace strata {

// gram += rows' rows, of which only the lower triangle (in blocks) is computed. `rows` is [m, d] float and
// may be a transposed view; `gram` is [d, d] float on the same device.
void add_gram(at::Tensor& gram, const at::Tensor& rows);

// Leading singular pairs of a matrix: values in ascending order, vectors [k, d] in rows, in the same order.
struct SingularPairs {
  std::vector<double> values;
  at::Tensor vectors;
};

// Smallest k >= 2 (or all, when there are fewer) such that the k largest energies sum to at least tau times
// the sum of all. `energies` ascend; negative ones, which are rounding, count as zero.
int64_t leading_count(const double* energies, int64_t n, double tau);

// The leading eigenpairs of a Gram matrix of which the lower triangle is given, as singular pairs of the
// matrix it came from. Overwrites `gram`, whose memory the vectors then take.
SingularPairs leading_singular_pairs(at::Tensor gram, double tau);

// Solves A B x = lambda x for symmetric A and symmetric positive definite B, both [n, n] row-major and both
// overwritten: A by the eigenvectors in rows, normalised to x' B x = 1. Eigenvalues ascend.
std::vector<double> product_eigenpairs(double* a, double* b, int64_t n);

}  // namespace strata
