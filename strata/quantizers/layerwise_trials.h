#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "strata/quantization/scheme_trials.h"
#include "strata/quantizers/layerwise_quantizer.h"

namespace strata {

// Trials of a layer-wise quantizer. Inputs have the moments of the unquantized model, since no plan says yet
// how the matrices before are quantized; they are measured layer by layer, and kept as far as they fit. Those
// of a stack that take more than `most_floats` are measured for each trial, some experts at a time.
class LayerwiseTrials : public SchemeTrials {
 public:
  // The model must outlive this. `identity` names quantizer and options.
  LayerwiseTrials(const Model& model, std::shared_ptr<const Calibration> calibration,
                  const ActivationOptions& activations, MatrixQuantizerMaker maker, std::string identity,
                  int64_t most_floats = kMomentFloats);

  std::string identity() const override { return identity_; }
  void quantize(const std::string& tensor, const Scheme& scheme, MatrixView<float> weights) override;
  void unload() override;

 private:
  using Input = std::pair<int, std::string>;  // layer, as input_of() names it
  // Called with experts (0 where there are none) and what quantizes them, until all have been through.
  using Use = std::function<void(const std::vector<int64_t>& experts, const MatrixQuantizer& quantizer)>;
  void for_matrices(const Module& module, const Use& use);
  bool is_kept(const Module& module) const;
  void proceed_to(int layer);
  void measure(int layer);

  const Model& model_;
  std::shared_ptr<const Calibration> calibration_;
  ActivationOptions activations_;
  MatrixQuantizerMaker maker_;
  std::string identity_;
  int64_t most_floats_;
  std::map<std::string, const Module*> modules_;
  std::unique_ptr<ActivationStream> stream_;  // before the layer that was measured last
  std::map<Input, MatrixQuantizer> quantizers_;
  int64_t kept_ = 0;  // floats in all of them
};

}  // namespace strata
