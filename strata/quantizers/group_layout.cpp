#include "strata/quantizers/group_layout.h"

#include "strata/core/error.h"

namespace strata {

GroupLayout::GroupLayout(const AffineScheme& scheme, int64_t rows, int64_t cols,
                         const std::vector<int32_t>& group_of_column, at::Device device)
    : axis_(scheme.axis), rows_(rows), cols_(cols), groups_(group_count(scheme, rows, cols)) {
  const int64_t along = axis_ == 0 ? rows * cols : cols, groups = axis_ == 0 ? groups_ : groups_ / rows;
  length_ = scheme.axis == 1 && scheme.group_size > 0 ? scheme.group_size : (along + groups - 1) / groups;
  if (group_of_column.empty()) return;
  const at::Tensor group = at::tensor(group_of_column, at::kInt);
  const at::Tensor order = std::get<1>(at::sort(group, /*stable=*/true, 0, /*descending=*/false));
  if (!at::equal(group.index_select(0, order), at::arange(cols, at::kInt).floor_divide(length_).to(at::kInt)))
    fail("columns are in groups of other sizes than {}, which was expected of all but the last", length_);
  column_at_ = order.to(device);
  place_of_column_ = at::argsort(order).to(device);
}

at::Tensor GroupLayout::to_groups(const at::Tensor& matrix, double padding) const {
  const int64_t all = groups_ * length_;
  if (axis_ == 0)  // columns of W.reshape(length, groups)
    return at::constant_pad_nd(matrix.reshape({-1}), {0, all - rows_ * cols_}, padding)
        .view({length_, groups_})
        .t();
  const at::Tensor ordered = column_at_.defined() ? matrix.index_select(1, column_at_) : matrix;
  const int64_t missing = all / rows_ - cols_;
  return (missing > 0 ? at::constant_pad_nd(ordered, {0, missing}, padding) : ordered)
      .reshape({groups_, length_});
}

at::Tensor GroupLayout::to_matrix(const at::Tensor& groups) const {
  if (axis_ == 0) return groups.t().reshape({-1}).narrow(0, 0, rows_ * cols_).view({rows_, cols_});
  const at::Tensor ordered = groups.reshape({rows_, -1}).narrow(1, 0, cols_).contiguous();
  return place_of_column_.defined() ? ordered.index_select(1, place_of_column_) : ordered;
}

}  // namespace strata
