#pragma once

#include <ATen/ATen.h>

#include <filesystem>
#include <optional>

#include "strata/core/json.h"
#include "strata/quantization/calibrated_quantizer.h"

namespace strata {

// A run of tuning as it is kept after each check, all of it [n] float32 on the CPU.
struct TuningState {
  int64_t step = 0;                       // steps that are done
  at::Tensor parameters, means, squares;  // now, and what Adam remembers
  at::Tensor best;                        // the parameters of the least divergence,
  double best_divergence = 0;             // on the windows held back
};

// The file DIRECTORY/tuning-<hash of identity>.state, complete at every time.
class TuningStateFile {
 public:
  // Keeps nothing where the directory is empty; else creates it.
  TuningStateFile(const std::filesystem::path& directory, Json identity);

  // What a run of the same identity left, with `count` parameters; none where there is no such file. Throws
  // where the file is something else.
  std::optional<TuningState> read(int64_t count) const;
  void write(const TuningState& state) const;

 private:
  std::filesystem::path path_;
  Json identity_;
};

// Tells matrices apart: a hash of all that is stored.
std::string stored_fingerprint(const std::map<std::string, QuantizedMatrix>& matrices);

}  // namespace strata
