#include "strata/vision/weight_codes.h"

#include <algorithm>
#include <cmath>

#include "strata/core/error.h"
#include "strata/core/threads.h"
#include "strata/vision/rounding.h"

namespace strata::vision {
namespace {

constexpr int kScales = 40;  // candidates, from a twentieth of the largest value's scale on

float squared_error(const float* row, int64_t n, float scale, float lowest, float highest) {
  const float inverse = 1 / scale;
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < n; ++i) {
    const float code = std::min(std::max(nearest(row[i] * inverse), lowest), highest);
    const float error = row[i] - code * scale;
    sum += error * error;
  }
  return sum;
}

float best_scale(const float* row, int64_t n, int bits, RangeRule rule) {
  const auto lowest = static_cast<float>(-(1 << (bits - 1))), highest = -lowest - 1;
  float largest = 0;
  for (int64_t i = 0; i < n; ++i) largest = std::max(largest, std::abs(row[i]));
  const float widest = largest / highest;
  if (!(widest > 1e-30f)) return 1;
  if (rule != RangeRule::SquaredError) return widest;
  float best = widest, least = squared_error(row, n, widest, lowest, highest);
  for (int s = kScales / 20; s < kScales; ++s) {
    const float scale = widest * static_cast<float>(s) / kScales;
    const float error = squared_error(row, n, scale, lowest, highest);
    if (error < least) {
      least = error;
      best = scale;
    }
  }
  return best;
}

}  // namespace

at::Tensor WeightCodes::dequantize(int64_t output_axis) const {
  std::vector<int64_t> shape(static_cast<size_t>(codes.dim()), 1);
  shape[static_cast<size_t>(output_axis)] = -1;
  return codes.to(at::kFloat) * at::tensor(scales, at::kFloat).reshape(shape);
}

WeightCodes quantize_weight(const Layer& layer, int bits, RangeRule rule) {
  if (bits < kLowestWidth || bits > kHighestWidth)
    fail("a width of {} bits was asked for; weights take {} to {}", bits, kLowestWidth, kHighestWidth);
  const at::Tensor rows =
      layer.weight.to(at::kCPU).transpose(0, layer.output_axis).contiguous();  // outputs first
  const int64_t outputs = rows.size(0), n = outputs > 0 ? rows.numel() / outputs : 0;
  at::Tensor codes = at::empty(rows.sizes(), at::kChar);
  const float* values = rows.data_ptr<float>();
  auto* target = codes.data_ptr<int8_t>();
  WeightCodes result;
  result.bits = bits;
  result.scales.resize(static_cast<size_t>(outputs));
  std::vector<double> errors(static_cast<size_t>(outputs));
  const int highest = (1 << (bits - 1)) - 1;
  parallel_for(
      outputs, std::max<int64_t>(1, 4096 / std::max<int64_t>(1, n)), [&](int64_t begin, int64_t end) {
        for (int64_t o = begin; o < end; ++o) {
          const float* row = values + o * n;
          const float scale = best_scale(row, n, bits, rule);
          for (int64_t i = 0; i < n; ++i) {
            const float code = std::min(std::max(nearest(row[i] / scale), static_cast<float>(-highest - 1)),
                                        static_cast<float>(highest));
            target[o * n + i] = static_cast<int8_t>(code);
            const double error = row[i] - code * scale;
            errors[static_cast<size_t>(o)] += error * error;
          }
          result.scales[static_cast<size_t>(o)] = scale;
        }
      });
  for (double error : errors) result.squared_error += error;
  result.codes = codes.transpose(0, layer.output_axis).contiguous();
  return result;
}

}  // namespace strata::vision
