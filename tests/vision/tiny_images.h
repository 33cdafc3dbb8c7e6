#pragma once

#include <ATen/ATen.h>

#include "strata/vision/graph.h"
#include "strata/vision/images.h"
#include "tests/support/tiny_network.h"

namespace strata::vision {

// Noise, with labels in turn.
inline ImageSet tiny_images(int64_t count, uint64_t seed = 7) {
  Random random(seed);
  ImageSet images;
  images.source = "tiny images";
  images.pixels = at::tensor(random_values(count * 3 * 64, random), at::kFloat).reshape({count, 3, 8, 8});
  for (int64_t i = 0; i < count; ++i) images.labels.push_back(i % 5);
  return images;
}

// The model's first output on these images.
inline at::Tensor run(const OnnxModel& model, const at::Tensor& images) {
  return Execution(Graph(model, at::kCPU), {images}).finish()[0];
}

}  // namespace strata::vision
