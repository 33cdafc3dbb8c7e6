#pragma once

#include <ATen/ATen.h>

#include <cmath>
#include <limits>
#include <map>
#include <string>

#include "strata/forward/decoder.h"

namespace strata {

// Llama's forward pass by its definition, in double precision, with autograd where weights ask for it. Shares
// no code with the library's but the reading of weights.
class DoubleModel {
 public:
  explicit DoubleModel(const Model& model) : config_(model.config) {
    Decoder decoder(model, {});
    const auto take = [&](const std::string& name) {
      weights_[name] = decoder.weight(name).to(at::kDouble).clone();
    };
    take(model.embedding);
    take(model.final_norm);
    take(model.head);
    head_ = model.head;
    embedding_ = model.embedding;
    final_norm_ = model.final_norm;
    for (int layer = 0; layer < config_.num_layers; ++layer)
      for (const char* norm : {"input_layernorm.weight", "post_attention_layernorm.weight"})
        take(model.layer_tensor(layer, norm));
    for (const Module& module : model.modules) take(module.tensor);
    prefix_ = [&model](int layer) { return model.layer_tensor(layer, ""); };
  }

  at::Tensor& weight(const std::string& name) { return weights_.at(name); }

  at::Tensor embed(const at::Tensor& ids) const {
    return weights_.at(embedding_).index_select(0, ids.reshape({-1})).view({ids.size(0), ids.size(1), -1});
  }

  at::Tensor layer(int index, const at::Tensor& hidden) const {
    const std::string prefix = prefix_(index);
    const auto w = [&](const char* name) { return weights_.at(prefix + name); };
    const at::Tensor x = norm(hidden, w("input_layernorm.weight"));
    const auto heads = [&](const char* name, int64_t count) {
      return at::matmul(x, w(name).t()).view({x.size(0), x.size(1), count, config_.head_dim}).transpose(1, 2);
    };
    const int64_t shared = config_.num_heads / config_.num_kv_heads;
    const at::Tensor q = rotate(heads("self_attn.q_proj.weight", config_.num_heads));
    const at::Tensor k =
        rotate(heads("self_attn.k_proj.weight", config_.num_kv_heads)).repeat_interleave(shared, 1);
    const at::Tensor v = heads("self_attn.v_proj.weight", config_.num_kv_heads).repeat_interleave(shared, 1);
    const at::Tensor future = at::ones({x.size(1), x.size(1)}, at::kBool).triu(1);
    const at::Tensor scores = (at::matmul(q, k.transpose(2, 3)) / std::sqrt(double(config_.head_dim)))
                                  .masked_fill(future, -std::numeric_limits<double>::infinity());
    const at::Tensor mixed =
        at::matmul(at::softmax(scores, -1), v).transpose(1, 2).reshape({x.size(0), x.size(1), -1});
    const at::Tensor attended = hidden + at::matmul(mixed, w("self_attn.o_proj.weight").t());
    const at::Tensor y = norm(attended, w("post_attention_layernorm.weight"));
    const at::Tensor gate = at::matmul(y, w("mlp.gate_proj.weight").t());
    const at::Tensor up = at::matmul(y, w("mlp.up_proj.weight").t());
    return attended + at::matmul(gate * at::sigmoid(gate) * up, w("mlp.down_proj.weight").t());
  }

  at::Tensor logits(const at::Tensor& hidden) const {
    return at::matmul(norm(hidden, weights_.at(final_norm_)), weights_.at(head_).t());
  }

  at::Tensor forward(const at::Tensor& ids) const {
    at::Tensor hidden = embed(ids);
    for (int index = 0; index < config_.num_layers; ++index) hidden = layer(index, hidden);
    return logits(hidden);
  }

 private:
  at::Tensor norm(const at::Tensor& x, const at::Tensor& weight) const {
    return x / (x.square().mean(-1, true) + config_.rms_norm_eps).sqrt() * weight;
  }

  at::Tensor rotate(const at::Tensor& x) const {
    const int64_t half = x.size(3) / 2;
    const at::Tensor frequency =
        at::pow(config_.rope.theta, -at::arange(half, at::kDouble) / static_cast<double>(half));
    const at::Tensor angle = at::outer(at::arange(x.size(2), at::kDouble), frequency);
    const at::Tensor first = x.narrow(3, 0, half), second = x.narrow(3, half, half);
    return at::cat({first * angle.cos() - second * angle.sin(), second * angle.cos() + first * angle.sin()},
                   3);
  }

  ModelConfig config_;
  std::string embedding_, final_norm_, head_;
  std::function<std::string(int)> prefix_;
  std::map<std::string, at::Tensor> weights_;
};

}  // namespace strata
