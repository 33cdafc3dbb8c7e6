#pragma once

#include <cstdint>
#include <functional>

#include "strata/vision/graph.h"

namespace strata::vision {

// Images that run through a network together: on a CPU as few as stay near a core's caches, and one where the
// network mixes them.
int64_t image_batch(const Graph& graph);

// Batches of `images` images.
int64_t batch_count(int64_t images, const Graph& graph);

// Calls body(index, first image, images) for every batch, without gradients. On a CPU each batch is computed
// by one thread, which is faster for small convolutions than threads that share them, and rounds alike for
// any number of threads; batches come in any order and at the same time.
using BatchBody = std::function<void(int64_t index, int64_t first, int64_t count)>;
void for_each_batch(int64_t images, const Graph& graph, const BatchBody& body);

// The same one after the other.
void for_each_batch_in_order(int64_t images, const Graph& graph, const BatchBody& body);

}  // namespace strata::vision
