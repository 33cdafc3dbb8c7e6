#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

#include "strata/core/options.h"
#include "strata/vision/quantized_layers.h"

namespace strata::vision {

struct OnnxExportOptions {
  bool int4 =
      true;  // weights of 2 to 4 bits as INT4 (operator set 21); otherwise all of up to 7 bits as INT8
};

Options declare(OnnxExportOptions& options);

// The graph with the layers quantized, as onnxruntime runs it: weights of 8 bits as UINT8, of 5 to 7 as INT8.
// Every layer's weight is a constant of codes
// with a DequantizeLinear that has a scale for each output; every layer's input goes through QuantizeLinear
// and DequantizeLinear with uint8 codes, behind a Clip where they have fewer than 8 bits. Biases stay float.
OnnxModel quantized_model(QuantizedLayers& layers, const std::vector<Widths>& plan,
                          const OnnxExportOptions& options);

}  // namespace strata::vision
