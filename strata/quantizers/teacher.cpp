#include "strata/quantizers/teacher.h"

#include <ATen/core/grad_mode.h>

#include "strata/calibration/activations.h"
#include "strata/device/products.h"

namespace strata {
namespace {

HiddenStateOptions kept_states(at::Device device, at::ScalarType dtype) {
  constexpr int64_t kMemory = int64_t{4} << 30;
  HiddenStateOptions options;
  options.memory_limit = kMemory;
  options.device = device;
  options.dtype = dtype;
  return options;
}

}  // namespace

Teacher::Teacher(const Model& model, const at::Tensor& ids, at::Device device, at::ScalarType dtype)
    : states_(ids.size(0), ids.size(1), model.config.hidden_size, kept_states(device, dtype)) {
  const at::NoGradGuard no_grad;
  ActivationOptions options;
  options.device = device;
  options.dtype = dtype;
  options.states.memory_limit = kept_states(device, dtype).memory_limit;
  ActivationStream stream(model, make_calibration(ids, "windows to be tuned on"), options);
  while (!stream.at_end()) stream.advance();
  for (int64_t first = 0; first < ids.size(0); ++first)
    states_.write(first, stream.decoder().final_normed(stream.hidden(first, 1)));
}

at::Tensor Teacher::normed(int64_t first, int64_t count) const {
  return states_.read(first, count);
}

at::Tensor Teacher::normed(const std::vector<int64_t>& windows) const {
  std::vector<at::Tensor> states;
  for (const int64_t window : windows) states.push_back(states_.read(window, 1));
  return at::cat(states);
}

std::vector<float> mean_squares_of_head(const Model& model, const at::Tensor& ids, at::Device device) {
  const OneThread one;  // sums
  const Teacher teacher(model, ids, device, at::kFloat);
  at::Tensor sums = at::zeros({model.config.hidden_size}, at::kDouble);
  for (int64_t window = 0; window < ids.size(0); ++window)
    sums += teacher.normed(window, 1)[0].cpu().to(at::kDouble).square().sum(0);
  sums /= static_cast<double>(ids.numel());
  return {sums.data_ptr<double>(), sums.data_ptr<double>() + sums.numel()};
}

}  // namespace strata
