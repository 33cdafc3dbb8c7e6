#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "strata/allocation/allocator.h"
#include "strata/evaluation/evaluate.h"
#include "strata/evaluation/loss_by_token.h"
#include "strata/export/export.h"
#include "strata/pipeline/boundaries.h"
#include "strata/pipeline/estimate.h"
#include "strata/pipeline/tune_plan.h"
#include "strata/pipeline/workbench.h"

namespace strata {

// The main job: score, allocate, quantize, write, and measure.
struct QuantizeRequest {
  std::filesystem::path model, output;
  std::string format;   // "gguf", "hf", "mlx", ...; empty = by the output's ending and the runtime
  std::string runtime;  // "vllm", ...: only schemes that it loads; empty = all of the format
  std::string schemes;  // menu; empty = the method's, where the format can store it, or the format's own
  std::string effort = "auto";  // as find_effort() takes it: what "auto" is in methods, quantizer and tuning
  std::string method = "auto";  // as parse_method() takes it; may bring its own allocator
  WorkbenchOptions workbench;
  std::filesystem::path scores, plan;  // files of earlier runs, used instead of scoring or allocating
  AllocatorOptions allocator;          // its budget's bytes count the whole output file
  QuantizerChoice quantizer = QuantizerChoice::automatic();
  AskedBoundaries boundaries;
  TuningOptions tuning;        // after the quantizer; device, seed and cache are those of `workbench`
  uint64_t shard_bytes = 0;    // largest file; 0 = as the format does by itself
  std::filesystem::path text;  // measure the loss on it; empty = do not
  EvaluationOptions evaluation;
  std::string program = "strata";  // what the file's label says that it was made by
};

struct Measurement {
  std::string name;  // "unquantized", "uniform", "nsds"
  uint64_t bytes = 0;
  Evaluation evaluation;
};

struct QuantizeResult {
  Scores scores;  // empty when a plan was given
  Plan plan;
  AllocatorOptions allocator;  // that chose it, with menu, ties and boundaries; as it is when one was given
  std::string format;
  std::vector<std::string> notes;  // what was done differently than might be expected; also shown on stderr
  ExportPlan exported_plan;
  ExportResult exported;
  std::vector<Estimate> estimates;  // of every effort, before the work; only where that chose all of it
  std::string effort;               // the one that was taken
  std::optional<double>
      held_back_kld;  // of the plan, on tokens that its costs have not seen; where it was checked
  std::optional<TuningReport> tuning;     // where that was asked for
  std::vector<Measurement> measurements;  // with a text only; the last one is read back from the file written
  std::optional<LossByToken> by_token;    // of that one
};

QuantizeResult quantize(const QuantizeRequest& request);

}  // namespace strata
