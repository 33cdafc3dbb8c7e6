#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>

namespace strata {

// Objects keep the order in which their keys were written.
using Json = nlohmann::ordered_json;

// Reads and parses a JSON file; the error names the file and the byte where parsing stopped.
Json read_json(const std::filesystem::path& path);

// Writes a document with an indent of one and a final newline, atomically.
void write_json(const std::filesystem::path& path, const Json& document);

}  // namespace strata
