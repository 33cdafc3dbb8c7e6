#pragma once

#include <ATen/ATen.h>

#include <vector>

#include "strata/vision/graph.h"
#include "strata/vision/images.h"
#include "strata/vision/weight_codes.h"

namespace strata::vision {

// What calibration images put into one layer.
struct InputStatistics {
  float lowest = 0, highest = 0;
  std::vector<float> sample;  // some of the values, evenly spread, ascending
  at::Tensor channel_means;   // [channels], for bias correction
  int64_t values_per_image = 0;
};

// Runs the images through the network as it is and looks at what flows into every layer.
std::vector<InputStatistics> observe_inputs(const Graph& graph, const ImageSet& images);

// An activation as whole numbers: value = scale * (code - zero_point), code in [0, 2^bits - 1].
struct ActivationCode {
  int bits = 8;
  float scale = 1;
  int zero_point = 0;

  float lowest() const { return scale * static_cast<float>(-zero_point); }
  float highest() const { return scale * static_cast<float>((1 << bits) - 1 - zero_point); }
  at::Tensor simulate(const at::Tensor& values) const;  // rounded to the code and back
};

// The code for a layer's input by `rule`; `percentile` in (50, 100] is the part of the values that Percentile
// keeps below the upper and above the lower end.
ActivationCode choose_code(const InputStatistics& statistics, int bits, RangeRule rule, double percentile);

// Mean squared error of a code on the sample.
double squared_error(const InputStatistics& statistics, const ActivationCode& code);

// KL divergence of the codes' distribution from the sample's, in nats (Migacz 2017, TensorRT's calibration):
// P is the sample's histogram of 2,048 bins with what the code cuts off in the bins at the ends of its range;
// in Q each code's share of the values within the range is spread evenly over those of its bins that hold
// any.
double code_divergence(const InputStatistics& statistics, const ActivationCode& code);

}  // namespace strata::vision
