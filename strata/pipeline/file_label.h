#pragma once

#include <string>

#include "strata/pipeline/quantize.h"

namespace strata {

// The entry of a label that is checked against the file, and its text: stored bits of the layers' matrices.
inline constexpr const char* kLabelOfBits = "bits_per_weight";
std::string label_of_bits(const Plan& plan);  // "3.0012"

// What a file says of itself (export/label.h): program, effort, method, allocator, quantizer, budget, bits,
// what was lost on tokens held back, and the tokens that were read (null: none). Values are short.
Label file_label(const QuantizeRequest& request, const QuantizeResult& result,
                 const QuantizerChoice& quantizer, const Calibration* calibration);

// Takes at least as many bytes as any label, in a GGUF and in a directory: what a size is computed with
// before all of it is known.
Label longest_label();

}  // namespace strata
