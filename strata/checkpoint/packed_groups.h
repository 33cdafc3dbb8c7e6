#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "strata/checkpoint/packed_checkpoint.h"

namespace strata {

// What the readers of packed formats share.

inline constexpr int64_t kRowsPerTask = 16;  // that one task decodes

// "model.norm.weight" without ".weight"; empty when it ends otherwise.
std::string stem_of(const std::string& name, std::string_view ending);

// The tensor `name`, with exactly this shape; throws saying what was found.
const TensorInfo& part_of_shape(const Checkpoint& stored, const std::string& name,
                                const std::vector<int64_t>& shape);

// A whole tensor of 32-bit or 64-bit integers.
std::vector<uint32_t> read_words(const Checkpoint& stored, const std::string& name);
std::vector<int64_t> read_long_integers(const Checkpoint& stored, const std::string& name);

// The group of every column: k / group_size, or what a tensor of indices says; checked against `groups`.
std::vector<int32_t> groups_of_columns(const Checkpoint& stored, const std::string& index_tensor,
                                       int64_t cols, int64_t group_size, int64_t groups);

// The name, shape, scheme name and bytes of a matrix whose parts are known.
void describe(PackedMatrix& matrix, const Checkpoint& stored, const std::string& stem, int64_t rows,
              int64_t cols, const std::string& scheme);

// "w4g128z"; a group size of 0 is a whole row. `zero`: "s" symmetric, "z" codes, "" real numbers.
std::string packed_scheme_name(int bits, int64_t group_size, std::string_view zero);

// Unpacks one row and dequantizes it: w = (q - zero[g]) scale[g], with the group g of every column.
void decode_packed_row(const uint32_t* words, int bits, const std::vector<int32_t>& group_of,
                       const float* scales, const float* zeros, float* target);

// An integer of the section in [smallest, largest]; throws naming the key.
int64_t packed_integer(const Json& section, const char* key, int64_t smallest, int64_t largest,
                       const std::string& where);

}  // namespace strata
