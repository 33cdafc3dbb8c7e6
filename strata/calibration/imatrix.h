#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "strata/calibration/calibration.h"

namespace strata {

// llama.cpp's importance matrix: for every linear module the sums of its inputs' squares over tokens.
struct Imatrix {
  struct Entry {
    std::vector<float> squares;  // sum of x_j^2, one an input; of a stack those of every expert
    std::vector<double> counts;  // tokens; of a stack those of every expert
  };
  std::map<std::string, Entry> entries;  // by checkpoint tensor name
  std::vector<std::string> datasets;
  int64_t chunk_count = 0, chunk_size = 0;  // tokens are chunk_count blocks of chunk_size

  // E[x_j^2] of a tensor's inputs, of a stack those of every expert; empty when it has none. An expert with
  // few tokens (second_moments.h) takes the mean over all tokens of the stack.
  std::vector<float> mean_squares(const std::string& tensor) const;

  // Tells caches apart.
  std::string fingerprint() const;
};

// From calibration tokens, in one pass through the model. With a directory the sums of a layer are saved
// there as they come, and a later run goes on behind them.
Imatrix measure_imatrix(const Model& model, const Calibration& calibration, at::Device device,
                        const std::filesystem::path& cache = {});

// llama.cpp's GGUF form: per tensor <name>.in_sum2 [in] and <name>.counts [1], of a stack [experts, in] and
// [experts], and the keys general.type, imatrix.datasets, imatrix.chunk_count and imatrix.chunk_size. Throws
// unless the file has sums for every linear module of the model, of its size, and for no layer's tensor that
// the model lacks; others (such as the output matrix, or a router) are ignored.
Imatrix read_imatrix(const std::filesystem::path& path, const Model& model);
void write_imatrix(const std::filesystem::path& path, const Imatrix& imatrix);

}  // namespace strata
