#pragma once

#include <cstdint>

namespace strata {

// Estimates of mutual information in nats from n samples, in O(n log n). Both standardise a variable first
// and break ties by noise a millionth of its standard deviation; an estimate can be slightly negative, and is
// 0 where a variable is constant. They throw Error for fewer than neighbours + 2 samples.

// Between two real variables: I = psi(k) + psi(n) - mean(psi(n_x + 1) + psi(n_y + 1)), where n_x counts the
// samples strictly nearer in x than the k-th neighbour of (x, y) in the maximum norm (Kraskov, Stoegbauer and
// Grassberger 2004, equation 8).
double kraskov_information(const float* x, const float* y, int64_t n, int neighbours = 3);

// Between a real variable and a label: I = psi(n) + mean(psi(k) - psi(n_label) - psi(m)), where m counts the
// samples within the distance of the k-th neighbour of the same label (Ross 2014). Samples whose label is
// theirs alone are left out; labels with k samples or fewer take as many neighbours as there are.
double ross_information(const float* x, const int64_t* labels, int64_t n, int neighbours = 3);

}  // namespace strata
