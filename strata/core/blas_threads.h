#pragma once

namespace strata {

// OpenBLAS keeps a pool of threads of its own that neither LibTorch nor OpenMP knows of. Where BLAS is
// another library all of this does nothing.

// OpenBLAS takes its oldest kernels on a processor that is newer than the library, a sixth as fast as those
// for AVX-512: has it take the best that the processor runs. Does nothing the second time, nor where OpenBLAS
// knew better or OPENBLAS_CORETYPE says otherwise. No product may be under way.
void choose_blas_kernels();

// Sets the number of its threads from now on; without effect while a BlasThreads lives.
void set_blas_threads(int count);

// The number of OpenBLAS's threads for a scope. With one, each product is computed in the thread that asks
// for it: threads that have work of their own otherwise queue for the pool and spin there, which for small
// products costs many times what they do. Scopes nest, also those of several threads.
class BlasThreads {
 public:
  explicit BlasThreads(int count);
  ~BlasThreads();
  BlasThreads(const BlasThreads&) = delete;
  BlasThreads& operator=(const BlasThreads&) = delete;

 private:
  int before_ = 0;
};

}  // namespace strata
