#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "strata/gguf/file.h"
#include "strata/model/config.h"

namespace strata {

// Keys of a file, those of its architecture without their prefix.
class GgufKeys {
 public:
  GgufKeys(const GgufFile& file, std::string architecture)
      : file_(file), prefix_(std::move(architecture) + ".") {}

  int64_t integer(const std::string& key) const;  // throws where there is none
  int64_t integer(const std::string& key, int64_t otherwise) const;
  // A size of each layer: one for all, or a list with one for each.
  std::vector<int64_t> by_layer(const std::string& key, int64_t layers) const;
  double real(const std::string& key, double otherwise) const;
  bool flag(const std::string& key, bool otherwise) const;
  std::string text(const std::string& key) const;                              // "" where there is none
  std::optional<int64_t> optional_integer(const std::string& full_key) const;  // given with its prefix

  const GgufFile& file() const { return file_; }

 private:
  const GgufFile& file_;
  std::string prefix_;
};

// The config that a GGUF's keys and the presence of its tensors describe.
ModelConfig read_gguf_config(const GgufFile& file);

}  // namespace strata
