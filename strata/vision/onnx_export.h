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
// Every layer's weight is a constant of codes with a DequantizeLinear that has a scale for each output; every
// layer's input goes through QuantizeLinear and DequantizeLinear with uint8 codes, behind a Clip where they
// have fewer than 8 bits. Biases stay float. The operator set becomes 13, or 21 with INT4, where it was
// earlier.
OnnxModel quantized_model(QuantizedLayers& layers, const std::vector<Widths>& plan,
                          const OnnxExportOptions& options);

// Runs a quantized model, as read back from its file, beside the simulation on a few of the images. Throws
// Error naming the output that differs by more than rounding explains.
void check_quantized(const OnnxModel& written, QuantizedLayers& layers, const std::vector<Widths>& plan,
                     const ImageSet& images);

}  // namespace strata::vision
