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

int64_t image_batch(const Graph& graph) {
  if (!graph.runs_images_together()) return 1;
  return graph.device().is_cpu() ? 16 : 256;
}

int64_t batch_count(int64_t images, const Graph& graph) {
  return (images + image_batch(graph) - 1) / image_batch(graph);
}

void for_each_batch_in_order(int64_t images, const Graph& graph, const BatchBody& body) {
  run_batches(0, batch_count(images, graph), images, image_batch(graph), body);
}

void for_each_batch(int64_t images, const Graph& graph, const BatchBody& body) {
  const int64_t batches = batch_count(images, graph);
  if (!graph.device().is_cpu() || thread_count() == 1 || batches < thread_count())
    return for_each_batch_in_order(images, graph, body);
  const BlasThreads one_thread(1);
  parallel_for(batches, 1, [&](int64_t begin, int64_t end) {
    run_batches(begin, end, images, image_batch(graph), body);
  });
}

}  // namespace strata::vision
