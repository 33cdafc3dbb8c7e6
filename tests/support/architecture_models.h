#pragma once

#include <ATen/ATen.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "strata/core/error.h"

namespace strata {

// Logits are kept of the last of so many tokens each.
inline constexpr int64_t kLogitsEvery = 3;

// Of rows of all tokens those of which a model has logits.
inline at::Tensor with_logits(const at::Tensor& rows) {
  return rows.slice(0, kLogitsEvery - 1, rows.size(0), kLogitsEvery);
}

// A random model of tests/data/architectures and what transformers computes with it.
struct ArchitectureModel {
  std::filesystem::path directory;
  at::Tensor ids;     // [1, tokens] int64
  at::Tensor logits;  // [tokens / kLogitsEvery, vocabulary] float, of the tokens of `with_logits`
};

// The elements of a NumPy file, version 1.0.
template <class Element>
std::vector<Element> read_npy_elements(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  const std::string bytes{std::istreambuf_iterator<char>(file), {}};
  if (bytes.size() < 10) fail("{} is no NumPy file", path.string());
  const size_t start =
      10 + static_cast<uint8_t>(bytes[8]) + 256 * static_cast<size_t>(static_cast<uint8_t>(bytes[9]));
  std::vector<Element> elements((bytes.size() - start) / sizeof(Element));
  std::memcpy(elements.data(), bytes.data() + start, elements.size() * sizeof(Element));
  return elements;
}

// The names of all of them, in order.
inline std::vector<std::string> architecture_models() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(STRATA_SOURCE_DIR "/tests/data/architectures"))
    if (entry.is_directory()) names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

// The name in one that GoogleTest takes.
inline std::string test_name(std::string name) {
  name.erase(std::remove(name.begin(), name.end(), '-'), name.end());
  return name;
}

inline ArchitectureModel architecture_model(const std::string& name) {
  ArchitectureModel model;
  model.directory = std::filesystem::path(STRATA_SOURCE_DIR "/tests/data/architectures") / name;
  model.ids = at::tensor(read_npy_elements<int64_t>(model.directory / "ids.npy"), at::kLong).unsqueeze(0);
  model.logits = at::tensor(read_npy_elements<float>(model.directory / "logits.npy"), at::kFloat)
                     .view({model.ids.size(1) / kLogitsEvery, -1});
  return model;
}

// The largest difference over the largest magnitude.
inline double relative_difference(const at::Tensor& found, const at::Tensor& expected) {
  return ((found - expected).abs().max() / expected.abs().max()).item<double>();
}

}  // namespace strata
