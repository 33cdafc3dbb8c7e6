#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace strata {

// Commands of the programs that load a file or directory of this format.
std::vector<std::string> run_commands(const std::string& format, const std::filesystem::path& path);

}  // namespace strata
