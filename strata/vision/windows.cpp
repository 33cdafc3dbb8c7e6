#include "strata/vision/windows.h"

#include <algorithm>

#include "strata/core/error.h"

namespace strata::vision {
namespace {

constexpr int64_t kLargest = 1 << 20;  // of any single figure, so that products stay in range

std::vector<int64_t> figures(const NodeArguments& arguments, const char* what, std::vector<int64_t> values,
                             size_t count, int64_t least) {
  if (values.size() != count)
    arguments.refuse(fmt::format("has {} {} where {} are expected", values.size(), what, count));
  for (int64_t value : values)
    if (value < least || value > kLargest)
      arguments.refuse(fmt::format("has {} of {}, expected {} to {}", what, value, least, kLargest));
  return values;
}

}  // namespace

std::vector<int64_t> Window::pads_for(const at::Tensor& maps) const {
  if (auto_pad == AutoPad::None) return pads;
  const size_t n = dimensions();
  std::vector<int64_t> result(2 * n);
  for (size_t d = 0; d < n; ++d) {
    const int64_t size = maps.size(static_cast<int64_t>(d) + 2);
    const int64_t outputs = (size + strides[d] - 1) / strides[d];
    const int64_t total =
        std::max<int64_t>(0, (outputs - 1) * strides[d] + (kernel[d] - 1) * dilations[d] + 1 - size);
    const int64_t smaller = total / 2, larger = total - smaller;
    result[d] = auto_pad == AutoPad::SameUpper ? smaller : larger;
    result[d + n] = total - result[d];
  }
  return result;
}

bool is_symmetric(const std::vector<int64_t>& pads) {
  return std::equal(pads.begin(), pads.begin() + static_cast<std::ptrdiff_t>(pads.size() / 2),
                    pads.begin() + static_cast<std::ptrdiff_t>(pads.size() / 2));
}

Window read_window(const NodeArguments& arguments, std::vector<int64_t> kernel) {
  Window window;
  const std::vector<int64_t> stated = arguments.integers("kernel_shape", kernel);
  if (!kernel.empty() && stated != kernel)
    arguments.refuse("has a kernel_shape that differs from its weight's");
  const size_t n = stated.size();
  if (n < 1 || n > 3) arguments.refuse(fmt::format("has a window of {} dimensions, expected 1 to 3", n));
  window.kernel = figures(arguments, "kernel sizes", stated, n, 1);
  const std::vector<int64_t> ones(n, 1), zeros(2 * n, 0);
  window.strides = figures(arguments, "strides", arguments.integers("strides", ones), n, 1);
  window.dilations = figures(arguments, "dilations", arguments.integers("dilations", ones), n, 1);
  window.pads = zeros;
  const std::string mode = arguments.text("auto_pad", "NOTSET");
  if (mode == "SAME_UPPER")
    window.auto_pad = Window::AutoPad::SameUpper;
  else if (mode == "SAME_LOWER")
    window.auto_pad = Window::AutoPad::SameLower;
  else if (mode == "NOTSET")
    window.pads = figures(arguments, "pads", arguments.integers("pads", zeros), 2 * n, 0);
  else if (mode != "VALID")
    arguments.refuse(fmt::format("has the unknown auto_pad '{}'", mode));
  return window;
}

at::Tensor pad_maps(const at::Tensor& maps, const std::vector<int64_t>& pads, double value) {
  std::vector<int64_t> from_last;  // LibTorch's order: the last dimension first
  for (size_t d = pads.size() / 2; d-- > 0;) {
    from_last.push_back(pads[d]);
    from_last.push_back(pads[d + pads.size() / 2]);
  }
  return at::constant_pad_nd(maps, from_last, value);
}

}  // namespace strata::vision
