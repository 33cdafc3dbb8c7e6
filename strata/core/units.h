#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace strata {

// "4.2GiB", "700MB", "123456" to bytes; KB, MB, GB are powers of 1000, KiB, MiB, GiB of 1024.
uint64_t parse_bytes(std::string_view text);

std::string format_bytes(uint64_t bytes);    // "13.2 MiB"
std::string format_seconds(double seconds);  // "0.8 s", "3 min 12 s", "2 h 05 min"

}  // namespace strata
