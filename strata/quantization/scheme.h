#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "strata/quantization/gguf_type.h"

namespace strata {

// How the scales and zero points of affine groups are stored.
enum class ScaleStorage {
  Half,         // fp16 scale and, when asymmetric, fp16 zero point: 16 or 32 bits a group
  SecondLevel,  // 8-bit scales in groups of 128 with fp16 range, 8-bit zero points with one range a matrix,
                // as in HQQ's papers: bits + 16/g + 32/(128 g), see AffineScheme's cost
};

// Affine groups: w = (q - zero) * scale, q in [0, 2^bits - 1].
struct AffineScheme {
  int bits = 4;            // 2, 3, 4, 5, 6 or 8
  int group_size = 64;     // weights sharing a scale; 0 = a whole row
  bool symmetric = false;  // zero point fixed at 2^(bits-1) and not stored
  int axis = 1;  // 1: groups along a row; 0: columns of W.reshape(g, rows*cols/g), as HQQ's papers used
  ScaleStorage scales = ScaleStorage::Half;
};

// How one matrix is stored: affine groups or a GGUF type.
struct Scheme {
  enum class Kind { Affine, Gguf } kind = Kind::Affine;
  AffineScheme affine;
  GgufType gguf = GgufType::F16;

  bool operator==(const Scheme& other) const { return name() == other.name(); }

  // Canonical name. Affine: "w3g64" asymmetric fp16, then any of "s" symmetric, "m" second level ("meta"),
  // "a0" axis 0; "w3row" for whole rows. GGUF: "Q4_K".
  std::string name() const;

  // Exact bits stored for a [rows, cols] matrix: codes (padded to 32-bit words a row), scales, zero points,
  // padding of a last partial group, second level; for GGUF types after the fallback of stored_type().
  uint64_t stored_bits(int64_t rows, int64_t cols) const;

  // Bits of the codes alone, for average code bits (`--avg-bits`): bits * rows * cols; for GGUF types the
  // code width.
  double code_bits_per_weight(int64_t cols) const;
};

// Parses a canonical name, any letter case. Throws UsageError naming what is known.
Scheme parse_scheme(std::string_view name);

// "w2g64,w3g64,Q4_K" to schemes; also the menus "gguf", "affine" and "ladder" (the 12 rungs of the papers).
std::vector<Scheme> parse_schemes(std::string_view list);

}  // namespace strata
