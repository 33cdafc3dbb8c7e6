#pragma once

#include <cmath>
#include <functional>
#include <vector>

#include "tests/support/tiny_model.h"

namespace strata {

// The forward pass written down once more, token by token in double precision and without any library, to
// hold the decoder against.
class ReferenceDecoder {
 public:
  ReferenceDecoder(const TinyModel& model, const TinyWeights& weights) : m_(model), weights_(weights) {
    for (int64_t i = 0; i < m_.head_dim / 2; ++i)
      frequencies.push_back(
          std::pow(10000.0, -2.0 * static_cast<double>(i) / static_cast<double>(m_.head_dim)));
  }

  std::vector<double> frequencies;  // radians a position; tests of scaling overwrite them
  int64_t window = 0;
  int64_t first_sliding_layer = 0;
  // What becomes of a matrix's input, and of queries, keys and values.
  std::function<std::vector<double>(const std::vector<double>&)> take_input = [](const auto& x) { return x; };
  std::function<double(double)> keep = [](double x) { return x; };

  // Row t: the logits after tokens 0..t.
  std::vector<std::vector<double>> logits(const std::vector<int64_t>& ids) const {
    std::vector<std::vector<double>> hidden;
    const std::vector<float>& embedding = tensor("model.embed_tokens.weight");
    for (int64_t id : ids)
      hidden.emplace_back(embedding.begin() + id * m_.hidden, embedding.begin() + (id + 1) * m_.hidden);
    for (int64_t layer = 0; layer < m_.layers; ++layer) run_layer(layer, hidden);
    for (auto& row : hidden)
      row = multiply(m_.tied ? "model.embed_tokens" : "lm_head", normalize(row, "model.norm"));
    return hidden;
  }

 private:
  using Vector = std::vector<double>;

  const std::vector<float>& tensor(const std::string& name) const { return weights_.values.at(name); }

  Vector normalize(const Vector& x, const std::string& name) const {
    double sum = 0;
    for (double value : x) sum += value * value;
    const double scale = 1 / std::sqrt(sum / static_cast<double>(x.size()) + 1e-5);
    Vector y(x.size());
    for (size_t i = 0; i < x.size(); ++i) y[i] = x[i] * scale * tensor(name + ".weight")[i];
    return y;
  }

  Vector multiply(const std::string& name, const Vector& input) const {
    const Vector x = take_input(input);
    const std::vector<float>& matrix = tensor(name + ".weight");
    Vector y(matrix.size() / x.size(), 0.0);
    for (size_t r = 0; r < y.size(); ++r)
      for (size_t c = 0; c < x.size(); ++c) y[r] += matrix[r * x.size() + c] * x[c];
    if (weights_.values.count(name + ".bias"))
      for (size_t r = 0; r < y.size(); ++r) y[r] += tensor(name + ".bias")[r];
    return y;
  }

  // One head's part of a projection, normalized where the model does so, and rotated for its position:
  // x cos + rotate_half(x) sin.
  Vector head(const Vector& projected, int64_t index, const std::string& norm, int64_t position) const {
    const auto begin = projected.begin() + index * m_.head_dim;
    Vector x(begin, begin + m_.head_dim);
    if (m_.qk_norm()) x = normalize(x, norm);
    Vector y(x.size());
    const int64_t half = m_.head_dim / 2;
    for (int64_t i = 0; i < m_.head_dim; ++i) {
      const double angle = static_cast<double>(position) * frequencies[i % half];
      const double rotated_half = i < half ? -x[i + half] : x[i - half];
      y[i] = x[i] * std::cos(angle) + rotated_half * std::sin(angle);
    }
    return y;
  }

  void run_layer(int64_t layer, std::vector<Vector>& hidden) const {
    const std::string at = "model.layers." + std::to_string(layer) + ".";
    std::vector<Vector> q, k, v;
    for (const Vector& row : hidden) {
      const Vector x = normalize(row, at + "input_layernorm");
      q.push_back(multiply(at + "self_attn.q_proj", x));
      k.push_back(multiply(at + "self_attn.k_proj", x));
      v.push_back(multiply(at + "self_attn.v_proj", x));
    }
    for (int64_t t = 0; t < static_cast<int64_t>(hidden.size()); ++t) {
      const Vector attended = multiply(at + "self_attn.o_proj", attend(at, layer, t, q, k, v));
      for (int64_t i = 0; i < m_.hidden; ++i) hidden[t][i] += attended[i];
      const Vector x = normalize(hidden[t], at + "post_attention_layernorm");
      Vector gate = multiply(at + "mlp.gate_proj", x);
      const Vector up = multiply(at + "mlp.up_proj", x);
      for (size_t i = 0; i < gate.size(); ++i) gate[i] = gate[i] / (1 + std::exp(-gate[i])) * up[i];
      const Vector down = multiply(at + "mlp.down_proj", gate);
      for (int64_t i = 0; i < m_.hidden; ++i) hidden[t][i] += down[i];
    }
  }

  Vector attend(const std::string& at, int64_t layer, int64_t t, const std::vector<Vector>& q,
                const std::vector<Vector>& k, const std::vector<Vector>& v) const {
    Vector mixed;
    for (int64_t h = 0; h < m_.heads; ++h) {
      const int64_t kv = h / (m_.heads / m_.kv_heads);
      const Vector query = head(q[t], h, at + "self_attn.q_norm", t);
      Vector scores;
      double total = 0;
      for (int64_t s = 0; s <= t; ++s) {
        const Vector key = head(k[s], kv, at + "self_attn.k_norm", s);
        double score = 0;
        for (int64_t i = 0; i < m_.head_dim; ++i) score += keep(query[i]) * keep(key[i]);
        const bool seen = window == 0 || layer < first_sliding_layer || t - s < window;
        scores.push_back(seen ? std::exp(score / std::sqrt(static_cast<double>(m_.head_dim))) : 0);
        total += scores.back();
      }
      Vector head_output(m_.head_dim, 0.0);
      for (int64_t s = 0; s <= t; ++s)
        for (int64_t i = 0; i < m_.head_dim; ++i)
          head_output[i] += scores[s] / total * keep(v[s][kv * m_.head_dim + i]);
      mixed.insert(mixed.end(), head_output.begin(), head_output.end());
    }
    return mixed;
  }

  TinyModel m_;
  const TinyWeights& weights_;
};

}  // namespace strata
