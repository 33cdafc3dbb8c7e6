#include "strata/core/bit_packing.h"

#include <cstring>

namespace strata {
namespace {

// Eight codes make `bits` bytes, so the stream falls into pieces that start at whole bytes. A piece is packed
// in a 64-bit register: neighbouring fields move together in lanes of 16, then 32, then 64 bits.
constexpr int64_t kCodesAPiece = 8;

constexpr uint64_t repeated(uint64_t pattern, int lane) {
  uint64_t value = 0;
  for (int at = 0; at < 64; at += lane) value |= pattern << at;
  return value;
}

// Moves the upper field of every lane down to the lower one, or apart from it again.
template <int lane, int field>
uint64_t join_fields(uint64_t x) {
  constexpr uint64_t kLow = repeated((uint64_t{1} << field) - 1, lane);
  return (x & kLow) | (x >> (lane / 2 - field) & kLow << field);
}

template <int lane, int field>
uint64_t part_fields(uint64_t x) {
  constexpr uint64_t kLow = repeated((uint64_t{1} << field) - 1, lane);
  return (x & kLow) | (x & kLow << field) << (lane / 2 - field);
}

template <int bits>
uint64_t pack_piece(uint64_t codes) {
  return join_fields<64, 4 * bits>(join_fields<32, 2 * bits>(join_fields<16, bits>(codes)));
}

template <int bits>
uint64_t unpack_piece(uint64_t packed) {
  return part_fields<16, bits>(part_fields<32, 2 * bits>(part_fields<64, 4 * bits>(packed)));
}

template <int bits>
void pack(const uint8_t* codes, int64_t count, uint8_t* bytes) {
  for (; count >= kCodesAPiece; count -= kCodesAPiece, codes += kCodesAPiece, bytes += bits) {
    uint64_t piece;
    std::memcpy(&piece, codes, sizeof(piece));
    piece = pack_piece<bits>(piece);
    std::memcpy(bytes, &piece, bits);
  }
  uint64_t piece = 0;
  std::memcpy(&piece, codes, static_cast<size_t>(count));
  piece = pack_piece<bits>(piece);
  std::memcpy(bytes, &piece, static_cast<size_t>((count * bits + 7) / 8));
}

template <int bits>
void unpack(const uint8_t* bytes, int64_t count, uint8_t* codes) {
  for (; count >= kCodesAPiece; count -= kCodesAPiece, codes += kCodesAPiece, bytes += bits) {
    uint64_t piece = 0;
    // Eight bytes at once where the stream has them: a load of another size is slow.
    std::memcpy(&piece, bytes, count * bits >= 64 ? sizeof(piece) : bits);
    piece = unpack_piece<bits>(piece);
    std::memcpy(codes, &piece, sizeof(piece));
  }
  uint64_t piece = 0;
  std::memcpy(&piece, bytes, static_cast<size_t>((count * bits + 7) / 8));
  piece = unpack_piece<bits>(piece);
  std::memcpy(codes, &piece, static_cast<size_t>(count));
}

}  // namespace

int64_t packed_words(int64_t count, int bits) {
  return (count * bits + 31) / 32;
}

void pack_codes(const uint8_t* codes, int64_t count, int bits, uint32_t* words) {
  if (count == 0) return;
  words[packed_words(count, bits) - 1] = 0;  // bits beyond the last code
  auto* bytes = reinterpret_cast<uint8_t*>(words);
  constexpr void (*kPack[])(const uint8_t*, int64_t, uint8_t*) = {pack<1>, pack<2>, pack<3>, pack<4>,
                                                                  pack<5>, pack<6>, pack<7>, pack<8>};
  kPack[bits - 1](codes, count, bytes);
}

void unpack_codes(const uint32_t* words, int64_t count, int bits, uint8_t* codes) {
  const auto* bytes = reinterpret_cast<const uint8_t*>(words);
  constexpr void (*kUnpack[])(const uint8_t*, int64_t, uint8_t*) = {
      unpack<1>, unpack<2>, unpack<3>, unpack<4>, unpack<5>, unpack<6>, unpack<7>, unpack<8>};
  kUnpack[bits - 1](bytes, count, codes);
}

}  // namespace strata
