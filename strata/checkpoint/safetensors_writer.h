#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "strata/core/dtype.h"

namespace strata {

struct PlannedTensor {
  std::string name;
  std::vector<int64_t> shape;
  DType type;
};

// Writes shards of at most shard_bytes, tensor by tensor in the order planned, and
// model.safetensors.index.json when there is more than one ("model.safetensors" alone otherwise). Holds one
// tensor at a time.
class SafetensorsWriter {
 public:
  SafetensorsWriter(std::filesystem::path directory, std::vector<PlannedTensor> tensors,
                    std::map<std::string, std::string> metadata = {{"format", "pt"}},
                    uint64_t shard_bytes = 5000000000);
  ~SafetensorsWriter();

  // Rows of the next tensor, converted to its type; rows of one tensor may come in several calls.
  void write(const float* values, int64_t count);
  // The same for bytes that are in the tensor's type already, such as packed codes.
  void write_bytes(const std::byte* bytes, uint64_t count);
  void finish();  // throws if a tensor is missing

  // Bytes of all shards that these tensors make, headers included.
  static uint64_t file_bytes(const std::vector<PlannedTensor>& tensors,
                             const std::map<std::string, std::string>& metadata = {{"format", "pt"}},
                             uint64_t shard_bytes = 5000000000);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace strata
