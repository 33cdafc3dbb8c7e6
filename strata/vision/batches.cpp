#include "strata/vision/batches.h"

#include <algorithm>

#include "strata/core/blas_threads.h"
#include "strata/core/interrupt.h"
#include "strata/core/threads.h"

namespace strata {

int64_t image_batch(at::Device device) {
  return device.is_cpu() ? 16 : 256;
}

int64_t batch_count(int64_t images, at::Device device) {
  return (images + image_batch(device) - 1) / image_batch(device);
}

void for_each_batch_in_order(int64_t images, at::Device device, const BatchBody& body) {
  const c10::InferenceMode inference;
  const int64_t size = image_batch(device);
  for (int64_t index = 0; index < batch_count(images, device); ++index) {
    check_interrupted();
    body(index, index * size, std::min(size, images - index * size));
  }
}

void for_each_batch(int64_t images, at::Device device, const BatchBody& body) {
  if (!device.is_cpu() || thread_count() == 1 || batch_count(images, device) == 1)
    return for_each_batch_in_order(images, device, body);
  const BlasThreads one_thread(1);
  const int64_t size = image_batch(device);
  parallel_for(batch_count(images, device), 1, [&](int64_t begin, int64_t end) {
    const c10::InferenceMode inference;
    for (int64_t index = begin; index < end; ++index) {
      check_interrupted();
      body(index, index * size, std::min(size, images - index * size));
    }
  });
}

}  // namespace strata
