#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "strata/allocation/allocator.h"
#include "strata/calibration/calibration.h"
#include "strata/core/options.h"
#include "strata/forward/decoder.h"
#include "strata/pipeline/automatic.h"
#include "strata/pipeline/methods.h"
#include "strata/pipeline/reachable_costs.h"
#include "strata/quantizers/quantizers.h"
#include "strata/sensitivity/costs.h"
#include "strata/sensitivity/method.h"

namespace strata {

// Where the evidence about a model comes from.
struct WorkbenchOptions {
  at::Device device = at::kCPU;    // where tensors are computed
  uint64_t seed = 0;               // of everything random
  CalibrationOptions calibration;  // its seed is the one above
  std::filesystem::path imatrix;   // llama.cpp's importance matrix of the model; empty = none
  std::filesystem::path cache;     // directory of what was measured; empty = none
  OptionValues methods;            // what scoring methods declare

  bool has_calibration() const { return !calibration.source.empty(); }
};

Options declare(WorkbenchOptions& options);

// A model and the evidence about it. Everything is read or measured once, when it is first asked for.
class Workbench {
 public:
  // Reads the importance matrix; throws where that is another model's.
  Workbench(Model model, WorkbenchOptions options);
  Workbench(const Workbench&) = delete;  // decoders and quantizers look at the model in here

  const Model& model() const { return model_; }
  const WorkbenchOptions& options() const { return options_; }

  // Tokens; where none were given, those that the model writes, and stderr says that it does for `who`.
  std::shared_ptr<const Calibration> calibration(const std::string& who);

  // The same; but at least so many tokens where they come from a file that has them.
  std::shared_ptr<const Calibration> calibration(const std::string& who, int64_t tokens);

  // Those that were asked for so far; null for none.
  const Calibration* known_calibration() const { return calibration_.get(); }

  // The same, parted into those that scores of the method auto see and those that check its plan.
  const PartedCalibration& parted_calibration();

  std::shared_ptr<const Imatrix> imatrix() const { return imatrix_; }  // null where there is none

  // Mean squares of the inputs of matrices, by tensor: of the layers' with an importance matrix, and of the
  // head once a quantizer that looks at tokens was prepared.
  const std::map<std::string, std::vector<float>>& importance() const { return importance_; }

  // Which rows have high bits, where the schemes mix rows and there are tokens; otherwise empty.
  RowImpacts row_impacts(const std::vector<Scheme>& schemes);
  RowImpacts row_impacts(const std::map<std::string, Scheme>& schemes);  // by tensor

  // Scores of a method and costs of the schemes; those of a checked method (automatic.h) have not seen all
  // tokens. Where the plan that they are for is known, kl measures what that can reach, and embedding and
  // head have costs where the plan gives them schemes; without one they have. Where the
  // quantizer is known, kl measures weights as that would leave them.
  const Scores& scores(const MethodChoice& method, const std::vector<Scheme>& schemes, uint64_t seed,
                       const AllocatorOptions* plan = nullptr, const QuantizerChoice* quantizer = nullptr);

  // This plan, made from these scores; with a checked method the uniform plan of the same bytes where that
  // loses less on the tokens held back, both as the quantizer or its stand-in makes them. Without a note
  // where nothing was checked. What a calibrated quantizer made of the plan is kept for prepare().
  CheckedPlan check(const MethodChoice& method, const Plan& plan, const Scores& scores,
                    const AllocatorOptions& allocator, const QuantizerChoice& quantizer);

  // What quantizes matrices that get these schemes.
  PreparedQuantizer prepare(const std::map<std::string, Scheme>& schemes, const QuantizerChoice& quantizer);

  // The model as it is, and what quantizing leaves of it under these schemes: until the next call or
  // release(), which takes both decoders out of memory.
  Decoder& reference();
  Decoder& quantized(const std::map<std::string, Scheme>& schemes, const QuantizerChoice& quantizer);
  void release_quantized();
  void release();

 private:
  std::vector<Module> boundaries_for(const AllocatorOptions* plan) const;
  std::shared_ptr<const WeightErrors> weight_errors(const SensitivityOptions& options);
  std::string layers_identity(const std::map<std::string, Scheme>& schemes,
                              const QuantizerChoice& quantizer) const;
  Decoder& replace_by(PreparedQuantizer prepared, const std::map<std::string, Scheme>& schemes);
  void weigh_head(const Calibration& calibration);
  std::shared_ptr<SchemeTrials> trials(const MethodChoice& method, const QuantizerChoice* quantizer,
                                       const Evidence& evidence) const;
  bool takes_reachable_costs(const MethodChoice& method, const AllocatorOptions& plan) const;
  DecoderOptions decoder_options() const;

  WorkbenchOptions options_;
  Model model_;
  std::shared_ptr<const Imatrix> imatrix_;
  std::map<std::string, std::vector<float>> importance_;
  std::shared_ptr<const Calibration> calibration_;
  std::optional<PartedCalibration> parted_;
  std::shared_ptr<const RowImpacts> row_impacts_;
  std::map<std::string, std::shared_ptr<const WeightErrors>> weight_errors_;  // by schemes and boundaries
  std::map<std::string, std::unique_ptr<ReachableCosts>> reachable_costs_;    // and by tokens
  std::map<std::string, Scores> scores_;                                      // by all that they depend on
  std::string checked_;                  // which schemes and quantizer `checked_quantizer_` is for
  PreparedQuantizer checked_quantizer_;  // which has made these matrices, and kept them
  std::optional<Decoder> reference_, decoder_;
  PreparedQuantizer prepared_;             // what the model in memory was quantized with
  std::optional<Decoder> scaled_decoder_;  // where that is another model
};

// Solves a budget for all matrices of a model.
Plan make_plan(const Model& model, const Scores& scores, const AllocatorOptions& options);

}  // namespace strata
