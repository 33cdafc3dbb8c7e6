#include "strata/quantizers/learned_matrix.h"

namespace strata {

GroupLayout::GroupLayout(const AffineScheme& scheme, int64_t rows, int64_t cols)
    : axis_(scheme.axis), rows_(rows), cols_(cols), groups_(group_count(scheme, rows, cols)) {
  const int64_t along = axis_ == 0 ? rows * cols : cols, groups = axis_ == 0 ? groups_ : groups_ / rows;
  length_ = scheme.axis == 1 && scheme.group_size > 0 ? scheme.group_size : (along + groups - 1) / groups;
}

at::Tensor GroupLayout::to_groups(const at::Tensor& matrix, double padding) const {
  const int64_t all = groups_ * length_;
  if (axis_ == 0)  // columns of W.reshape(length, groups)
    return at::constant_pad_nd(matrix.reshape({-1}), {0, all - rows_ * cols_}, padding)
        .view({length_, groups_})
        .t();
  return at::constant_pad_nd(matrix, {0, all / rows_ - cols_}, padding).reshape({groups_, length_});
}

at::Tensor GroupLayout::to_matrix(const at::Tensor& groups) const {
  if (axis_ == 0) return groups.t().reshape({-1}).narrow(0, 0, rows_ * cols_).view({rows_, cols_});
  return groups.reshape({rows_, -1}).narrow(1, 0, cols_).contiguous();
}

}  // namespace strata
