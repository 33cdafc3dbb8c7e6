#pragma once

#include <functional>
#include <vector>

#include "strata/vision/graph.h"
#include "strata/vision/images.h"

namespace strata::vision {

struct Accuracy {
  int64_t images = 0;
  double top1 = 0, top5 = 0;  // fractions
  double cross_entropy = 0;   // mean, nats
};

// The classes' row for each of `images` images among what a network gives: its first output, [images,
// classes] or with dimensions of one behind that. Throws when it is anything else.
at::Tensor logits_of(const Graph& graph, const Tensors& outputs, int64_t images);

// Whether the first output can be classes: one row of at least two numbers for each image.
bool gives_classes(const Tensors& outputs);

// All outputs for all images, [N, ...] each, as float32 on the CPU. As compute_logits.
Tensors compute_outputs(const Graph& graph, const ImageSet& images, const Overrides& overrides = {});

// Logits of all images [N, classes] on the CPU. On a CPU several threads call the functions of `overrides` at
// the same time. Shows progress and answers Ctrl-C.
at::Tensor compute_logits(const Graph& graph, const ImageSet& images, const Overrides& overrides = {});

// Throws naming the images when a label is not among the classes. Equal logits count in favour of the lower
// class, as a sort of them would have it.
Accuracy accuracy_of(const at::Tensor& logits, const ImageSet& images);

Accuracy evaluate(const Graph& graph, const ImageSet& images, const Overrides& overrides = {});

// Mean KL divergence of the classes' distribution from the reference's, in nats.
double divergence(const at::Tensor& reference_logits, const at::Tensor& logits);

}  // namespace strata::vision
