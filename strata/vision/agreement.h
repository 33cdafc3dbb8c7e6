#pragma once

#include <optional>
#include <string>
#include <vector>

#include "strata/vision/graph.h"
#include "strata/vision/images.h"

namespace strata::vision {

// How close one output of a network stays to a reference's, over all images.
struct OutputAgreement {
  std::string name;
  double sqnr = 0;    // 10 log10(sum of y^2 / sum of (y - y')^2), decibels; 200 where nothing differs
  double cosine = 0;  // mean over images of the angle's cosine between y and y'
};

// The same of all outputs, none of which needs labels.
struct Agreement {
  int64_t images = 0;
  std::vector<OutputAgreement> outputs;
  std::optional<double> top1;  // part of the images with the same first class, where the output is classes

  double sqnr() const;    // mean over outputs
  double cosine() const;  // likewise
};

// Compares outputs as compute_outputs (top_k.h) gives them.
Agreement compare_outputs(const Graph& graph, const Tensors& reference, const Tensors& other);

// Sum of (y - y')^2 over sum of y^2 for each output, mean over outputs: what SQNR says on a linear scale.
double relative_noise(const Tensors& reference, const Tensors& other);

}  // namespace strata::vision
