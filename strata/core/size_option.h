#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "strata/core/options.h"

namespace strata {

// An option (core/options.h) of bytes, such as 4.2GiB.
Option size(std::string name, std::optional<uint64_t>& value, std::string help);

}  // namespace strata
