#pragma once

#include <ATen/ATen.h>

#include "strata/core/blas_threads.h"

namespace strata {

// Products and sums whose last bits depend on the kind of processor alone. BLAS libraries and LibTorch round
// otherwise where threads share the work, and otherwise for another number of them; so a product on a CPU is
// computed in pieces of one size, each by one thread, and a sum by one thread.

// Keeps LibTorch's and the BLAS's own threads out of what is computed on a CPU in a scope. Leaving a scope
// makes LibTorch start a pool of threads, which spin for a while: hold one around a loop rather than in it.
class OneThread {
 public:
  OneThread();
  ~OneThread();
  OneThread(const OneThread&) = delete;
  OneThread& operator=(const OneThread&) = delete;

 private:
  int tensor_threads_;
  BlasThreads blas_;
};

// a b for a [m, k] and b [k, n] -> [m, n], in pieces of the columns of b; added to `sum` in the second form.
at::Tensor product(const at::Tensor& a, const at::Tensor& b);
void add_product(at::Tensor& sum, const at::Tensor& a, const at::Tensor& b);

// The sum of all elements, in double precision.
double total(const at::Tensor& values);

}  // namespace strata
