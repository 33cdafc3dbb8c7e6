#pragma once

#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace strata {

// One field of a serialized protocol buffer message.
struct ProtobufField {
  uint32_t number = 0;
  bool is_bytes = false;   // which of the two below holds the value
  uint64_t integer = 0;    // of varints and fixed-width fields
  std::string_view bytes;  // of strings and messages

  float real() const {
    const auto bits = static_cast<uint32_t>(integer);
    float value;
    std::memcpy(&value, &bits, sizeof(value));
    return value;
  }
};

// Walks over the fields of a message; none at its end and where it is malformed (ok() tells which).
class ProtobufReader {
 public:
  explicit ProtobufReader(std::string_view message) : rest_(message) {}

  std::optional<ProtobufField> next() {
    if (rest_.empty() || !ok_) return std::nullopt;
    ProtobufField field;
    const uint64_t tag = varint();
    field.number = static_cast<uint32_t>(tag >> 3);
    switch (tag & 7) {
      case 0:
        field.integer = varint();
        break;
      case 1:
        field.integer = fixed(8);
        break;
      case 2:
        field.bytes = take(varint());
        field.is_bytes = true;
        break;
      case 5:
        field.integer = fixed(4);
        break;
      default:
        ok_ = false;
    }
    if (!ok_) return std::nullopt;
    return field;
  }

  // The next number of a packed repeated field, whose bytes are numbers without tags.
  std::optional<uint64_t> next_packed() {
    if (rest_.empty() || !ok_) return std::nullopt;
    const uint64_t value = varint();
    if (!ok_) return std::nullopt;
    return value;
  }

  bool ok() const { return ok_; }

 private:
  std::string_view take(uint64_t size) {
    ok_ = ok_ && size <= rest_.size();
    if (!ok_) return {};
    const std::string_view bytes = rest_.substr(0, static_cast<size_t>(size));
    rest_.remove_prefix(static_cast<size_t>(size));
    return bytes;
  }

  uint64_t varint() {
    uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      const std::string_view byte = take(1);
      if (byte.empty()) return 0;
      value |= static_cast<uint64_t>(static_cast<uint8_t>(byte[0]) & 0x7f) << shift;
      if ((static_cast<uint8_t>(byte[0]) & 0x80) == 0) return value;
    }
    ok_ = false;
    return 0;
  }

  uint64_t fixed(size_t size) {
    const std::string_view bytes = take(size);
    uint64_t value = 0;
    if (!bytes.empty()) std::memcpy(&value, bytes.data(), size);
    return value;
  }

  std::string_view rest_;
  bool ok_ = true;
};

// Appends fields to a serialized message.
class ProtobufWriter {
 public:
  void integer(uint32_t number, uint64_t value) {
    varint(number << 3);
    varint(value);
  }

  void bytes(uint32_t number, std::string_view value) {
    varint(number << 3 | 2);
    varint(value.size());
    message_ += value;
  }

  void real(uint32_t number, float value) {
    varint(number << 3 | 5);
    message_.append(reinterpret_cast<const char*>(&value), sizeof(value));
  }

  void packed(uint32_t number, const std::vector<int64_t>& values) {
    ProtobufWriter inner;
    for (int64_t value : values) inner.varint(static_cast<uint64_t>(value));
    bytes(number, inner.message_);
  }

  const std::string& message() const { return message_; }

 private:
  void varint(uint64_t value) {
    for (; value >= 0x80; value >>= 7) message_ += static_cast<char>(0x80 | (value & 0x7f));
    message_ += static_cast<char>(value);
  }

  std::string message_;
};

}  // namespace strata
