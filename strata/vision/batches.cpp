#include "strata/vision/batches.h"

#include <algorithm>

#include "strata/core/interrupt.h"
#include "strata/core/memory.h"
#include "strata/core/threads.h"
#include "strata/device/products.h"

namespace strata::vision {
namespace {

void run_batches(int64_t begin, int64_t end, int64_t images, int64_t size, const BatchBody& body) {
  const c10::InferenceMode inference;
  keep_freed_memory();
  for (int64_t index = begin; index < end; ++index) {
    check_interrupted();
    body(index, index * size, std::min(size, images - index * size));
  }
}

}  // namespace

int64_t image_batch(const Graph& graph) {
  if (!graph.runs_images_together()) return 1;
  if (!graph.device().is_cpu()) return 256;
  constexpr int64_t kMost = 16, kValues = 1 << 19;
  int64_t values = 1;
  for (int64_t size : graph.input_shape(0)) values *= std::max<int64_t>(1, size);
  return std::clamp<int64_t>(kValues / values, 1, kMost);
}

int64_t batch_count(int64_t images, const Graph& graph) {
  return (images + image_batch(graph) - 1) / image_batch(graph);
}

void for_each_batch_in_order(int64_t images, const Graph& graph, const BatchBody& body) {
  run_batches(0, batch_count(images, graph), images, image_batch(graph), body);
}

void for_each_batch(int64_t images, const Graph& graph, const BatchBody& body) {
  if (!graph.device().is_cpu()) return for_each_batch_in_order(images, graph, body);
  const OneThread each;
  parallel_for(batch_count(images, graph), 1, [&](int64_t begin, int64_t end) {
    run_batches(begin, end, images, image_batch(graph), body);
  });
}

}  // namespace strata::vision
