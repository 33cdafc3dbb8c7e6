#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <filesystem>

namespace strata {

// Where the hidden states of a calibration set are kept between layers.
struct HiddenStateOptions {
  // Float32 while that takes at most this many bytes, else bfloat16 while that does, else bfloat16 in a
  // temporary file.
  int64_t memory_limit = int64_t{1} << 30;
  std::filesystem::path directory;    // of the temporary file; empty = the system's
  at::Device device = at::kCPU;       // memory is taken here, and read() gives tensors here
  at::ScalarType dtype = at::kFloat;  // what read() gives
};

// Hidden states [blocks, window, hidden_size] in memory or on disk.
class HiddenStates {
 public:
  HiddenStates(int64_t blocks, int64_t window, int64_t hidden_size, const HiddenStateOptions& options);
  ~HiddenStates();
  HiddenStates(HiddenStates&& other) noexcept;
  HiddenStates& operator=(HiddenStates&& other) noexcept;
  HiddenStates(const HiddenStates&) = delete;
  HiddenStates& operator=(const HiddenStates&) = delete;

  at::Tensor read(int64_t first, int64_t count) const;  // [count, window, hidden_size]
  void write(int64_t first, const at::Tensor& values);  // any type, on any device

  int64_t blocks() const { return blocks_; }
  bool on_disk() const { return descriptor_ >= 0; }
  at::ScalarType stored_type() const { return stored_type_; }

 private:
  int64_t blocks_, window_, hidden_size_;
  HiddenStateOptions options_;
  at::ScalarType stored_type_ = at::kFloat;
  at::Tensor memory_;
  int descriptor_ = -1;
};

}  // namespace strata
