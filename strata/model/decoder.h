#pragma once

#include <ATen/ATen.h>

#include <functional>
#include <string>
#include <string_view>
#include <unordered_map>

#include "strata/model/model.h"

namespace strata {

struct DecoderOptions {
  at::Device device = at::kCPU;
  at::ScalarType dtype = at::kFloat;  // or at::kBFloat16
  bool resident = true;               // false: a layer's weights are loaded when it runs and dropped after
};

// "cpu", "cuda", "cuda:1"; throws when there is no such device.
at::Device parse_device(const std::string& name);

// Reads one tensor to a device as float or bfloat16, in the checkpoint's shape.
at::Tensor load_tensor(const Checkpoint& checkpoint, const std::string& name, at::Device device,
                       at::ScalarType dtype);

// Sees activations as the layers run: `what` is "self_attn.q_proj" (the input of that module) or "layer" (its
// output).
using Observer = std::function<void(int layer, std::string_view what, const at::Tensor& value)>;

// The forward pass, layer by layer. Weights come from the model's checkpoint unless replaced.
class Decoder {
 public:
  Decoder(const Model& model, DecoderOptions options);

  at::Tensor embed(const at::Tensor& ids);                // [B, T] int64 -> [B, T, d]
  at::Tensor layer(int index, const at::Tensor& hidden);  // [B, T, d] -> [B, T, d]
  at::Tensor logits(const at::Tensor& hidden);            // final norm and head: [B, T, d] -> [B, T, V] float
  at::Tensor forward(const at::Tensor& ids);              // all of it

  // Uses `weight` in the place of a checkpoint tensor, until restored.
  void replace(const std::string& tensor, at::Tensor weight);
  void restore(const std::string& tensor);
  void restore_all();

  void observe(Observer observer) { observer_ = std::move(observer); }
  const Model& model() const { return model_; }
  const DecoderOptions& options() const { return options_; }

 private:
  at::Tensor weight(const std::string& tensor);

  const Model& model_;
  DecoderOptions options_;
  std::unordered_map<std::string, at::Tensor> loaded_, replaced_;
  Observer observer_;
};

}  // namespace strata
