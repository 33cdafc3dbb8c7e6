#include "strata/vision/agreement.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

#include "strata/core/error.h"
#include "strata/core/text.h"
#include "strata/vision/top_k.h"

namespace strata::vision {
namespace {

constexpr double kMostDecibels = 200;

// By one thread, so that no number of threads changes it.
double noise_of(const at::Tensor& reference, const at::Tensor& other) {
  const at::Tensor all = reference.to(at::kCPU, at::kFloat).contiguous(),
                   beside = other.to(at::kCPU, at::kFloat).contiguous();
  const float *y = all.data_ptr<float>(), *z = beside.data_ptr<float>();
  double size = 0, noise = 0;
#pragma omp simd reduction(+ : size, noise)
  for (int64_t i = 0; i < all.numel(); ++i) {
    const double value = y[i], error = value - z[i];
    size += value * value;
    noise += error * error;
  }
  return size > 0 ? noise / size : noise > 0 ? 1 : 0;
}

template <class Value>
double mean_of(const std::vector<OutputAgreement>& outputs, const Value& value) {
  double sum = 0;
  for (const OutputAgreement& output : outputs) sum += output.*value;
  return sum / static_cast<double>(outputs.size());
}

}  // namespace

double Agreement::sqnr() const {
  return mean_of(outputs, &OutputAgreement::sqnr);
}

double Agreement::cosine() const {
  return mean_of(outputs, &OutputAgreement::cosine);
}

Agreement compare_outputs(const Graph& graph, const Tensors& reference, const Tensors& other) {
  if (reference.size() != other.size())
    fail("{} has {} outputs, but the other network {}", graph.model().path.string(), reference.size(),
         other.size());
  Agreement result;
  result.images = reference.front().size(0);
  for (size_t o = 0; o < reference.size(); ++o) {
    OutputAgreement& output = result.outputs.emplace_back();
    output.name = graph.outputs()[o].info.name;
    if (reference[o].sizes() != other[o].sizes())
      fail("{}: the output '{}' is {}, but that of the other network {}", graph.model().path.string(),
           printable(output.name), fmt::join(reference[o].sizes().vec(), " x "),
           fmt::join(other[o].sizes().vec(), " x "));
    output.sqnr = std::min(kMostDecibels, -10 * std::log10(noise_of(reference[o], other[o])));
    const at::Tensor y = reference[o].flatten(1).to(at::kDouble), z = other[o].flatten(1).to(at::kDouble);
    const at::Tensor lengths = at::norm(y, 2, 1) * at::norm(z, 2, 1);
    const at::Tensor cosines = at::where(lengths > 0, (y * z).sum(1) / lengths, at::ones_like(lengths));
    output.cosine = cosines.mean().item<double>();
  }
  if (gives_classes(reference) && gives_classes(other)) {
    const at::Tensor same = reference[0].flatten(1).argmax(1) == other[0].flatten(1).argmax(1);
    result.top1 = same.to(at::kDouble).mean().item<double>();
  }
  return result;
}

double relative_noise(const Tensors& reference, const Tensors& other) {
  double sum = 0;
  for (size_t o = 0; o < reference.size(); ++o) sum += noise_of(reference[o], other[o]);
  return sum / static_cast<double>(reference.size());
}

}  // namespace strata::vision
