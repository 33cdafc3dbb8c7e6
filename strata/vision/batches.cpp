#include "strata/vision/batches.h"

#include <algorithm>

#include "strata/core/blas_threads.h"
#include "strata/core/interrupt.h"
#include "strata/core/threads.h"

namespace strata::vision {
namespace {

void run_batches(int64_t begin, int64_t end, int64_t images, int64_t size, const BatchBody& body) {
  const c10::InferenceMode inference;
  for (int64_t index = begin; index < end; ++index) {
    check_interrupted();
    body(index, index * size, std::min(size, images - index * size));
  }
}

}  // namespace

int64_t image_batch(at::Device device) {
  return device.is_cpu() ? 16 : 256;
}

int64_t batch_count(int64_t images, at::Device device) {
  return (images + image_batch(device) - 1) / image_batch(device);
}

void for_each_batch_in_order(int64_t images, at::Device device, const BatchBody& body) {
  run_batches(0, batch_count(images, device), images, image_batch(device), body);
}

void for_each_batch(int64_t images, at::Device device, const BatchBody& body) {
  const int64_t batches = batch_count(images, device);
  if (!device.is_cpu() || thread_count() == 1 || batches < thread_count())
    return for_each_batch_in_order(images, device, body);
  const BlasThreads one_thread(1);
  parallel_for(batches, 1, [&](int64_t begin, int64_t end) {
    run_batches(begin, end, images, image_batch(device), body);
  });
}

}  // namespace strata::vision
