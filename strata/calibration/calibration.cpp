#include "strata/calibration/calibration.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <utility>
#include <vector>

#include "strata/calibration/self_text.h"
#include "strata/calibration/token_files.h"
#include "strata/core/error.h"
#include "strata/core/file.h"
#include "strata/core/random.h"

namespace strata {
namespace {

using Sequences = std::vector<std::vector<int64_t>>;

Sequences read_sequences(const Model& model, const std::filesystem::path& path) {
  if (path.extension() == ".npy") return read_npy_ids(path);
  if (path.extension() == ".safetensors") return read_safetensors_ids(path);
  const std::vector<int32_t> ids = make_tokenizer(model.vocabulary())->encode(read_text(path));
  return {std::vector<int64_t>(ids.begin(), ids.end())};
}

void check_ids(const Model& model, const std::string& source, const Sequences& sequences) {
  for (const auto& sequence : sequences)
    for (const int64_t id : sequence)
      if (id < 0 || id >= model.config.vocab_size)
        fail("the calibration tokens of {} contain id {}, but the vocabulary of {} has {} tokens", source, id,
             model.path.string(), model.config.vocab_size);
}

// Where each window starts: sequence and offset.
using Start = std::pair<size_t, int64_t>;

std::vector<Start> all_starts(const Sequences& sequences, int64_t window) {
  std::vector<Start> starts;
  for (size_t s = 0; s < sequences.size(); ++s)
    for (int64_t at = 0; at + window <= static_cast<int64_t>(sequences[s].size()); at += window)
      starts.emplace_back(s, at);
  return starts;
}

// The first `count` places of a random permutation (Fisher and Yates).
void sample_in_place(std::vector<Start>& starts, size_t count, uint64_t seed) {
  Random random(seed);
  count = std::min(count, starts.size());
  for (size_t i = 0; i < count; ++i) std::swap(starts[i], starts[i + random.below(starts.size() - i)]);
  starts.resize(count);
}

at::Tensor sample_blocks(const Sequences& sequences, const CalibrationOptions& options, int64_t count) {
  std::vector<Start> starts = all_starts(sequences, options.window);
  if (starts.empty()) {
    size_t longest = 0;
    for (const auto& sequence : sequences) longest = std::max(longest, sequence.size());
    fail(
        "the calibration tokens of {} are {}, fewer than one window of {}; give a longer text or a smaller "
        "--calib-window",
        options.source, longest, options.window);
  }
  sample_in_place(starts, static_cast<size_t>(count), options.seed);
  at::Tensor ids = at::empty({static_cast<int64_t>(starts.size()), options.window}, at::kLong);
  for (size_t b = 0; b < starts.size(); ++b)
    std::copy_n(sequences[starts[b].first].begin() + starts[b].second, options.window,
                ids.data_ptr<int64_t>() + static_cast<int64_t>(b) * options.window);
  return ids;
}

constexpr uint64_t kHashStart = 0xcbf29ce484222325ull;  // FNV-1a

}  // namespace

std::string fingerprint_of(const at::Tensor& ids) {
  uint64_t hash = kHashStart;
  const auto add = [&](int64_t value) {
    for (int shift = 0; shift < 64; shift += 8)
      hash = (hash ^ (static_cast<uint64_t>(value) >> shift & 0xff)) * 0x100000001b3ull;
  };
  add(ids.size(0));
  add(ids.size(1));
  const int64_t* values = ids.data_ptr<int64_t>();
  for (int64_t i = 0; i < ids.numel(); ++i) add(values[i]);
  return fmt::format("{:016x}", hash);
}

Calibration make_calibration(const at::Tensor& ids, std::string source) {
  if (ids.dim() != 2 || ids.numel() == 0)
    fail("calibration tokens are blocks of windows, but their shape is {}", c10::str(ids.sizes()));
  Calibration calibration;
  calibration.ids = ids.to(at::kCPU, at::kLong).contiguous();
  calibration.source = std::move(source);
  calibration.fingerprint = fingerprint_of(calibration.ids);
  return calibration;
}

Calibration load_calibration(const Model& model, const CalibrationOptions& options, at::Device device) {
  if (options.window < 2)
    fail_usage("the calibration window is {} tokens, but a prediction needs at least 2", options.window);
  if (options.tokens < 0)
    fail_usage("{} calibration tokens were asked for, expected at least one", options.tokens);
  const int64_t tokens = options.tokens > 0 ? options.tokens : kCalibrationTokens;
  const int64_t blocks = (tokens - 1) / options.window + 1;
  if (options.source.empty()) fail_usage("calibration tokens need a source: a file, or \"self\"");
  if (options.source == "self")
    return make_calibration(write_self_text(model, blocks, options.window, options.seed, device), "self");
  const Sequences sequences = read_sequences(model, options.source);
  check_ids(model, options.source, sequences);
  return make_calibration(sample_blocks(sequences, options, blocks), options.source);
}

std::string weights_fingerprint(const Model& model) {
  uint64_t hash = kHashStart;
  const auto add = [&hash](uint8_t byte) { hash = (hash ^ byte) * 0x100000001b3ull; };
  std::vector<float> row;
  for (const Module& module : model.modules) {
    row.resize(static_cast<size_t>(module.cols));
    model.checkpoint->read_rows(model.checkpoint->info(module.tensor), 0, 1, row.data());
    const auto* bytes = reinterpret_cast<const uint8_t*>(row.data());
    std::for_each(bytes, bytes + row.size() * sizeof(float), add);
  }
  // The same weights are run with their windows from a directory and without them from a GGUF.
  if (model.config.sliding_window > 0)
    for (const char digit : fmt::format("{}", model.config.sliding_window)) add(static_cast<uint8_t>(digit));
  return fmt::format("{:016x}", hash);
}

std::shared_ptr<const Calibration> require_calibration(const Model& model, const CalibrationOptions& options,
                                                       at::Device device, const std::string& who) {
  CalibrationOptions complete = options;
  if (options.source.empty()) {
    fmt::print(stderr,
               "{} needs calibration text and there is no --calib, so the model writes {} tokens itself "
               "(--calib self)\n",
               who, options.tokens > 0 ? options.tokens : kCalibrationTokens);
    complete.source = "self";
  }
  return std::make_shared<const Calibration>(load_calibration(model, complete, device));
}

}  // namespace strata
