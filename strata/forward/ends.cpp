#include "strata/forward/ends.h"

#include <ATen/core/grad_mode.h>

#include <cmath>
#include <vector>

#include "strata/forward/layer.h"
#include "strata/forward/linear.h"
#include "strata/model/stream.h"

namespace strata {
namespace {

// Features of all layers, side by side.
at::Tensor layer_features(const ModelConfig& config, const at::Tensor& hidden,
                          const LayerEmbedding& of_layers) {
  const int64_t size = config.layer_embedding_size;
  const auto root = [](int64_t value) { return std::sqrt(static_cast<double>(value)); };
  const at::Tensor input = of_layers.round_input ? of_layers.round_input(hidden) : hidden;
  const at::Tensor projected =
      strata::linear(input, of_layers.projection, at::Tensor()) / root(config.hidden_size);
  const at::Tensor by_layer = projected.view({hidden.size(0), hidden.size(1), -1, size});
  const at::Tensor normed = rms_norm(by_layer, of_layers.gains, config.rms_norm_eps).view_as(projected);
  return (normed + of_layers.rows * root(size)) / root(2);
}

at::Tensor first_features(const at::Tensor& stream, int64_t count) {
  return stream.size(-1) == count ? stream : stream.narrow(-1, 0, count);
}

}  // namespace

at::Tensor embedded(const ModelConfig& config, const at::Tensor& rows, const LayerEmbedding& of_layers) {
  const at::Tensor hidden = config.embedding_scale == 1 ? rows : rows * config.embedding_scale;
  if (stream_size(config) == config.hidden_size) return hidden;
  const int64_t keys = changing_size(config) - config.hidden_size;
  std::vector<at::Tensor> parts = {hidden, at::zeros({rows.size(0), rows.size(1), keys}, rows.options())};
  if (config.layer_embedding_size > 0) parts.push_back(layer_features(config, hidden, of_layers));
  return at::cat(parts, -1);
}

at::Tensor gradient_by_rows(const ModelConfig& config, const at::Tensor& rows,
                            const LayerEmbedding& of_layers, const at::Tensor& by_stream) {
  const at::AutoGradMode with_gradients(true);
  const at::Tensor leaf = rows.detach().set_requires_grad(true);
  embedded(config, leaf, of_layers).backward(by_stream);
  return leaf.grad();
}

at::Tensor final_norm(const ModelConfig& config, const at::Tensor& stream, const at::Tensor& gains,
                      const at::Tensor& bias) {
  const at::Tensor values = normed(config, hidden_states(config, stream), gains, bias);
  return config.logit_scale == 1 ? values : values * config.logit_scale;
}

at::Tensor hidden_states(const ModelConfig& config, const at::Tensor& stream) {
  return first_features(stream, config.hidden_size);
}

at::Tensor changing_part(const ModelConfig& config, const at::Tensor& stream) {
  return first_features(stream, changing_size(config));
}

at::Tensor with_changing_part(const ModelConfig& config, const at::Tensor& changing, const at::Tensor& like) {
  const int64_t features = stream_size(config) - changing.size(-1);
  if (features == 0) return changing;
  return at::cat({changing, like.narrow(-1, like.size(-1) - features, features)}, -1);
}

at::Tensor softcapped(const at::Tensor& values, double cap) {
  return cap > 0 ? at::tanh(values / cap) * cap : values;
}

at::Tensor softcap_(at::Tensor values, double cap) {
  return cap > 0 ? values.div_(cap).tanh_().mul_(cap) : values;
}

}  // namespace strata
