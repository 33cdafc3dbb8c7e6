#pragma once

#include <memory>
#include <string>
#include <vector>

#include "strata/checkpoint/checkpoint.h"
#include "strata/core/json.h"

namespace strata {

// A matrix that a quantized checkpoint stores as several tensors, in groups along its rows.
class PackedMatrix {
 public:
  virtual ~PackedMatrix() = default;

  // Under the name that the unquantized model has ("….weight"), with its shape; the type is the scheme's name
  // ("w4g128z"), the bytes those of all parts.
  TensorInfo info;
  std::vector<std::string> parts;  // names of the tensors that hold it

  // Dequantized rows [first, first + count).
  virtual void read_rows(const Checkpoint& stored, int64_t first, int64_t count, float* target) const = 0;
};

using PackedMatrices = std::vector<std::unique_ptr<PackedMatrix>>;

// Whether a config.json has a section that describes quantized weights.
bool is_packed(const Json& config);

// Presents the tensors of a quantized checkpoint dequantized, as the config's section tells how they are
// packed: compressed-tensors `pack-quantized`, GPTQ (v1 and v2), MLX affine, MXFP4, or our own. A checkpoint
// whose config has no such section is returned as it is. Throws for other kinds of quantization, naming them,
// and for parts that do not fit each other. `where` names the config in messages.
std::unique_ptr<Checkpoint> open_packed(std::unique_ptr<Checkpoint> stored, const Json& config,
                                        const std::string& where);

// The formats, one file each. `section` is the config's part about quantization.
PackedMatrices compressed_tensors_matrices(const Checkpoint& stored, const Json& section,
                                           const std::string& where);
PackedMatrices gptq_matrices(const Checkpoint& stored, const Json& section, const std::string& where);
PackedMatrices strata_matrices(const Checkpoint& stored, const Json& section, const std::string& where);
PackedMatrices mlx_matrices(const Checkpoint& stored, const Json& section, const std::string& where);
PackedMatrices mxfp4_matrices(const Checkpoint& stored);

}  // namespace strata
