#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <vector>

#include "strata/quantization/scheme.h"

namespace strata {

// A matrix's groups as the rows of [groups, length], a group's weights beside one another; groups that are
// shorter than others are padded. They are numbered as in AffineMatrix.
class GroupLayout {
 public:
  GroupLayout() = default;
  // group_of_column: AffineMatrix's; empty where groups are of neighbouring columns. Throws where such groups
  // are of other sizes than the scheme's, but for the last.
  GroupLayout(const AffineScheme& scheme, int64_t rows, int64_t cols,
              const std::vector<int32_t>& group_of_column = {}, at::Device device = at::kCPU);

  // Views and copies that autograd goes through.
  at::Tensor to_groups(const at::Tensor& matrix, double padding = 0) const;
  at::Tensor to_matrix(const at::Tensor& groups) const;

  int64_t rows() const { return rows_; }
  int64_t groups() const { return groups_; }
  int64_t length() const { return length_; }

 private:
  int axis_ = 1;
  int64_t rows_ = 0, cols_ = 0, length_ = 0, groups_ = 0;
  at::Tensor column_at_, place_of_column_;  // in the order of the groups; undefined: that of the columns
};

}  // namespace strata
