#include "strata/quantizers/stored_floats.h"

#include <ATen/core/grad_mode.h>

#include <utility>

namespace strata {

StoredFloats::StoredFloats(QuantizedMatrix matrix, at::Device device)
    : matrix_(std::move(matrix)), opened_(open_grid(matrix_, device)) {
  for (const StoredGrid& grid : opened_.parts) {
    Part part;
    part.scale = add(grid.floats.scale, 1);
    if (grid.floats.scale_minimum.defined()) part.scale_minimum = add(grid.floats.scale_minimum, 1);
    if (grid.float_zeros) part.zero = add(grid.floats.zero, 0);
    if (grid.floats.minimum.defined()) part.minimum = add(grid.floats.minimum, 1);
    parts_.push_back(part);
  }
}

int StoredFloats::add(const at::Tensor& like, double start) {
  parameters_.push_back(at::full_like(like, start).set_requires_grad(true));
  return static_cast<int>(parameters_.size()) - 1;
}

GridFloats StoredFloats::floats_of(size_t part) const {
  GridFloats floats = opened_.parts[part].floats;
  const auto scaled = [&](at::Tensor& values, int factor) {
    if (factor >= 0) values = values * parameters_[factor];
  };
  scaled(floats.scale, parts_[part].scale);
  scaled(floats.scale_minimum, parts_[part].scale_minimum);
  scaled(floats.minimum, parts_[part].minimum);
  if (parts_[part].zero >= 0) floats.zero = floats.zero + parameters_[parts_[part].zero];
  return floats;
}

at::Tensor StoredFloats::weights() const {
  std::vector<at::Tensor> parts;
  for (size_t i = 0; i < parts_.size(); ++i) parts.push_back(weights_of(opened_.parts[i], floats_of(i)));
  return join_rows(opened_, parts);
}

at::Tensor StoredFloats::stored_weights() const {
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> parts;
  for (size_t i = 0; i < parts_.size(); ++i)
    parts.push_back(weights_of(opened_.parts[i], as_stored(opened_.parts[i], floats_of(i))));
  return join_rows(opened_, parts);
}

QuantizedMatrix StoredFloats::stored() const {
  const at::NoGradGuard no_grad;
  OpenedMatrix changed = opened_;
  for (size_t i = 0; i < parts_.size(); ++i) changed.parts[i].floats = floats_of(i);
  QuantizedMatrix matrix = matrix_;
  close_grid(changed, matrix);
  return matrix;
}

}  // namespace strata
