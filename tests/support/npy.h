#pragma once

#include <filesystem>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

namespace strata {

// NumPy's format, version 1.0: magic, version, length of the header, the header, the elements.
inline std::string npy(const std::string& type, const std::string& shape, const std::string& data,
                       const char* fortran_order = "False") {
  std::string header =
      "{'descr': '" + type + "', 'fortran_order': " + fortran_order + ", 'shape': (" + shape + "), }";
  header.resize((10 + header.size()) / 64 * 64 + 64 - 10 - 1, ' ');
  header += '\n';
  const char length[] = {static_cast<char>(header.size() % 256), static_cast<char>(header.size() / 256)};
  return std::string("\x93NUMPY\x01\0", 8) + std::string(length, 2) + header + data;
}

inline void write_npy(const std::filesystem::path& path, const std::string& type, const std::string& shape,
                      const std::string& data, const char* fortran_order = "False") {
  std::ofstream(path, std::ios::binary) << npy(type, shape, data, fortran_order);
}

// A number of `bytes` bytes, the lowest first.
inline std::string little_endian(size_t value, int bytes) {
  std::string text;
  for (int i = 0; i < bytes; ++i) text += static_cast<char>(value >> 8 * i & 255);
  return text;
}

// What numpy.savez writes: a ZIP archive without compression, of arrays as npy() gives them.
inline void write_npz(const std::filesystem::path& path,
                      const std::vector<std::pair<std::string, std::string>>& arrays) {
  std::string body, list;
  for (const auto& [name, data] : arrays) {
    const std::string file = name + ".npy";
    const std::string sizes = little_endian(0, 4) + little_endian(data.size(), 4) +
                              little_endian(data.size(), 4) + little_endian(file.size(), 2);
    // Version, flags, method, time and date; then checksum (not read) and sizes.
    const std::string common = little_endian(20, 2) + std::string(8, '\0') + sizes;
    list += "PK\1\2" + little_endian(20, 2) + common + std::string(12, '\0') + little_endian(body.size(), 4) +
            file;
    body += "PK\3\4" + common + little_endian(0, 2) + file + data;
  }
  std::ofstream(path, std::ios::binary)
      << body << list << "PK\5\6" << std::string(4, '\0') << little_endian(arrays.size(), 2)
      << little_endian(arrays.size(), 2) << little_endian(list.size(), 4) << little_endian(body.size(), 4)
      << std::string(2, '\0');
}

template <class Element>
std::string bytes_of(const std::vector<Element>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(Element)};
}

}  // namespace strata
