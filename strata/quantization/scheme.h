#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "strata/gguf/type.h"

namespace strata {

// How the scales and zero points of affine groups are stored.
enum class ScaleStorage {
  Half,         // fp16 scale and, when asymmetric, fp16 zero point: 16 or 32 bits a group
  SecondLevel,  // 8-bit scales in groups of 128 with fp16 range, 8-bit zero points with one range a matrix,
                // as in HQQ's papers: bits + 16/g + 32/(128 g), see AffineScheme's cost
};

// Affine groups: w = (q - zero) * scale, q in [0, 2^bits - 1].
struct AffineScheme {
  int bits = 4;            // 2 to 8
  int group_size = 64;     // weights sharing a scale: 32, 64, 128; 0 = a whole row (axis 0: a whole column)
  bool symmetric = false;  // zero point fixed at 2^(bits-1) and not stored
  int axis = 1;  // 1: groups along a row; 0: columns of W.reshape(g, rows*cols/g), as HQQ's papers used
  ScaleStorage scales = ScaleStorage::Half;
  // Zero points are codes, stored in as many bits, as compressed-tensors and GPTQ need them; otherwise real
  // numbers. Asymmetric groups along rows with fp16 scales only.
  bool integer_zero = false;
};

// Bits that tell which `high` of `rows` rows have high bits: the smaller of a bit a row, in whole bytes, and
// 32 bits for each of these; none where they are no row or all.
uint64_t row_list_bits(int64_t rows, int64_t high);

// Whether the list is of the rows' numbers, and not a bit a row.
bool row_list_is_numbers(int64_t rows, int64_t high);

// Groups that share one fp16 range of their 8-bit scales (ScaleStorage::SecondLevel).
constexpr int64_t kScalesPerRange = 128;

// Groups of a [rows, cols] matrix; a last partial group counts as one.
int64_t group_count(const AffineScheme& scheme, int64_t rows, int64_t cols);

// How one matrix is stored: affine groups, affine groups with more bits in some rows, a GGUF type, or NF4.
struct Scheme {
  enum class Kind { Affine, MixedRows, Gguf, Nf4 } kind = Kind::Affine;
  AffineScheme affine;    // MixedRows: of the rows at low bits; along rows (axis 1)
  int high_bits = 3;      // MixedRows: more than affine.bits, and at most 8
  double high_ratio = 0;  // MixedRows: of the rows at high bits, from 0 to 1
  GgufType gguf = GgufType::F16;
  bool double_quantized = false;  // NF4: see nf4.h

  bool operator==(const Scheme& other) const { return name() == other.name(); }

  // Canonical name. Affine: "w3g64" asymmetric fp16, then any of "s" symmetric, "m" second level ("meta"),
  // "a0" axis 0, or "z" alone: zero points are codes; "w3row" for whole rows. Mixed rows: "w2g64+w3@0.1", one
  // row in ten at 3 bits, in the groups of the others. GGUF: "Q4_K".
  // "nf4", and "nf4dq" with double quantization.
  std::string name() const;

  // Exact bits stored for a [rows, cols] matrix: codes (padded to 32-bit words a row; axis 0: once a matrix),
  // a scale and, when asymmetric, a zero point for every group, also for a last partial one, and the ranges
  // of the second level; zero points that are codes are packed down the rows, padded to 32-bit words; for
  // mixed rows both parts and row_list_bits(); for GGUF types after the fallback of stored_type(). Throws
  // Error for a shape that no matrix has.
  uint64_t stored_bits(int64_t rows, int64_t cols) const;

  // Bits of one code, for average code bits (`--avg-bits`): the scheme's bits; for mixed rows the mean over
  // the rows; for GGUF types the nominal width of the type that a row of `cols` weights really gets (Q2_K 2,
  // ..., Q6_K 6, Q8_0 8, F16 16).
  double code_bits_per_weight(int64_t rows, int64_t cols) const;

  // Mixed rows: how the rows at high bits are stored, and how many there are, high_ratio * rows to the
  // nearest.
  AffineScheme high_affine() const;
  int64_t high_row_count(int64_t rows) const;
};

// Parses a canonical name, any letter case. Throws UsageError naming what is known, or what is wrong with a
// scheme that mixes rows: a ratio outside [0, 1], high bits that are not more than the low, groups along
// axis 0.
Scheme parse_scheme(std::string_view name);

// "w2g64,w3g64,Q4_K" to schemes, without repetitions. An item may be a menu: "gguf" (Q2_K to Q6_K and Q8_0),
// "affine" (2, 3, 4, 5, 6 and 8 bits with groups of 128, 64 and 32), "affine-z" (the same with zero points
// that are codes), "gptq" (2, 3, 4 and 8 bits of those) or "ladder" (the 12 rungs of the SensiBoost paper,
// 2.13 to 8.51: {2, 3, 4, 8} bits with groups of 128, 64 and 32 and second-level scales) or "paper-ladder"
// (the same with groups along axis 0, as HQQ's papers cut them), or a scheme that mixes rows without its
// ratio
// ("w2g64+w3": the ratios 0.02, 0.05, 0.1, 0.15 and 0.2 of arXiv 2511.17801).
std::vector<Scheme> parse_schemes(std::string_view list);

}  // namespace strata
