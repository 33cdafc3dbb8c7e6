#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "strata/core/dtype.h"
#include "strata/core/json.h"
#include "strata/export/export.h"
#include "strata/export/module_patterns.h"

namespace strata {

// One of the tensors that a packed matrix consists of.
struct PackedTensor {
  std::string ending;  // of its name: ".qweight"
  DType type;
  std::vector<int64_t> shape;
};

// The bytes of those tensors, one vector each.
using PackedBytes = std::vector<std::vector<std::byte>>;

// A matrix that is packed.
struct PackedModule {
  Scheme scheme;
  int64_t rows = 0, cols = 0;
};

// Modules by the scheme's name, and the matrices that are packed beside them (embedding, head).
struct PackedModules {
  std::map<std::string, std::vector<LayerModule>> by_scheme;
  std::map<std::string, Scheme> schemes;
  std::vector<LayerModule> kept;  // stored as they were
  int64_t layers = 0;
  int64_t experts = 0;                                // of a layer
  std::string prefix;                                 // of their names: "model.layers."
  std::string mlx_experts;                            // Architecture::mlx_experts
  bool scattered_groups = false;                      // some groups are of columns that are not neighbours
  std::map<std::string, PackedModule> beside_layers;  // by tensor name
  std::map<std::string, PackedModule> all;            // of the layers and beside them, by tensor name
};

// A directory of safetensors in which every quantized matrix is several tensors: compressed-tensors, GPTQ,
// MLX, and our own. All pack codes as the dense stream of core/bit_packing.h.
class PackedFormat {
 public:
  virtual ~PackedFormat() = default;

  // Why the format cannot hold a [rows, cols] matrix in this scheme, as the end of a sentence ("holds no
  // second-level scales"); empty when it can.
  virtual std::string refusal(const Scheme& scheme, int64_t rows, int64_t cols) const = 0;

  virtual std::vector<PackedTensor> tensors(const Scheme& scheme, int64_t rows, int64_t cols) const = 0;

  // Replaces scales and zero points (and codes, where it must) by what the file will hold.
  virtual void store(QuantizedMatrix& matrix) const = 0;

  // Whether store() changes anything.
  virtual bool stores_otherwise() const { return false; }

  // Whether the experts of a projection are one module, a stack of tensors, and the name of a module.
  virtual bool stacks_experts() const { return false; }
  virtual std::string name_of(const Model&, const std::string& module) const { return module; }

  // Whether a matrix must be quantized and packed as a whole, and not a few rows at a time.
  virtual bool needs_whole_matrix(const Scheme&) const { return false; }

  // Puts rows [first_row, first_row + part.rows) of a matrix of `rows` rows into the tensors' bytes, which
  // are zero. first_row is a multiple of 32.
  virtual void pack(const QuantizedMatrix& part, int64_t first_row, int64_t rows,
                    PackedBytes& bytes) const = 0;

  // What config.json says of it: keys beside the model's own.
  virtual Json config_entries(const PackedModules& modules) const = 0;

  // Whether groups may be of columns that are not neighbours (AffineMatrix::group_of_column).
  virtual bool holds_scattered_groups() const { return false; }

  virtual std::map<std::string, std::string> metadata() const { return {{"format", "pt"}}; }
};

// A format that holds affine groups along rows and nothing else.
class AffinePackedFormat : public PackedFormat {
 public:
  std::string refusal(const Scheme& scheme, int64_t rows, int64_t cols) const final;
  std::vector<PackedTensor> tensors(const Scheme& scheme, int64_t rows, int64_t cols) const final;
  void store(QuantizedMatrix& matrix) const final;
  void pack(const QuantizedMatrix& part, int64_t first_row, int64_t rows, PackedBytes& bytes) const final;

 protected:
  virtual std::string affine_refusal(const AffineScheme& scheme, int64_t rows, int64_t cols) const = 0;
  virtual std::vector<PackedTensor> affine_tensors(const AffineScheme& scheme, int64_t rows,
                                                   int64_t cols) const = 0;
  virtual void store_affine(AffineMatrix& matrix) const = 0;
  virtual void pack_affine(const AffineMatrix& part, int64_t first_row, int64_t rows,
                           PackedBytes& bytes) const = 0;
};

const PackedFormat& strata_format();
const PackedFormat& compressed_tensors_format();
const PackedFormat& gptq_format(bool version_2);
const PackedFormat& mlx_format();

// Writes a directory: packed matrices, all else in the checkpoint's own types; tokenizer and config. Holds
// one packed matrix and a few megabytes of rows.
ExportResult export_packed(const PackedFormat& format, const Model& model, const ExportPlan& plan,
                           const std::filesystem::path& target);

// Bytes of the directory's safetensors files, without writing them.
uint64_t packed_size(const PackedFormat& format, const Model& model, const ExportPlan& plan);

// Architecture::mlx_experts of the model; the usual name where it cannot be run.
std::string mlx_experts_of(const Model& model);

// What the formats share: the reason why scheme and shape cannot be held by any of them, and places in bytes.
std::string common_refusal(const AffineScheme& scheme, int64_t cols);

template <class T>
T* values_of(std::vector<std::byte>& bytes) {
  return reinterpret_cast<T*>(bytes.data());
}

}  // namespace strata
