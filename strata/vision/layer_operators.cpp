// Convolutions and products: what becomes layers where its weights are constant.
#include <ATen/Context.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>

#include "strata/core/error.h"
#include "strata/vision/operators.h"
#include "strata/vision/windows.h"

namespace strata::vision {
namespace {

const OnnxTensor& convolution_weight(const NodeArguments& arguments) {
  arguments.expect_inputs(2, 3);
  const OnnxTensor& weight = arguments.constant(1, "weight");
  if (weight.shape.size() < 3 || weight.shape.size() > 5)
    arguments.refuse(fmt::format("has a weight of {} dimensions, expected 3 to 5", weight.shape.size()));
  return weight;
}

int64_t convolution_groups(const NodeArguments& arguments, int64_t channels, const char* what) {
  const int64_t groups = arguments.integer("group", 1);
  if (groups < 1 || groups > channels || channels % groups != 0)
    arguments.refuse(fmt::format("has {} groups, which do not divide its {} {}", groups, channels, what));
  return groups;
}

constexpr int64_t kNarrow = 12;  // pixels a row

// Where a processor's convolutions are fastest: channels side by side, but for dense windows on narrow maps.
at::MemoryFormat fastest_format(const at::Tensor& maps, const at::Tensor& weight, int64_t groups) {
  const bool dense_window = groups == 1 && weight.size(3) > 1;
  return dense_window && maps.size(3) < kNarrow ? at::MemoryFormat::Contiguous
                                                : at::MemoryFormat::ChannelsLast;
}

at::Tensor convolve(const at::Tensor& maps, const at::Tensor& weight, const at::Tensor& bias,
                    const Window& window, const std::vector<int64_t>& padding, int64_t groups) {
  const bool on_processor = maps.is_cpu() && maps.dim() == 4 && maps.numel() > 0 && weight.numel() > 0 &&
                            at::globalContext().hasMKLDNN() && !at::GradMode::is_enabled();
  if (on_processor)  // directly: convolution() would lay the weights out anew each time
    return at::mkldnn_convolution(maps.contiguous(fastest_format(maps, weight, groups)), weight, bias,
                                  padding, window.strides, window.dilations, groups);
  const std::vector<int64_t> no_offset(window.dimensions(), 0);
  return at::convolution(maps, weight, bias, window.strides, padding, window.dilations,
                         /*transposed=*/false, no_offset, groups);
}

Operator make_conv(const NodeArguments& arguments) {
  const OnnxTensor& weight = convolution_weight(arguments);
  const int64_t groups = convolution_groups(arguments, weight.shape[0], "outputs");
  const Window window = read_window(arguments, {weight.shape.begin() + 2, weight.shape.end()});
  return [=](const Tensors& in) {
    const std::vector<int64_t> pads = window.pads_for(in[0]);
    const bool symmetric = is_symmetric(pads);
    const at::Tensor maps = symmetric ? in[0] : pad_maps(in[0], pads, 0);
    std::vector<int64_t> padding(window.dimensions(), 0);
    if (symmetric) std::copy_n(pads.begin(), padding.size(), padding.begin());
    const at::Tensor bias = in.size() > 2 ? in[2] : at::Tensor();
    return convolve(maps, in[1], bias, window, padding, groups);
  };
}

// output_padding, output_shape and auto_pad say together how large the output is, and where it is cut.
struct TransposedSize {
  std::vector<int64_t> extra;  // output_padding
  std::vector<int64_t> shape;  // output_shape; empty where it follows from the rest
};

// How much is cut off before and behind every dimension of the full result (ONNX's formula for pads).
std::vector<int64_t> cut_of(const Window& window, const TransposedSize& size, const at::Tensor& maps) {
  const size_t n = window.dimensions();
  if (window.auto_pad == Window::AutoPad::None && size.shape.empty()) return window.pads;
  std::vector<int64_t> cut(2 * n);
  for (size_t d = 0; d < n; ++d) {
    const int64_t inputs = maps.size(static_cast<int64_t>(d) + 2);
    const int64_t wanted = size.shape.empty() ? inputs * window.strides[d] : size.shape[d];
    const int64_t full =
        window.strides[d] * (inputs - 1) + size.extra[d] + (window.kernel[d] - 1) * window.dilations[d] + 1;
    const int64_t total = std::max<int64_t>(0, full - wanted), half = total / 2;
    cut[d] = window.auto_pad == Window::AutoPad::SameUpper ? half : total - half;
    cut[d + n] = total - cut[d];
  }
  return cut;
}

Operator make_conv_transpose(const NodeArguments& arguments) {
  const OnnxTensor& weight = convolution_weight(arguments);
  const int64_t groups = convolution_groups(arguments, weight.shape[0], "inputs");
  const Window window = read_window(arguments, {weight.shape.begin() + 2, weight.shape.end()});
  const size_t n = window.dimensions();
  const TransposedSize size{arguments.integers("output_padding", std::vector<int64_t>(n, 0)),
                            arguments.integers("output_shape", {})};
  if (size.extra.size() != n || (!size.shape.empty() && size.shape.size() != n))
    arguments.refuse(
        fmt::format("has an output_padding or output_shape of another number than its {} "
                    "dimensions",
                    n));
  for (size_t d = 0; d < n; ++d)
    if (size.extra[d] < 0 || size.extra[d] >= std::max(window.strides[d], window.dilations[d]))
      arguments.refuse(fmt::format("has an output_padding of {}, expected less than its stride or dilation",
                                   size.extra[d]));
  return [=](const Tensors& in) {
    const std::vector<int64_t> cut = cut_of(window, size, in[0]);
    const std::vector<int64_t> nothing(n, 0);
    const at::Tensor bias = in.size() > 2 ? in[2] : at::Tensor();
    at::Tensor full = at::convolution(in[0], in[1], bias, window.strides, nothing, window.dilations,
                                      /*transposed=*/true, size.extra, groups);
    for (size_t d = 0; d < n; ++d) {
      const auto axis = static_cast<int64_t>(d) + 2;
      full = full.narrow(axis, cut[d], full.size(axis) - cut[d] - cut[d + n]);
    }
    return full.contiguous();
  };
}

Operator make_gemm(const NodeArguments& arguments) {
  arguments.expect_inputs(2, 3);
  const float alpha = arguments.real("alpha", 1), beta = arguments.real("beta", 1);
  const bool transpose_a = arguments.integer("transA", 0) != 0;
  const bool transpose_b = arguments.integer("transB", 0) != 0;
  return [=](const Tensors& in) {
    const at::Tensor a = transpose_a ? in[0].t() : in[0], b = transpose_b ? in[1].t() : in[1];
    if (in.size() > 2 && in[2].defined()) return at::addmm(in[2], a, b, beta, alpha);
    return alpha == 1 ? at::mm(a, b) : at::mm(a, b) * alpha;
  };
}

Operator make_matmul(const NodeArguments& arguments) {
  arguments.expect_inputs(2, 2);
  return [](const Tensors& in) { return at::matmul(in[0], in[1]); };
}

}  // namespace

OperatorTable layer_operators() {
  return {{"Conv", make_conv},
          {"ConvTranspose", make_conv_transpose},
          {"Gemm", make_gemm},
          {"MatMul", make_matmul}};
}

}  // namespace strata::vision
