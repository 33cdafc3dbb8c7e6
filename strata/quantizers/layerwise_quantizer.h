#pragma once

#include <ATen/ATen.h>

#include <functional>
#include <map>
#include <memory>

#include "strata/calibration/activations.h"
#include "strata/calibration/calibration.h"
#include "strata/calibration/second_moments.h"
#include "strata/quantizers/gptq.h"
#include "strata/quantizers/layer_by_layer.h"
#include "strata/quantizers/row_pieces.h"

namespace strata {

// Quantizes one matrix [rows, cols]: the module's, or that of an expert of its stack; or a piece of its rows
// (row_pieces.h).
using MatrixQuantizer = std::function<QuantizedMatrix(const Module& module, int64_t expert,
                                                      MatrixView<const float> weights, const Scheme& scheme)>;

// A quantizer for the matrices that read one input, made from the input's second moments sum x x^T [cols,
// cols] (float, on the stream's device).
using MatrixQuantizerMaker = std::function<MatrixQuantizer(const at::Tensor& second_moments)>;

struct LayerwiseOptions {
  ActivationOptions activations;
  // Within a layer too, a matrix sees the inputs that the quantized matrices before it give: q, k and v, then
  // o, then gate and up, then down. Otherwise all of a layer's inputs come from the layer as it was.
  bool sequential = true;
  RowImpacts row_impacts;  // of the matrices whose schemes mix rows; see gptq()
};

Options layerwise_options(OptionValues& values);

// Calibration text on its way through the model as it is being quantized: a layer's input moments are those
// of the activations that have passed the quantized layers before it.
// Ranks (core/ranks.h) measure the moments each for itself, and share the rows of matrices.
class LayerwiseQuantizer : public LayerByLayerQuantizer, public SharedQuantizer {
 public:
  LayerwiseQuantizer(const Model& model, std::shared_ptr<const Calibration> calibration,
                     LayerwiseOptions options, MatrixQuantizerMaker maker);

  void help() override { take_all(); }

 private:
  void start() override;
  void quantize_layer(int layer) override;
  using Moments = std::map<std::string, ProductMoments>;  // by the names of inputs
  void quantize_readers(int layer, const std::string& input, Moments& moments);
  bool is_planned(int layer, const std::string& input) const;

  std::shared_ptr<const Calibration> calibration_;
  LayerwiseOptions options_;
  MatrixQuantizerMaker maker_;
  std::unique_ptr<ActivationStream> stream_;
};

// What makes GPTQ of second moments, or round-to-nearest under their diagonals.
MatrixQuantizerMaker gptq_maker(const GptqOptions& options, std::shared_ptr<const RowImpacts> row_impacts);
MatrixQuantizerMaker importance_maker(std::shared_ptr<const RowImpacts> row_impacts);

// Layer-wise GPTQ.
std::shared_ptr<CalibratedQuantizer> make_gptq_quantizer(const Model& model,
                                                         std::shared_ptr<const Calibration> calibration,
                                                         const LayerwiseOptions& options,
                                                         const GptqOptions& gptq_options);

// Round-to-nearest with scales chosen by search, weighed with the mean square of each input (the diagonal of
// the second moments), as llama.cpp's importance matrices are used: GPTQ for inputs without correlations.
std::shared_ptr<CalibratedQuantizer> make_importance_quantizer(const Model& model,
                                                               std::shared_ptr<const Calibration> calibration,
                                                               const LayerwiseOptions& options);

}  // namespace strata
