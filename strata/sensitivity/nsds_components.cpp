#include "strata/sensitivity/nsds_components.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "strata/core/blas_threads.h"
#include "strata/core/threads.h"
#include "strata/sensitivity/circuit_moments.h"
#include "strata/sensitivity/spectrum.h"

namespace strata {
namespace {

// Every key or value head once for each query head that shares it: [kv_heads * r, d] -> [heads, r, d].
at::Tensor repeat_heads(const at::Tensor& weight, int64_t heads, int64_t kv_heads) {
  const int64_t r = weight.size(0) / kv_heads, d = weight.size(1);
  return weight.reshape({kv_heads, 1, r, d})
      .expand({kv_heads, heads / kv_heads, r, d})
      .reshape({heads, r, d});
}

// factor factor' of every head, in double precision on the CPU: [heads, r, r].
at::Tensor head_grams(const at::Tensor& factor) {
  const at::Tensor precise = factor.to(at::kDouble);
  return at::bmm(precise, precise.transpose(1, 2)).to(at::kCPU).contiguous();
}

// The singular pairs of all heads' products, as coefficients over the factors' rows.
struct CircuitSpectra {
  std::vector<double> sigma;  // [heads, r], ascending within a head
  at::Tensor left_vectors,
      right_vectors;                   // [heads, r, r] double: u = left_vectors left, v = right_vectors right
  std::vector<int64_t> first_leading;  // [heads]: pairs from this one on are the leading ones
};

// With W = L'R, GL = LL', GR = RR': W'W v = sigma^2 v holds for v = R'x where GL GR x = sigma^2 x, and x' GR
// x = 1 makes v a unit vector; u = W v / sigma = L' GR x / sigma. So a symmetric-definite eigenproblem of
// order r gives what an SVD of order d would. The ridge keeps GR definite when its factor has dependent rows.
void solve_head(const double* left_gram, const double* right_gram, int64_t r, double tau, double* sigma,
                double* left_vectors, double* right_vectors, int64_t* first_leading) {
  std::vector<double> ridged(right_gram, right_gram + r * r);
  double trace = 0;
  for (int64_t i = 0; i < r; ++i) trace += right_gram[i * r + i];
  for (int64_t i = 0; i < r; ++i) ridged[i * r + i] += 1e-13 * trace + 1e-290;
  std::copy(left_gram, left_gram + r * r, right_vectors);
  const std::vector<double> energies = product_eigenpairs(right_vectors, ridged.data(), r);

  *first_leading = r - leading_count(energies.data(), r, tau);
  std::fill(left_vectors, left_vectors + r * r, 0.0);
  for (int64_t i = 0; i < r; ++i) {
    sigma[i] = std::sqrt(std::max(0.0, energies[i]));
    if (i < *first_leading || sigma[i] == 0) continue;
    const double* x = right_vectors + i * r;
    double* u = left_vectors + i * r;
    for (int64_t j = 0; j < r; ++j)
      for (int64_t k = 0; k < r; ++k) u[k] += x[j] / sigma[i] * right_gram[j * r + k];
  }
}

CircuitSpectra circuit_spectra(const at::Tensor& left_gram, const at::Tensor& right_gram, double tau) {
  const int64_t heads = left_gram.size(0), r = left_gram.size(1);
  CircuitSpectra spectra;
  spectra.sigma.resize(heads * r);
  spectra.first_leading.resize(heads);
  spectra.left_vectors = at::empty_like(left_gram);
  spectra.right_vectors = at::empty_like(left_gram);
  const double* gl = left_gram.data_ptr<double>();
  const double* gr = right_gram.data_ptr<double>();
  double* u = spectra.left_vectors.data_ptr<double>();
  double* v = spectra.right_vectors.data_ptr<double>();
  const BlasThreads one(1);
  parallel_for(heads, 1, [&](int64_t begin, int64_t end) {
    for (int64_t h = begin; h < end; ++h) {
      const int64_t at = h * r * r;
      solve_head(gl + at, gr + at, r, tau, &spectra.sigma[h * r], u + at, v + at, &spectra.first_leading[h]);
    }
  });
  return spectra;
}

// The leading vectors of all heads, one below the other: [sum of k, d].
at::Tensor leading_vectors(const CircuitSpectra& spectra, const at::Tensor& coefficients,
                           const at::Tensor& factor) {
  const int64_t heads = factor.size(0), r = factor.size(1), d = factor.size(2);
  std::vector<int64_t> rows;
  for (int64_t h = 0; h < heads; ++h)
    for (int64_t i = spectra.first_leading[h]; i < r; ++i) rows.push_back(h * r + i);
  const at::Tensor vectors =
      at::bmm(coefficients.to(factor.device(), at::kFloat), factor).reshape({heads * r, d});
  return vectors.index_select(0, at::tensor(rows, at::kLong).to(factor.device()));
}

// beta_i = ||P' u_i||, in [0, 1].
std::vector<double> projection_norms(const at::Tensor& vectors, const at::Tensor& basis) {
  const at::Tensor norms = at::mm(vectors, basis.t()).square_().sum({1}, false, at::kDouble).sqrt_();
  const at::Tensor host = norms.clamp_max_(1).to(at::kCPU);
  return {host.data_ptr<double>(), host.data_ptr<double>() + host.numel()};
}

double circuit_expressiveness(const CircuitSpectra& spectra, const std::vector<double>& beta,
                              const NsdsOptions& options) {
  const int64_t heads = static_cast<int64_t>(spectra.first_leading.size());
  const int64_t r = static_cast<int64_t>(spectra.sigma.size()) / heads;
  const double* head_beta = beta.data();
  double sum = 0;
  for (int64_t h = 0; h < heads; ++h) {
    const int64_t first = spectra.first_leading[h];
    sum += structural_expressiveness(&spectra.sigma[h * r + first], head_beta, r - first, options);
    head_beta += r - first;
  }
  return sum / static_cast<double>(heads);
}

double mean(const std::vector<double>& values) {
  double sum = 0;
  for (double value : values) sum += value;
  return sum / static_cast<double>(values.size());
}

}  // namespace

double structural_expressiveness(const double* sigma, const double* beta, int64_t count,
                                 const NsdsOptions& options) {
  double sum = 0;
  for (int64_t i = 0; i < count; ++i) sum += sigma[i] * beta[i];
  if (!(sum > 0)) return 0;
  double entropy = 0;
  for (int64_t i = 0; i < count; ++i) {
    const double p = sigma[i] * beta[i] / sum;
    entropy -= p * std::log(p + 1e-12);
  }
  return options.multiply_entropy ? sum * std::exp(entropy) : sum / std::exp(entropy);
}

CircuitFactors query_key_circuit(const at::Tensor& query, const at::Tensor& key, int64_t heads,
                                 int64_t kv_heads) {
  return {query.reshape({heads, query.size(0) / heads, query.size(1)}), repeat_heads(key, heads, kv_heads)};
}

CircuitFactors output_value_circuit(const at::Tensor& output, const at::Tensor& value, int64_t heads,
                                    int64_t kv_heads) {
  const int64_t d = output.size(0), r = output.size(1) / heads;
  return {output.reshape({d, heads, r}).permute({1, 2, 0}).contiguous(),
          repeat_heads(value, heads, kv_heads)};
}

ComponentValues nsds_detector_circuit(const CircuitFactors& circuit, const NsdsOptions& options) {
  const at::Tensor left_gram = head_grams(circuit.left), right_gram = head_grams(circuit.right);
  ComponentValues values;
  values.numerical_vulnerability =
      mean(product_excess_kurtosis(circuit.left, circuit.right, left_gram, right_gram));
  const CircuitSpectra spectra = circuit_spectra(left_gram, right_gram, options.tau);
  std::vector<double> beta =
      row_excess_kurtosis(leading_vectors(spectra, spectra.left_vectors, circuit.left));
  const std::vector<double> right =
      row_excess_kurtosis(leading_vectors(spectra, spectra.right_vectors, circuit.right));
  for (size_t i = 0; i < beta.size(); ++i)
    beta[i] = std::log1p(std::max(0.0, beta[i]) * std::max(0.0, right[i]));
  values.structural_expressiveness = circuit_expressiveness(spectra, beta, options);
  return values;
}

ComponentValues nsds_writer_circuit(const CircuitFactors& circuit, const at::Tensor& basis,
                                    const NsdsOptions& options) {
  const at::Tensor left_gram = head_grams(circuit.left), right_gram = head_grams(circuit.right);
  ComponentValues values;
  values.numerical_vulnerability =
      mean(product_excess_kurtosis(circuit.left, circuit.right, left_gram, right_gram));
  const CircuitSpectra spectra = circuit_spectra(left_gram, right_gram, options.tau);
  const at::Tensor vectors = leading_vectors(spectra, spectra.left_vectors, circuit.left);
  values.structural_expressiveness =
      circuit_expressiveness(spectra, projection_norms(vectors, basis), options);
  return values;
}

ComponentValues nsds_detector_matrix(at::Tensor weight, const NsdsOptions& options) {
  ComponentValues values;
  values.numerical_vulnerability = matrix_excess_kurtosis(weight);
  const int64_t d = weight.size(1);
  at::Tensor gram = at::zeros({d, d}, weight.options());
  add_gram(gram, weight);
  weight.reset();
  const SingularPairs pairs = leading_singular_pairs(std::move(gram), options.tau);
  std::vector<double> beta = row_excess_kurtosis(pairs.vectors);
  for (double& value : beta) value = std::log1p(std::max(0.0, value));
  values.structural_expressiveness =
      structural_expressiveness(pairs.values.data(), beta.data(), static_cast<int64_t>(beta.size()), options);
  return values;
}

ComponentValues nsds_writer_matrix(at::Tensor weight, const at::Tensor& basis, const NsdsOptions& options) {
  ComponentValues values;
  values.numerical_vulnerability = matrix_excess_kurtosis(weight);
  const int64_t d = weight.size(0);
  at::Tensor gram = at::zeros({d, d}, weight.options());
  add_gram(gram, weight.t());
  weight.reset();
  const SingularPairs pairs = leading_singular_pairs(std::move(gram), options.tau);
  const std::vector<double> beta = projection_norms(pairs.vectors, basis);
  values.structural_expressiveness =
      structural_expressiveness(pairs.values.data(), beta.data(), static_cast<int64_t>(beta.size()), options);
  return values;
}

at::Tensor unembedding_basis(at::Tensor gram, const NsdsOptions& options) {
  return leading_singular_pairs(std::move(gram), options.tau).vectors;
}

}  // namespace strata
