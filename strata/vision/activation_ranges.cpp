#include "strata/vision/activation_ranges.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "strata/core/error.h"
#include "strata/core/progress.h"
#include "strata/core/threads.h"
#include "strata/device/device.h"
#include "strata/vision/batches.h"
#include "strata/vision/rounding.h"
#include "strata/vision/tensor_conversion.h"
#include "strata/vision/top_k.h"

namespace strata::vision {
namespace {

constexpr int64_t kSample = 1 << 15;  // values kept of a layer
constexpr int kRanges = 50;           // candidates of the least loss
constexpr int64_t kGrain = 1 << 15;   // values rounded by one thread at a time

// What one batch puts into a layer, or several after one another.
struct Collector {
  InputStatistics statistics;
  at::Tensor channel_sums;
  double count = 0;  // values a channel

  void look_at(const at::Tensor& input, int64_t channel_axis, int64_t wanted) {
    channel_axis = channel_axis < 0 ? channel_axis + input.dim() : channel_axis;
    statistics.lowest = input.min().item<float>();
    statistics.highest = input.max().item<float>();
    const at::Tensor flat = input.reshape({-1});
    const int64_t step = std::max<int64_t>(1, flat.numel() / std::max<int64_t>(1, wanted)) | 1;
    const at::Tensor some = flat.slice(0, 0, flat.numel(), step).to(at::kCPU).contiguous();
    statistics.sample.assign(some.data_ptr<float>(), some.data_ptr<float>() + some.numel());
    statistics.values_per_image = input.numel() / input.size(0);
    std::vector<int64_t> others;
    for (int64_t d = 0; d < input.dim(); ++d)
      if (d != channel_axis) others.push_back(d);
    channel_sums =
        (others.empty() ? input.to(at::kDouble) : input.sum(others, false, at::kDouble)).to(at::kCPU);
    count = static_cast<double>(input.numel()) / static_cast<double>(channel_sums.numel());
  }

  void add(Collector&& next) {
    if (!channel_sums.defined()) {
      *this = std::move(next);
      return;
    }
    statistics.lowest = std::min(statistics.lowest, next.statistics.lowest);
    statistics.highest = std::max(statistics.highest, next.statistics.highest);
    const std::vector<float>& sample = next.statistics.sample;
    statistics.sample.insert(statistics.sample.end(), sample.begin(), sample.end());
    channel_sums = channel_sums + next.channel_sums;
    count += next.count;
  }

