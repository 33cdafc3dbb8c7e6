#pragma once

#include <cstddef>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "strata/core/dtype.h"

namespace strata {

struct TensorInfo {
  std::string name;
  std::vector<int64_t> shape;
  std::string type;    // as stored: "F16", "BF16", "Q4_K"
  uint64_t bytes = 0;  // as stored

  int64_t elements() const;
  int64_t rows() const;  // product of all dimensions but the last; 1 for vectors
  int64_t cols() const;  // the last dimension
};

// Named tensors of a trained model, mapped from files and converted to float as they are read.
class Checkpoint {
 public:
  virtual ~Checkpoint() = default;

  virtual const std::vector<TensorInfo>& tensors() const = 0;  // in file order
  virtual const std::filesystem::path& path() const = 0;       // for messages

  // Reads rows [first, first + count) of a tensor as float; throws if a value is NaN or infinite, naming the
  // tensor.
  virtual void read_rows(const TensorInfo& tensor, int64_t first, int64_t count, float* target) const = 0;

  // Reads stored bytes [first, first + count) of a tensor as they are, for readers of packed formats; throws
  // where the file's format has no such thing.
  virtual void read_bytes(const TensorInfo& tensor, uint64_t first, uint64_t count, std::byte* target) const;

  // Whether a tensor's values differ from those in the file.
  virtual bool altered(const std::string&) const { return false; }

  virtual const TensorInfo* find(const std::string& name) const;  // null when absent
  bool contains(const std::string& name) const { return find(name) != nullptr; }
  const TensorInfo& info(const std::string& name) const;  // throws, naming the file and the missing tensor
  std::vector<float> read(const std::string& name) const;
  void read(const TensorInfo& tensor, float* target) const { read_rows(tensor, 0, tensor.rows(), target); }
};

// A safetensors file, a directory with one or with model.safetensors.index.json. Checks header length,
// offsets, overlaps, shapes against byte counts, file sizes, missing shards.
std::unique_ptr<Checkpoint> open_safetensors(const std::filesystem::path& path);

}  // namespace strata
