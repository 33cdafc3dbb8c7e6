#pragma once

#include <string>

#include "strata/export/export.h"

namespace strata {

// Throws if the plan names a tensor that is not a matrix of the model's layers.
void check_plan(const Model& model, const ExportPlan& plan);

// Throws if the plan holds anything that was measured by rows or columns, where the output has those of the
// model's value heads in another order (value_heads.h).
void require_no_order(const Model& model, const ExportPlan& plan);

// The scheme the plan gives a matrix; null when it is kept.
const Scheme* planned_scheme(const Model& model, const ExportPlan& plan, const std::string& tensor);

// The plan's importance of a tensor's inputs, of a stack those of every matrix, null where it has none;
// throws when there are not as many as columns.
const float* importance_of(const ExportPlan& plan, const TensorInfo& tensor, int64_t matrices = 1);

// How the plan quantizes a matrix, or a stack of so many, that its calibrated quantizer does not give.
QuantizerOptions quantizer_of(const ExportPlan& plan, const TensorInfo& tensor, int64_t matrices = 1);

// Whether the plan's calibrated quantizer makes this matrix. Exporters call begin_calibrated first.
bool is_calibrated(const ExportPlan& plan, const std::string& tensor);
void begin_calibrated(const Model& model, const ExportPlan& plan);

// A whole planned matrix as the plan's quantizer leaves it, and its squared error.
QuantizedMatrix quantize_planned(const Model& model, const ExportPlan& plan, const std::string& tensor,
                                 double* squared_error);

// Whether a tensor is stored in that scheme already (the model is a GGUF), so that its blocks stay as they
// are.
bool stored_already(const TensorInfo& tensor, const Scheme& scheme);

// Whether a scheme is a floating-point type, which for embedding and head means "as they are".
bool is_floating(const Scheme& scheme);

// Whether a scheme has groups across rows, or ranges over the whole matrix, and so needs all rows at once.
bool needs_whole_matrix(const Scheme& scheme);

// The type in which a Hugging Face directory stores a tensor that is not packed: its own, or fp16 where it
// was quantized.
DType written_type(const TensorInfo& tensor);

// The largest safetensors file.
uint64_t shard_bytes(const ExportPlan& plan);

// Rows of a matrix to convert at a time, in multiples of `unit`: a few megabytes' worth.
int64_t rows_at_a_time(const TensorInfo& tensor, int64_t unit);

// Throws, naming the tensor, if a value rounds to infinity in fp16.
void check_half_range(const std::string& tensor, const float* values, int64_t count);

// Throws if writing the target would replace the model that is being read.
void check_target(const Model& model, const std::filesystem::path& target);

// Throws if so many bytes cannot lie where the target is to be.
void check_space(const std::filesystem::path& target, uint64_t bytes);

}  // namespace strata
