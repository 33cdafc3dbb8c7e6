#pragma once

#include <filesystem>
#include <string>

#include "strata/pipeline/quantize.h"

namespace strata {

// README.md of a file or a directory of weights, in the form that model hubs show: what it was made from and
// how, what was lost at how many bits, and how to run it. In Markdown behind a header of YAML.
std::string model_card(const QuantizeRequest& request, const QuantizeResult& result);

// In the directory, or beside the file.
std::filesystem::path card_path(const std::filesystem::path& output);

// Throws where there is a README.md that strata did not write: to be asked before the work.
void require_card_of_ours(const std::filesystem::path& output);

void write_card(const QuantizeRequest& request, const QuantizeResult& result);

}  // namespace strata
