#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "strata/quantization/scheme_trials.h"
#include "strata/quantizers/layerwise_quantizer.h"

namespace strata {

// Trials of a layer-wise quantizer. Inputs have the moments of the unquantized model, since no plan says yet
// how the matrices before are quantized; they are measured layer by layer, and kept as far as they fit.
class LayerwiseTrials : public SchemeTrials {
 public:
  // The model must outlive this. `identity` names quantizer and options.
  LayerwiseTrials(const Model& model, std::shared_ptr<const Calibration> calibration,
                  const ActivationOptions& activations, MatrixQuantizerMaker maker, std::string identity);

  std::string identity() const override { return identity_; }
  void quantize(const std::string& tensor, const Scheme& scheme, MatrixView<float> weights) override;
  void unload() override;

 private:
  using Input = std::pair<int, std::string>;  // layer, as input_of() names it
  const MatrixQuantizer& quantizer_of(const Module& module, int64_t expert);
  void measure(int layer);

  const Model& model_;
  std::shared_ptr<const Calibration> calibration_;
  ActivationOptions activations_;
  MatrixQuantizerMaker maker_;
  std::string identity_;
  std::map<std::string, const Module*> modules_;
  std::unique_ptr<ActivationStream> stream_;  // before the layer that was measured last
  std::map<Input, MatrixQuantizer> quantizers_;
  int64_t kept_ = 0;  // floats in all of them
};

}  // namespace strata
