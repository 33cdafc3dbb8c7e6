#pragma once

#include <ATen/ATen.h>

#include <vector>

namespace strata {

// Population excess kurtosis over the d*d entries of left[h]' right[h], for every head h. `left` and `right`
// are [heads, r, d] float; `left_gram` and `right_gram` are left left' and right right', [heads, r, r] double
// on the CPU. The products are computed in tiles and never stored. 0 where all entries are equal.
std::vector<double> product_excess_kurtosis(const at::Tensor& left, const at::Tensor& right,
                                            const at::Tensor& left_gram, const at::Tensor& right_gram);

// Population excess kurtosis of every row of [n, d] float, as n doubles; 0 where a row's entries are equal.
std::vector<double> row_excess_kurtosis(const at::Tensor& rows);

// Population excess kurtosis over all entries of a float matrix.
double matrix_excess_kurtosis(const at::Tensor& matrix);

}  // namespace strata