  InputStatistics finish() {
    std::sort(statistics.sample.begin(), statistics.sample.end());
    statistics.channel_means = (channel_sums / count).to(at::kFloat);
    return std::move(statistics);
  }
};

ActivationCode code_of_range(float low, float high, int bits) {
  low = std::min(low, 0.0f);  // zero must be exact: it pads images
  high = std::max(high, 0.0f);
  const int steps = (1 << bits) - 1;
  ActivationCode code;
  code.bits = bits;
  code.scale = std::max((high - low) / static_cast<float>(steps), 1e-20f);
  code.zero_point = std::clamp(static_cast<int>(std::nearbyint(-low / code.scale)), 0, steps);
  return code;
}

float quantile(const std::vector<float>& ascending, double fraction) {
  const double place = fraction * static_cast<double>(ascending.size() - 1);
  return ascending[static_cast<size_t>(
      std::clamp(std::nearbyint(place), 0.0, static_cast<double>(ascending.size() - 1)))];
}

// Rounds values to a code and back. Compiled for several kinds of processors, which all compute the same.
__attribute__((target_clones("avx512f", "avx2", "default"))) void round_values(const float* from, float* to,
                                                                               int64_t count, float step,
                                                                               float lowest, float highest) {
  for (int64_t i = 0; i < count; ++i)
    to[i] = nearest(std::min(std::max(from[i] / step, lowest), highest)) * step;
}

}  // namespace

std::vector<InputStatistics> observe_inputs(const Graph& graph, const ImageSet& images) {
  const size_t layers = graph.layers().size();
  const int64_t batches = batch_count(images.size(), graph);
  std::vector<std::vector<Collector>> collectors(static_cast<size_t>(batches),
                                                 std::vector<Collector>(layers));
  use_threads();
  Progress progress("Calibrating", images.size(), "images");
  for_each_batch(images.size(), graph, [&](int64_t index, int64_t first, int64_t count) {
    std::vector<Collector>& of_batch = collectors[static_cast<size_t>(index)];
    Overrides overrides(layers);
    for (size_t l = 0; l < layers; ++l)
      overrides[l].input = [&, l](const at::Tensor& input) {
        of_batch[l].look_at(input, graph.layers()[l].channel_axis, kSample / batches);
        return input;
      };
    Execution(graph, images.batch(first, count, graph.device())).finish(overrides);
    progress.advance(count);
  });
  std::vector<InputStatistics> statistics;
  for (size_t l = 0; l < layers; ++l) {
    Collector all;  // in the order of the images
    for (std::vector<Collector>& of_batch : collectors) all.add(std::move(of_batch[l]));
    statistics.push_back(all.finish());
    if (!std::isfinite(statistics[l].lowest) || !std::isfinite(statistics[l].highest))
      fail("{}: what flows into '{}' on {} is not finite", graph.model().path.string(),
           graph.layers()[l].tensor, images.source);
  }
  return statistics;
}

at::Tensor ActivationCode::simulate(const at::Tensor& values) const {
  const auto lowest = static_cast<float>(-zero_point);
  const auto highest = static_cast<float>((1 << bits) - 1 - zero_point);
  if (!values.is_cpu() || values.scalar_type() != at::kFloat)
    return at::div(values, scale).clamp_(lowest, highest).round_().mul_(scale);
  // In one pass, over the values themselves where nothing else reads them: on a CPU more passes would take a
  // fifth of a network's time.
  const bool over = is_free(values);
  const at::Tensor input = values.is_non_overlapping_and_dense() ? values : values.contiguous();
  at::Tensor result = over ? values : at::empty_like(input);
  const float* from = input.data_ptr<float>();
  float* to = result.data_ptr<float>();
  parallel_for(input.numel(), kGrain, [=, step = scale](int64_t begin, int64_t end) {
    round_values(from + begin, to + begin, end - begin, step, lowest, highest);
  });
  return result;
}

double squared_error(const InputStatistics& statistics, const ActivationCode& code) {
  const auto lowest = static_cast<float>(-code.zero_point);
  const auto highest = static_cast<float>((1 << code.bits) - 1 - code.zero_point);
  const float inverse = 1 / code.scale;
  const float* values = statistics.sample.data();
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (size_t i = 0; i < statistics.sample.size(); ++i) {
    const float clamped = std::min(std::max(values[i] * inverse, lowest), highest);
    const float error = values[i] - nearest(clamped) * code.scale;
    sum += error * error;
  }
  return sum / static_cast<double>(std::max<size_t>(1, statistics.sample.size()));
}

double code_divergence(const InputStatistics& statistics, const ActivationCode& code) {
  constexpr size_t kBins = 2048;
  const float low = statistics.lowest, width = (statistics.highest - low) / kBins;
  if (!(width > 0)) return 0;
  const auto bin_of = [&](float value) {
    return static_cast<size_t>(std::clamp((value - low) / width, 0.0f, static_cast<float>(kBins - 1)));
  };
  const float first = code.lowest() - code.scale / 2, last = code.highest() + code.scale / 2;
  std::vector<double> within(kBins, 0), p(kBins, 0);
  for (float value : statistics.sample) {
    if (value >= first && value <= last) ++within[bin_of(value)];
    ++p[bin_of(std::clamp(value, first, last))];
  }
  std::vector<double> mass(size_t{1} << code.bits, 0), holders(mass.size(), 0);
  const auto code_of = [&](size_t bin) {
    const float middle = low + (static_cast<float>(bin) + 0.5f) * width;
    const float level = nearest(middle / code.scale) + static_cast<float>(code.zero_point);
    return static_cast<size_t>(std::clamp(level, 0.0f, static_cast<float>(mass.size() - 1)));
  };
  double kept = 0;
  for (size_t b = 0; b < kBins; ++b) {
    if (within[b] == 0) continue;
    mass[code_of(b)] += within[b], ++holders[code_of(b)], kept += within[b];
  }
  if (kept == 0) return std::numeric_limits<double>::infinity();
  const auto count = static_cast<double>(statistics.sample.size());
  const double least = 1e-3 / count;  // of Q where only what was cut off lies
  double divergence = 0;
  for (size_t b = 0; b < kBins; ++b) {
    if (p[b] == 0) continue;
    const double q = within[b] == 0 ? least : mass[code_of(b)] / holders[code_of(b)] / kept;
    divergence += p[b] / count * std::log(p[b] / count / q);
  }
  return divergence;
}

ActivationCode choose_code(const InputStatistics& statistics, int bits, RangeRule rule, double percentile) {
  if (bits < kLowestWidth || bits > kHighestWidth)
    fail("a width of {} bits was asked for; activations take {} to {}", bits, kLowestWidth, kHighestWidth);
  const ActivationCode widest = code_of_range(statistics.lowest, statistics.highest, bits);
  if (rule == RangeRule::MinMax || statistics.sample.empty()) return widest;
  if (rule == RangeRule::Percentile)
    return code_of_range(quantile(statistics.sample, 1 - percentile / 100),
                         quantile(statistics.sample, percentile / 100), bits);
  const auto loss = rule == RangeRule::Divergence ? code_divergence : squared_error;
  ActivationCode best = widest;
  double least = loss(statistics, widest);
  for (int r = 1; r < kRanges; ++r) {
    const float fraction = static_cast<float>(r) / kRanges;
    const ActivationCode code =
        code_of_range(statistics.lowest * fraction, statistics.highest * fraction, bits);
    const double error = loss(statistics, code);
    if (error < least) {
      least = error;
      best = code;
    }
  }
  return best;
}

}  // namespace strata::vision
