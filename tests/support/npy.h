#pragma once

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

namespace strata {

// NumPy's format, version 1.0: magic, version, length of the header, the header, the elements.
inline void write_npy(const std::filesystem::path& path, const std::string& type, const std::string& shape,
                      const std::string& data, const char* fortran_order = "False") {
  std::string header =
      "{'descr': '" + type + "', 'fortran_order': " + fortran_order + ", 'shape': (" + shape + "), }";
  header.resize((10 + header.size()) / 64 * 64 + 64 - 10 - 1, ' ');
  header += '\n';
  const char length[] = {static_cast<char>(header.size() % 256), static_cast<char>(header.size() / 256)};
  std::ofstream(path, std::ios::binary)
      << std::string("\x93NUMPY\x01", 7) << '\0' << std::string(length, 2) << header << data;
}

template <class Element>
std::string bytes_of(const std::vector<Element>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(Element)};
}

}  // namespace strata
