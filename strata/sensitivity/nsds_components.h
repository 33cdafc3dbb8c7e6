#pragma once

#include <ATen/ATen.h>

#include "strata/sensitivity/nsds_options.h"

namespace strata {

// NSDS (arXiv 2603.17354) of one component of a layer.
struct ComponentValues {
  double numerical_vulnerability = 0;    // excess kurtosis of its entries
  double structural_expressiveness = 0;  // (sum s) exp(H) over its leading singular values, weighed by role
};

// A circuit over all heads: the product of head h is left[h]' right[h], [d, d], of rank at most r.
// Both are [heads, r, d] float.
struct CircuitFactors {
  at::Tensor left, right;
};

// W_QK = W_Q^h' W_K^g of the query projection [heads * r, d] and the key projection [kv_heads * r, d].
CircuitFactors query_key_circuit(const at::Tensor& query, const at::Tensor& key, int64_t heads,
                                 int64_t kv_heads);

// W_OV = W_O^h W_V^g of the output projection [d, heads * r] and the value projection [kv_heads * r, d].
CircuitFactors output_value_circuit(const at::Tensor& output, const at::Tensor& value, int64_t heads,
                                    int64_t kv_heads);

// Values of a circuit, the mean over its heads. Detectors read the residual stream and weigh a singular value
// by the peakedness of its vectors; writers weigh it by ||P' u||, with `basis` = P' [k, d] of
// unembedding_basis().
ComponentValues nsds_detector_circuit(const CircuitFactors& circuit, const NsdsOptions& options);
ComponentValues nsds_writer_circuit(const CircuitFactors& circuit, const at::Tensor& basis,
                                    const NsdsOptions& options);

// A matrix that reads (up, gate: [f, d]) or writes (down: [d, f]) the residual stream. The matrix is taken
// over and freed before its eigendecomposition, which is what bounds the memory.
ComponentValues nsds_detector_matrix(at::Tensor weight, const NsdsOptions& options);
ComponentValues nsds_writer_matrix(at::Tensor weight, const at::Tensor& basis, const NsdsOptions& options);

// Leading right singular vectors [k, d], in rows, of the unembedding [V, d], whose Gram matrix (add_gram) is
// given and overwritten.
at::Tensor unembedding_basis(at::Tensor gram, const NsdsOptions& options);

// SE of singular values sigma_i with role factors beta_i: s_i = sigma_i beta_i, p_i = s_i / sum s,
// H = -sum p ln(p + 1e-12). 0 when every s_i is.
double structural_expressiveness(const double* sigma, const double* beta, int64_t count,
                                 const NsdsOptions& options);

}  // namespace strata
