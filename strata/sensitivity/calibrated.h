#pragma once

#include <functional>
#include <memory>
#include <string>

#include "strata/calibration/activations.h"
#include "strata/forward/decoder.h"
#include "strata/sensitivity/method.h"

namespace strata {

// A stream of the evidence's calibration through the model on the options' device.
ActivationStream activations_of(const Model& model, const SensitivityOptions& options,
                                const Evidence& evidence);

// A calibration's first blocks, as many as hold the tokens that were asked for and at least one; throws
// UsageError, naming the method, where none were.
std::shared_ptr<const Calibration> first_blocks(const Calibration& calibration, int64_t tokens,
                                                const std::string& method);

// Calls `measure` for every module in the order of the layers, with `hidden`, which starts as the embedded
// tokens [B, T, d], moved on to what enters the module's layer. Shows progress under the given name.
void for_each_module(Decoder& decoder, at::Tensor& hidden, const std::string& what,
                     const std::function<void(const Module&)>& measure);

// Adds to the scores' details what they were measured on.
void describe_calibration(Scores& scores, const Evidence& evidence);

}  // namespace strata
