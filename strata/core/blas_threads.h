#pragma once

namespace strata {

// Sets the number of OpenBLAS's own threads for a scope. Many small LAPACK calls from several threads at once
// otherwise queue for OpenBLAS's one pool and spin there, which costs many times what the calls do. Does
// nothing where BLAS is another library.
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
