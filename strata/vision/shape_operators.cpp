// What moves values around, and the shapes that are computed for it while a model runs.
#include <algorithm>
#include <limits>

#include "strata/core/error.h"
#include "strata/vision/operators.h"
#include "strata/vision/tensor_conversion.h"

namespace strata::vision {
namespace {

int64_t from_front(int64_t axis, int64_t dimensions) {
  return axis < 0 ? axis + dimensions : axis;
}

// Axes of an input or, in earlier operator sets, of an attribute.
std::vector<int64_t> axes_of(const Tensors& in, const std::vector<int64_t>& stated) {
  return in.size() > 1 && in[1].defined() ? integers_of(in[1]) : stated;
}

Operator make_identity(const NodeArguments& arguments) {
  arguments.expect_inputs(1, 3);
  if (arguments.node().outputs.size() > 1 && !arguments.node().outputs[1].empty())
    arguments.refuse("is asked for its mask, which is not supported");
  return [](const Tensors& in) { return in[0]; };
}

Operator make_flatten(const NodeArguments& arguments) {
  arguments.expect_inputs(1, 1);
  const int64_t axis = arguments.integer("axis", 1);
  return [axis](const Tensors& in) {
    const int64_t from = from_front(axis, in[0].dim());
    int64_t rows = 1;
    for (int64_t d = 0; d < from; ++d) rows *= in[0].size(d);
    return in[0].reshape({rows, -1});
  };
}

Operator make_reshape(const NodeArguments& arguments) {
  arguments.expect_inputs(2, 2);
  arguments.expect_whole_numbers(1, "shape");
  const bool zero_is_zero = arguments.integer("allowzero", 0) != 0;
  const int64_t batch = zero_is_zero ? -1 : arguments.fixed_batch_of_input(0);
  const bool shape_is_constant = arguments.is_constant(1);
  return [=](const Tensors& in) {
    std::vector<int64_t> target = integers_of(in[1]);
    if (shape_is_constant && !target.empty() && batch > 0 && target[0] == batch) target[0] = 0;
    for (size_t d = 0; d < target.size(); ++d)
      if (target[d] == 0 && !zero_is_zero) target[d] = in[0].size(static_cast<int64_t>(d));
    return in[0].reshape(target);
  };
}

Operator make_transpose(const NodeArguments& arguments) {
  arguments.expect_inputs(1, 1);
  const std::vector<int64_t> order = arguments.integers("perm", {});
  return [order](const Tensors& in) {
    std::vector<int64_t> axes = order;
    for (int64_t d = in[0].dim() - 1; order.empty() && d >= 0; --d) axes.push_back(d);
    return in[0].permute(axes);
  };
}

Operator make_squeeze(const NodeArguments& arguments) {
  arguments.expect_inputs(1, 2);
  const std::vector<int64_t> stated = arguments.integers("axes", {});
  if (stated.empty() && !arguments.has_input(1) && !arguments.is_constant(0))
    arguments.refuse("names no axes, so that its shape depends on the number of images");
  return [stated](const Tensors& in) {
    std::vector<int64_t> from_last;
    for (int64_t axis : axes_of(in, stated)) from_last.push_back(from_front(axis, in[0].dim()));
    if (from_last.empty()) return in[0].squeeze();
    std::sort(from_last.rbegin(), from_last.rend());
    at::Tensor result = in[0];
    for (int64_t axis : from_last) result = result.squeeze(axis);
    return result;
  };
}

Operator make_unsqueeze(const NodeArguments& arguments) {
  arguments.expect_inputs(1, 2);
  const std::vector<int64_t> stated = arguments.integers("axes", {});
  return [stated](const Tensors& in) {
    const std::vector<int64_t> axes = axes_of(in, stated);
    std::vector<int64_t> sorted;
    const auto dimensions = in[0].dim() + static_cast<int64_t>(axes.size());
    for (int64_t axis : axes) sorted.push_back(from_front(axis, dimensions));
    std::sort(sorted.begin(), sorted.end());
    at::Tensor result = in[0];
    for (int64_t axis : sorted) result = result.unsqueeze(axis);
    return result;
  };
}

Operator make_concat(const NodeArguments& arguments) {
  arguments.expect_inputs(1, std::numeric_limits<size_t>::max());
  const int64_t axis = arguments.integer("axis", 1);
  return [axis](const Tensors& in) { return at::cat(on_one_device(in), axis); };
}

Operator make_split(const NodeArguments& arguments) {
  arguments.expect_inputs(1, 2);
  const int64_t axis = arguments.integer("axis", 0);
  const std::vector<int64_t> stated = arguments.integers("split", {});
  const auto parts = static_cast<int64_t>(arguments.node().outputs.size());
  return [=](const Tensors& in) {
    std::vector<int64_t> sizes = axes_of(in, stated);
    if (sizes.empty()) {  // equal parts, of which the last may be smaller
      const int64_t size = in[0].size(axis), part = (size + parts - 1) / parts;
      for (int64_t p = 0; p < parts; ++p) sizes.push_back(std::min(part, size - p * part));
    }
    return Outputs(at::split_with_sizes(in[0], sizes, axis));
  };
}

at::Tensor slice_axis(const at::Tensor& values, int64_t axis, int64_t start, int64_t end, int64_t step) {
  const int64_t size = values.size(axis);
  const auto place = [size](int64_t at, int64_t lowest, int64_t highest) {
    return std::clamp(at < 0 && at + size >= 0 ? at + size : at < 0 ? lowest : at, lowest, highest);
  };
  if (step > 0) return values.slice(axis, place(start, 0, size), place(end, 0, size), step);
  std::vector<int64_t> places;
  for (int64_t at = place(start, 0, size - 1); at > place(end, -1, size - 1); at += step)
    places.push_back(at);
  return values.index_select(axis, at::tensor(places, at::kLong).to(values.device()));
}

Operator make_slice(const NodeArguments& arguments) {
  arguments.expect_inputs(1, 5);
  const std::vector<int64_t> starts = arguments.integers("starts", {}), ends = arguments.integers("ends", {}),
                             axes = arguments.integers("axes", {});
  return [=](const Tensors& in) {
    const auto list = [&](size_t index, const std::vector<int64_t>& stated) {
      return in.size() > index && in[index].defined() ? integers_of(in[index]) : stated;
    };
    const std::vector<int64_t> from = list(1, starts), to = list(2, ends), steps = list(4, {});
    std::vector<int64_t> along = list(3, axes);
    for (size_t i = along.size(); i < from.size(); ++i) along.push_back(static_cast<int64_t>(i));
    at::Tensor result = in[0];
    for (size_t i = 0; i < from.size(); ++i) {
      const int64_t step = steps.empty() ? 1 : steps.at(i);
      TORCH_CHECK(step != 0, "a step of 0");
      result = slice_axis(result, from_front(along[i], result.dim()), from[i], to.at(i), step);
    }
    return result;
  };
}

Operator make_gather(const NodeArguments& arguments) {
  arguments.expect_inputs(2, 2);
  const int64_t stated = arguments.integer("axis", 0);
  return [stated](const Tensors& in) {
    const int64_t axis = from_front(stated, in[0].dim());
    at::Tensor places = in[1].to(in[0].device(), at::kLong);
    places = at::where(places < 0, places + in[0].size(axis), places);
    std::vector<int64_t> shape = in[0].sizes().vec();
    const auto at = shape.erase(shape.begin() + axis);
    shape.insert(at, in[1].sizes().begin(), in[1].sizes().end());
    return in[0].index_select(axis, places.reshape({-1})).reshape(shape);
  };
}

Operator make_expand(const NodeArguments& arguments) {
  arguments.expect_inputs(2, 2);
  const int64_t batch = arguments.fixed_batch_of_input(0);
  const bool shape_is_constant = arguments.is_constant(1);
  return [=](const Tensors& in) {
    std::vector<int64_t> target = integers_of(in[1]);
    if (shape_is_constant && batch > 0 && !target.empty() && target[0] == batch) target[0] = 1;
    const auto wide = static_cast<int64_t>(target.size());
    std::vector<int64_t> shape = target;
    if (in[0].dim() > wide) shape.insert(shape.begin(), static_cast<size_t>(in[0].dim() - wide), 1);
    for (int64_t d = 1; d <= in[0].dim(); ++d) {  // from the last
      int64_t& size = shape[shape.size() - static_cast<size_t>(d)];
      if (size == 1) size = in[0].size(-d);
    }
    return in[0].expand(shape);
  };
}

Operator make_tile(const NodeArguments& arguments) {
  arguments.expect_inputs(2, 2);
  return [](const Tensors& in) { return in[0].repeat(integers_of(in[1])); };
}

// Where the values of a padded axis come from.
std::vector<int64_t> padded_places(const std::string& mode, int64_t size, int64_t before, int64_t behind) {
  std::vector<int64_t> places;
  for (int64_t at = -before; at < size + behind; ++at) {
    if (mode == "edge") {
      places.push_back(std::clamp<int64_t>(at, 0, size - 1));
    } else if (mode == "wrap") {
      places.push_back(((at % size) + size) % size);
    } else {  // reflect: 0 1 2 1 0 1 ...
      const int64_t period = std::max<int64_t>(1, 2 * (size - 1));
      const int64_t within = ((at % period) + period) % period;
      places.push_back(std::min(within, period - within));
    }
  }
  return places;
}

Operator make_pad(const NodeArguments& arguments) {
  arguments.expect_inputs(1, 4);
  const std::vector<int64_t> stated = arguments.integers("pads", {});
  const std::string mode = arguments.text("mode", "constant");
  const float value = arguments.has_input(2) ? arguments.scalar(2, "value") : arguments.real("value", 0);
  if (mode != "constant" && mode != "reflect" && mode != "edge" && mode != "wrap")
    arguments.refuse(fmt::format("has the mode '{}', which is not supported", mode));
  return [=](const Tensors& in) {
    const std::vector<int64_t> pads = axes_of(in, stated);
    const std::vector<int64_t> axes = in.size() > 3 && in[3].defined() ? integers_of(in[3]) : all_axes(in[0]);
    TORCH_CHECK(pads.size() == 2 * axes.size(), pads.size(), " pads for ", axes.size(), " axes");
    const auto dimensions = static_cast<size_t>(in[0].dim());
    std::vector<int64_t> from_last(2 * dimensions, 0);  // LibTorch's order: the last dimension first
    at::Tensor result = in[0];
    for (size_t a = 0; a < axes.size(); ++a) {
      const int64_t axis = from_front(axes[a], in[0].dim()), before = pads[a], behind = pads[a + axes.size()];
      const size_t place = 2 * (dimensions - 1 - static_cast<size_t>(axis));
      from_last.at(place) = before;
      from_last.at(place + 1) = behind;
      if (mode == "constant" || (before == 0 && behind == 0)) continue;
      const auto places = padded_places(mode, in[0].size(axis), before, behind);
      result = result.index_select(axis, at::tensor(places, at::kLong).to(result.device()));
    }
    return mode == "constant" ? at::constant_pad_nd(in[0], from_last, value) : result;
  };
}

Operator make_depth_to_space(const NodeArguments& arguments) {
  arguments.expect_inputs(1, 1);
  const int64_t block = arguments.integer("blocksize", 1);
  const bool columns_first = arguments.text("mode", "DCR") == "CRD";
  return [=](const Tensors& in) {
    const at::Tensor& x = in[0];
    const int64_t n = x.size(0), channels = x.size(1) / (block * block), h = x.size(2), w = x.size(3);
    const at::Tensor blocks = columns_first
                                  ? x.reshape({n, channels, block, block, h, w}).permute({0, 1, 4, 2, 5, 3})
                                  : x.reshape({n, block, block, channels, h, w}).permute({0, 3, 4, 1, 5, 2});
    return blocks.reshape({n, channels, h * block, w * block});
  };
}

Operator make_space_to_depth(const NodeArguments& arguments) {
  arguments.expect_inputs(1, 1);
  const int64_t block = arguments.integer("blocksize", 1);
  return [block](const Tensors& in) {
    const at::Tensor& x = in[0];
    const int64_t n = x.size(0), c = x.size(1), h = x.size(2) / block, w = x.size(3) / block;
    return x.reshape({n, c, h, block, w, block}).permute({0, 3, 5, 1, 2, 4}).reshape({n, -1, h, w});
  };
}

// ---- shapes ----

Operator make_shape(const NodeArguments& arguments) {
  arguments.expect_inputs(1, 1);
  const int64_t start = arguments.integer("start", 0),
                end = arguments.integer("end", std::numeric_limits<int64_t>::max());
  return [=](const Tensors& in) {
    return slice_axis(at::tensor(in[0].sizes().vec(), at::kLong), 0, start, end, 1);
  };
}

Operator make_size(const NodeArguments& arguments) {
  arguments.expect_inputs(1, 1);
  return [](const Tensors& in) { return at::scalar_tensor(in[0].numel(), at::kLong); };
}

Operator make_constant_of_shape(const NodeArguments& arguments) {
  arguments.expect_inputs(1, 1);
  const OnnxAttribute* attribute = arguments.node().find("value");
  const at::Tensor value =
      attribute == nullptr ? at::zeros({1}, at::kFloat) : to_tensor(attribute->tensor).reshape({-1});
  if (value.numel() != 1) arguments.refuse(fmt::format("has {} values where 1 is expected", value.numel()));
  return [value](const Tensors& in) { return value.expand(integers_of(in[0])).contiguous(); };
}

Operator make_range(const NodeArguments& arguments) {
  arguments.expect_inputs(3, 3);
  return [](const Tensors& in) {
    return at::arange(in[0].item(), in[1].item(), in[2].item(), at::TensorOptions(in[0].scalar_type()));
  };
}

}  // namespace

OperatorTable shape_operators() {
  return {{"Concat", make_concat},
          {"DepthToSpace", make_depth_to_space},
          {"Dropout", make_identity},
          {"Expand", make_expand},
          {"Flatten", make_flatten},
          {"Gather", make_gather},
          {"Identity", make_identity},
          {"Pad", make_pad},
          {"Reshape", make_reshape},
          {"Slice", make_slice},
          {"SpaceToDepth", make_space_to_depth},
          {"Split", make_split},
          {"Squeeze", make_squeeze},
          {"Tile", make_tile},
          {"Transpose", make_transpose},
          {"Unsqueeze", make_unsqueeze}};
}

OperatorTable shape_computations() {
  return {{"ConstantOfShape", make_constant_of_shape},
          {"Range", make_range},
          {"Shape", make_shape},
          {"Size", make_size}};
}

}  // namespace strata::vision
