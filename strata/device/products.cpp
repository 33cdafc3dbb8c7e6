#include "strata/device/products.h"

#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <functional>

#include "strata/core/blas_threads.h"
#include "strata/core/threads.h"

namespace strata {
namespace {

constexpr int64_t kColumns = 512;  // of a piece of a product

// Calls `compute` for pieces of the columns, in threads on a CPU.
void for_pieces(const at::Tensor& like, int64_t columns,
                const std::function<void(int64_t first, int64_t count)>& compute) {
  if (!like.is_cpu()) return compute(0, columns);
  const BlasThreads one_thread(1);
  parallel_for(columns, kColumns, [&](int64_t begin, int64_t end) {
    const at::NoGradGuard no_grad;  // of this thread
    compute(begin, end - begin);
  });
}

}  // namespace

OneThread::OneThread() : tensor_threads_(at::get_num_threads()), blas_(1) {
  if (tensor_threads_ != 1) at::set_num_threads(1);
}

OneThread::~OneThread() {
  if (tensor_threads_ != 1) at::set_num_threads(tensor_threads_);
}

at::Tensor product(const at::Tensor& a, const at::Tensor& b) {
  at::Tensor result = at::empty({a.size(0), b.size(1)}, a.options());
  for_pieces(a, b.size(1), [&](int64_t first, int64_t count) {
    at::Tensor piece = result.narrow(1, first, count);
    at::mm_out(piece, a, b.narrow(1, first, count));
  });
  return result;
}

void add_product(at::Tensor& sum, const at::Tensor& a, const at::Tensor& b) {
  for_pieces(a, b.size(1), [&](int64_t first, int64_t count) {
    sum.narrow(1, first, count).addmm_(a, b.narrow(1, first, count));
  });
}

double total(const at::Tensor& values) {
  const OneThread one;
  return values.sum(at::kDouble).item<double>();
}

}  // namespace strata
