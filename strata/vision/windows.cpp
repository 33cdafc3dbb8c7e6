#include "strata/vision/windows.h"

#include <algorithm>

#include "strata/core/error.h"

namespace strata::vision {
namespace {

constexpr int64_t kLargest = 1 << 20;  // of any single figure, so that products stay in range

template <size_t N>
std::array<int64_t, N> exactly(const NodeArguments& arguments, const char* what,
                               const std::vector<int64_t>& values, int64_t least) {
  if (values.size() != N)
    arguments.refuse(
        fmt::format("has {} {}, but only two-dimensional images are supported", values.size(), what));
  std::array<int64_t, N> result;
  for (size_t i = 0; i < N; ++i) {
    if (values[i] < least || values[i] > kLargest)
      arguments.refuse(fmt::format("has {} of {}, expected {} to {}", what, values[i], least, kLargest));
    result[i] = values[i];
  }
  return result;
}

}  // namespace

std::array<int64_t, 4> Window::pads_for(int64_t height, int64_t width) const {
  if (auto_pad == AutoPad::None) return pads;
  std::array<int64_t, 4> result{};
  const std::array<int64_t, 2> sizes = {height, width};
  for (size_t d = 0; d < 2; ++d) {
    const int64_t outputs = (sizes[d] + strides[d] - 1) / strides[d];
    const int64_t total =
        std::max<int64_t>(0, (outputs - 1) * strides[d] + (kernel[d] - 1) * dilations[d] + 1 - sizes[d]);
    const int64_t smaller = total / 2, larger = total - smaller;
    result[d] = auto_pad == AutoPad::SameUpper ? smaller : larger;
    result[d + 2] = total - result[d];
  }
  return result;
}

Window read_window(const NodeArguments& arguments, std::vector<int64_t> kernel) {
  Window window;
  const std::vector<int64_t> stated = arguments.integers("kernel_shape", kernel);
  if (!kernel.empty() && stated != kernel)
    arguments.refuse("has a kernel_shape that differs from its weight's");
  window.kernel = exactly<2>(arguments, "kernel sizes", stated, 1);
  window.strides = exactly<2>(arguments, "strides", arguments.integers("strides", {1, 1}), 1);
  window.dilations = exactly<2>(arguments, "dilations", arguments.integers("dilations", {1, 1}), 1);
  const std::string mode = arguments.text("auto_pad", "NOTSET");
  if (mode == "SAME_UPPER")
    window.auto_pad = Window::AutoPad::SameUpper;
  else if (mode == "SAME_LOWER")
    window.auto_pad = Window::AutoPad::SameLower;
  else if (mode == "NOTSET")
    window.pads = exactly<4>(arguments, "pads", arguments.integers("pads", {0, 0, 0, 0}), 0);
  else if (mode != "VALID")
    arguments.refuse(fmt::format("has the unknown auto_pad '{}'", mode));
  return window;
}

at::Tensor pad_image(const at::Tensor& image, const std::array<int64_t, 4>& pads, double value) {
  return at::constant_pad_nd(image, {pads[1], pads[3], pads[0], pads[2]}, value);
}

}  // namespace strata::vision
