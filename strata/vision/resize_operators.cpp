// Resize and the earlier Upsample: every axis by itself, as weighted sums of a few places.
#include <algorithm>
#include <cmath>

#include "strata/core/error.h"
#include "strata/vision/operators.h"
#include "strata/vision/tensor_conversion.h"

namespace strata::vision {
namespace {

struct Resizing {
  std::string mode = "nearest", coordinates = "half_pixel", nearest = "round_prefer_floor";
  float cubic = -0.75f;
  bool exclude_outside = false;
};

// One place of the result is the sum over taps of weight x the value at index.
struct Tap {
  std::vector<int64_t> indices;
  std::vector<float> weights;

  void add(int64_t index, float weight) {
    indices.push_back(index);
    weights.push_back(weight);
  }
};

// Where place `at` of `outputs` lies among `inputs` places.
float source_place(const Resizing& resizing, int64_t at, float scale, int64_t inputs, int64_t outputs) {
  const auto x = static_cast<float>(at), in = static_cast<float>(inputs), out = static_cast<float>(outputs);
  if (resizing.coordinates == "asymmetric") return x / scale;
  if (resizing.coordinates == "align_corners") return outputs == 1 ? 0 : x * (in - 1) / (out - 1);
  if (resizing.coordinates == "pytorch_half_pixel" && outputs == 1) return 0;
  if (resizing.coordinates == "tf_half_pixel_for_nn") return (x + 0.5f) / scale;
  const float half_pixel = (x + 0.5f) / scale - 0.5f;
  if (resizing.coordinates != "half_pixel_symmetric") return half_pixel;
  return in / 2 * (1 - out / (scale * in)) + half_pixel;
}

int64_t nearest_place(const std::string& rule, float x, float scale) {
  if (rule == "before_11") return static_cast<int64_t>(scale < 1 ? std::ceil(x) : std::floor(x));
  const float below = std::floor(x);
  if (rule == "floor") return static_cast<int64_t>(below);
  if (rule == "ceil") return static_cast<int64_t>(std::ceil(x));
  const bool middle = x - below == 0.5f;
  if (middle) return static_cast<int64_t>(rule == "round_prefer_floor" ? below : below + 1);
  return static_cast<int64_t>(std::round(x));
}

// Keys' kernel with parameter a, at distance |d| (Keys 1981, equation 15).
float cubic_weight(float a, float d) {
  d = std::abs(d);
  if (d <= 1) return ((a + 2) * d - (a + 3)) * d * d + 1;
  if (d < 2) return ((a * d - 5 * a) * d + 8 * a) * d - 4 * a;
  return 0;
}

std::vector<Tap> taps_of(const Resizing& resizing, float scale, int64_t inputs, int64_t outputs) {
  std::vector<Tap> taps(resizing.mode == "nearest" ? 1 : resizing.mode == "linear" ? 2 : 4);
  for (int64_t o = 0; o < outputs; ++o) {
    const float x = source_place(resizing, o, scale, inputs, outputs);
    if (resizing.mode == "nearest") {
      taps[0].add(std::clamp<int64_t>(nearest_place(resizing.nearest, x, scale), 0, inputs - 1), 1);
    } else if (resizing.mode == "linear") {
      const float inside = std::clamp(x, 0.0f, static_cast<float>(inputs - 1));
      const auto below = static_cast<int64_t>(inside);
      const float share = inside - static_cast<float>(below);
      taps[0].add(below, 1 - share);
      taps[1].add(std::min(below + 1, inputs - 1), share);
    } else {
      const auto below = static_cast<int64_t>(std::floor(x));
      float weights[4], sum = 0;
      for (int64_t t = 0; t < 4; ++t) {
        const int64_t place = below - 1 + t;
        const bool outside = place < 0 || place >= inputs;
        weights[t] = resizing.exclude_outside && outside
                         ? 0
                         : cubic_weight(resizing.cubic, x - static_cast<float>(place));
        sum += weights[t];
      }
      for (int64_t t = 0; t < 4; ++t)
        taps[static_cast<size_t>(t)].add(std::clamp<int64_t>(below - 1 + t, 0, inputs - 1),
                                         resizing.exclude_outside ? weights[t] / sum : weights[t]);
    }
  }
  return taps;
}

at::Tensor resize_axis(const at::Tensor& values, int64_t axis, const std::vector<Tap>& taps) {
  std::vector<int64_t> shape(static_cast<size_t>(values.dim()), 1);
  shape[static_cast<size_t>(axis)] = -1;
  at::Tensor result;
  for (const Tap& tap : taps) {
    const at::Tensor indices = at::tensor(tap.indices, at::kLong).to(values.device());
    at::Tensor part = values.index_select(axis, indices);
    if (taps.size() > 1) part = part * at::tensor(tap.weights, at::kFloat).to(values.device()).reshape(shape);
    result = result.defined() ? result + part : part;
  }
  return result;
}

std::vector<float> floats_of(const at::Tensor& tensor) {
  const at::Tensor values = tensor.to(at::kCPU, at::kFloat).contiguous();
  return {values.data_ptr<float>(), values.data_ptr<float>() + values.numel()};
}

// Resizes by scales or, where there are any, to sizes, of `axes` (all where empty). Images keep their number.
at::Tensor resize(const Resizing& resizing, at::Tensor values, std::vector<float> scales,
                  const std::vector<int64_t>& sizes, std::vector<int64_t> axes) {
  if (axes.empty()) axes = all_axes(values);
  TORCH_CHECK(std::max(scales.size(), sizes.size()) == axes.size(), scales.size(), " scales and ",
              sizes.size(), " sizes for ", axes.size(), " axes");
  for (size_t a = 0; a < axes.size(); ++a) {
    const int64_t axis = axes[a] < 0 ? axes[a] + values.dim() : axes[a], inputs = values.size(axis);
    if (axis == 0) continue;
    const float scale = sizes.empty() ? scales[a] : static_cast<float>(sizes[a]) / static_cast<float>(inputs);
    TORCH_CHECK(scale > 0 && scale < 1 << 16, "a scale of ", scale);
    const int64_t outputs =
        sizes.empty() ? static_cast<int64_t>(static_cast<float>(inputs) * scale) : sizes[a];
    if (scale == 1 && outputs == inputs) continue;
    values = resize_axis(values, axis, taps_of(resizing, scale, inputs, outputs));
  }
  return values;
}

void check_mode(const NodeArguments& arguments, const Resizing& resizing) {
  const std::vector<std::string> known = {"asymmetric",         "align_corners",
                                          "half_pixel",         "half_pixel_symmetric",
                                          "pytorch_half_pixel", "tf_half_pixel_for_nn"};
  if (std::find(known.begin(), known.end(), resizing.coordinates) == known.end())
    arguments.refuse(fmt::format("has the coordinate_transformation_mode '{}', which is not supported",
                                 resizing.coordinates));
  if (resizing.mode != "nearest" && resizing.mode != "linear" && resizing.mode != "cubic")
    arguments.refuse(fmt::format("has the mode '{}', which is not supported", resizing.mode));
}

// Upsample, and Resize before operator set 11: scales alone, and places from the edge; the nearest is the one
// before where an axis grows and the one behind where it shrinks, as onnxruntime has it.
Operator make_upsample(const NodeArguments& arguments) {
  arguments.expect_inputs(1, 2);
  Resizing resizing;
  resizing.mode = arguments.text("mode", "nearest");
  resizing.coordinates = "asymmetric";
  resizing.nearest = "before_11";
  check_mode(arguments, resizing);
  const OnnxAttribute* stated = arguments.node().find("scales");
  const std::vector<float> scales = stated == nullptr ? std::vector<float>{} : stated->reals;
  return [=](const Tensors& in) {
    return resize(resizing, in[0], in.size() > 1 ? floats_of(in[1]) : scales, {}, {});
  };
}

Operator make_resize(const NodeArguments& arguments) {
  if (arguments.opset() < 11) return make_upsample(arguments);
  arguments.expect_inputs(1, 4);
  Resizing resizing;
  resizing.mode = arguments.text("mode", "nearest");
  resizing.coordinates = arguments.text("coordinate_transformation_mode", "half_pixel");
  resizing.nearest = arguments.text("nearest_mode", "round_prefer_floor");
  resizing.cubic = arguments.real("cubic_coeff_a", -0.75f);
  resizing.exclude_outside = arguments.integer("exclude_outside", 0) != 0;
  check_mode(arguments, resizing);
  if (arguments.integer("antialias", 0) != 0)
    arguments.refuse("smooths as it shrinks, which is not supported");
  if (arguments.text("keep_aspect_ratio_policy", "stretch") != "stretch")
    arguments.refuse("keeps the aspect ratio, which is not supported");
  const std::vector<int64_t> axes = arguments.integers("axes", {});
  return [=](const Tensors& in) {
    const bool by_size = in.size() > 3 && in[3].defined() && in[3].numel() > 0;
    const bool by_scale = in.size() > 2 && in[2].defined() && in[2].numel() > 0;
    TORCH_CHECK(by_size || by_scale, "neither scales nor sizes");
    return resize(resizing, in[0], by_size ? std::vector<float>{} : floats_of(in[2]),
                  by_size ? integers_of(in[3]) : std::vector<int64_t>{}, axes);
  };
}

}  // namespace

OperatorTable resize_operators() {
  return {{"Resize", make_resize}, {"Upsample", make_upsample}};
}

}  // namespace strata::vision
