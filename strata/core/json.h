#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>

namespace strata {

// Objects keep the order in which their keys were written.
using Json = nlohmann::ordered_json;

// Reads and parses a JSON file; the error names the file and the byte where parsing stopped.
Json read_json(const std::filesystem::path& path);

// The same for files whose objects have very many keys, such as vocabularies: finding and inserting a key
// takes logarithmic time (linear in Json), and the order of the keys is lost.
using LargeJson = nlohmann::json;
LargeJson read_large_json(const std::filesystem::path& path);

// Writes a document with an indent of one and a final newline, atomically.
void write_json(const std::filesystem::path& path, const Json& document);

}  // namespace strata
