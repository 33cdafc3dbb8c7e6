#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <vector>

namespace strata {

// Sliced mutual information (Goldfeld and Greenewald 2021): the mean of I(theta' U; phi' V) over random unit
// directions theta and phi, or of I(theta' U; Y) with a label Y, which is not projected. In nats; not below
// 0.

// Random unit directions [features, count], the same for the same seed.
at::Tensor random_directions(int64_t features, int64_t count, uint64_t seed);

// Samples [n, features] along directions [features, count], as float [count, n] on the CPU.
at::Tensor project(const at::Tensor& samples, const at::Tensor& directions);

// From projections [count, n] of both.
double sliced_information(const at::Tensor& u, const at::Tensor& v, int neighbours = 3);
double sliced_information(const at::Tensor& u, const std::vector<int64_t>& labels, int neighbours = 3);

}  // namespace strata
