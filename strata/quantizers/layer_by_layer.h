#pragma once

#include <map>
#include <string>

#include "strata/model/model.h"
#include "strata/quantization/calibrated_quantizer.h"

namespace strata {

// A quantizer that works through the layers in their order and keeps what it has finished until it is asked
// for. The model must outlive it.
class LayerByLayerQuantizer : public CalibratedQuantizer {
 public:
  explicit LayerByLayerQuantizer(const Model& model) : model_(model) {}

  void begin(const std::map<std::string, Scheme>& schemes) override;
  QuantizedMatrix take(const std::string& tensor) override;
  bool makes(const std::string& tensor) const override { return schemes_.count(tensor) > 0; }

 protected:
  // Back to before the first layer. planned() knows the schemes.
  virtual void start() = 0;

  // Called once for every layer; calls finish() for each of the layer's matrices that is planned.
  virtual void quantize_layer(int layer) = 0;

  void finish(const Module& module, QuantizedMatrix matrix);
  void take_all();                                    // and keeps none of them
  const Scheme* planned(const Module& module) const;  // null where the matrix keeps its values
  const Model& model() const { return model_; }

 private:
  const Model& model_;
  std::map<std::string, Scheme> schemes_;
  int next_layer_ = 0;  // the first that is not quantized
  std::map<std::string, QuantizedMatrix> finished_;
};

}  // namespace strata
