// Moving windows.
#include <algorithm>
#include <limits>

#include "strata/vision/operators.h"
#include "strata/vision/windows.h"

namespace strata::vision {
namespace {

constexpr double kNothing = -std::numeric_limits<double>::infinity();  // never the largest

// Of a pooling in ceil mode the windows that begin on the maps or before them, as onnxruntime and LibTorch
// have it; LibTorch itself cannot tell maps that were padded before from larger ones.
at::Tensor drop_beyond(at::Tensor pooled, const at::Tensor& maps, const Window& window,
                       const std::vector<int64_t>& pads) {
  for (size_t d = 0; d < window.dimensions(); ++d) {
    const auto axis = static_cast<int64_t>(d) + 2;
    const int64_t windows = (maps.size(axis) + pads[d] - 1) / window.strides[d] + 1;
    pooled = pooled.narrow(axis, 0, std::min(windows, pooled.size(axis)));
  }
  return pooled;
}

at::Tensor max_pool(const at::Tensor& maps, const Window& window, bool ceil_mode) {
  const std::vector<int64_t> none(window.dimensions(), 0);
  const auto pool = window.dimensions() == 1   ? at::max_pool1d
                    : window.dimensions() == 2 ? at::max_pool2d
                                               : at::max_pool3d;
  return pool(maps, window.kernel, window.strides, none, window.dilations, ceil_mode);
}

at::Tensor average_pool(const at::Tensor& maps, const Window& window, at::IntArrayRef padding, bool ceil_mode,
                        bool count_pads) {
  if (window.dimensions() == 1)
    return at::avg_pool1d(maps, window.kernel, window.strides, padding, ceil_mode, count_pads);
  if (window.dimensions() == 2)
    return at::avg_pool2d(maps, window.kernel, window.strides, padding, ceil_mode, count_pads);
  return at::avg_pool3d(maps, window.kernel, window.strides, padding, ceil_mode, count_pads);
}

Operator make_max_pool(const NodeArguments& arguments) {
  arguments.expect_inputs(1, 1);
  if (arguments.node().outputs.size() > 1) arguments.refuse("is asked for indices, which are not supported");
  const Window window = read_window(arguments, {});
  const bool ceil_mode = arguments.integer("ceil_mode", 0) != 0;
  return [window, ceil_mode](const Tensors& in) {
    const std::vector<int64_t> pads = window.pads_for(in[0]);
    const bool none = std::all_of(pads.begin(), pads.end(), [](int64_t pad) { return pad == 0; });
    const at::Tensor pooled = max_pool(none ? in[0] : pad_maps(in[0], pads, kNothing), window, ceil_mode);
    return ceil_mode ? drop_beyond(pooled, in[0], window, pads) : pooled;
  };
}

Operator make_average_pool(const NodeArguments& arguments) {
  arguments.expect_inputs(1, 1);
  const Window window = read_window(arguments, {});
  const bool ceil_mode = arguments.integer("ceil_mode", 0) != 0;
  const bool count_pads = arguments.integer("count_include_pad", 0) != 0;
  const size_t n = window.dimensions();
  if (std::any_of(window.dilations.begin(), window.dilations.end(), [](int64_t step) { return step != 1; }))
    arguments.refuse("is dilated, which is not supported");
  return [=](const Tensors& in) {
    const std::vector<int64_t> pads = window.pads_for(in[0]);
    bool plain = is_symmetric(pads);
    for (size_t d = 0; d < n; ++d) plain = plain && 2 * pads[d] <= window.kernel[d];
    if (plain) return average_pool(in[0], window, {pads.data(), n}, ceil_mode, count_pads);
    const auto pool = [&](const at::Tensor& maps) {
      const std::vector<int64_t> none(n, 0);
      const at::Tensor pooled = average_pool(pad_maps(maps, pads, 0), window, none, ceil_mode, false);
      return ceil_mode ? drop_beyond(pooled, maps, window, pads) : pooled;
    };
    if (count_pads) return pool(in[0]);
    return pool(in[0]) / pool(at::ones_like(in[0].narrow(0, 0, 1).narrow(1, 0, 1)));
  };
}

std::vector<int64_t> map_axes(const at::Tensor& maps) {
  std::vector<int64_t> axes;
  for (int64_t d = 2; d < maps.dim(); ++d) axes.push_back(d);
  return axes;
}

Operator make_global_average_pool(const NodeArguments& arguments) {
  arguments.expect_inputs(1, 1);
  return [](const Tensors& in) { return at::mean(in[0], map_axes(in[0]), true); };
}

Operator make_global_max_pool(const NodeArguments& arguments) {
  arguments.expect_inputs(1, 1);
  return [](const Tensors& in) { return at::amax(in[0], map_axes(in[0]), true); };
}

}  // namespace

OperatorTable pooling_operators() {
  return {{"AveragePool", make_average_pool},
          {"GlobalAveragePool", make_global_average_pool},
          {"GlobalMaxPool", make_global_max_pool},
          {"MaxPool", make_max_pool}};
}

}  // namespace strata::vision
