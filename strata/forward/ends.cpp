#include "strata/forward/ends.h"

#include "strata/forward/layer.h"

namespace strata {

at::Tensor embedded(const ModelConfig& config, const at::Tensor& rows) {
  return config.embedding_scale == 1 ? rows : rows * config.embedding_scale;
}

at::Tensor final_norm(const ModelConfig& config, const at::Tensor& hidden, const at::Tensor& gains,
                      const at::Tensor& bias) {
  const at::Tensor values = normed(config, hidden, gains, bias);
  return config.logit_scale == 1 ? values : values * config.logit_scale;
}

at::Tensor softcapped(const at::Tensor& values, double cap) {
  return cap > 0 ? at::tanh(values / cap) * cap : values;
}

at::Tensor softcap_(at::Tensor values, double cap) {
  return cap > 0 ? values.div_(cap).tanh_().mul_(cap) : values;
}

}  // namespace strata
