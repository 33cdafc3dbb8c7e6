#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <memory>
#include <string>

#include "strata/model/model.h"

namespace strata {

// How many tokens measurements take where nobody says.
inline constexpr int64_t kCalibrationTokens = 16384;

// Where calibration tokens come from, and how many.
struct CalibrationOptions {
  // A text file, token ids (.npy, .safetensors), or "self": text that the model writes itself. Empty = not
  // given: what needs tokens takes "self" and says so.
  std::string source;
  int64_t tokens = 0;  // rounded up to whole windows; fewer where the source has fewer; 0: kCalibrationTokens
  int64_t window = 512;
  uint64_t seed = 0;
};

// Token blocks for calibration.
struct Calibration {
  at::Tensor ids;           // [blocks, window] int64 on the CPU, in random order: any first n are a sample
  std::string source;       // as the options had it
  std::string fingerprint;  // of the ids; tells caches apart

  int64_t blocks() const { return ids.size(0); }
  int64_t window() const { return ids.size(1); }
  int64_t tokens() const { return ids.numel(); }
};

// Tells token ids [blocks, window] int64 apart: a hash of all of them.
std::string fingerprint_of(const at::Tensor& ids);

// Calibration from given blocks [blocks, window].
Calibration make_calibration(const at::Tensor& ids, std::string source);

// Reads or writes the tokens. Text is tokenized whole; a text or a row of ids is cut into windows without
// overlap, of which seeded sampling takes as many as are asked for. Throws when there are fewer tokens than
// one window, or an id outside the vocabulary.
Calibration load_calibration(const Model& model, const CalibrationOptions& options,
                             at::Device device = at::kCPU);

// The same for a method that needs tokens: without a source it takes "self" and says on stderr that `who`
// does.
std::shared_ptr<const Calibration> require_calibration(const Model& model, const CalibrationOptions& options,
                                                       at::Device device, const std::string& who);

// Tells models under the same name apart: a hash of the first row of every matrix.
std::string weights_fingerprint(const Model& model);

}  // namespace strata
