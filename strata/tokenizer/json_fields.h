#pragma once

#include <string>

#include "strata/core/json.h"

namespace strata {

// Fields of files whose every part is optional. A field that is missing, or that has another type than the
// one asked for, gives null, the empty string, or `missing`.
const LargeJson& field(const LargeJson& object, const char* name);
std::string text_of(const LargeJson& object, const char* name);
bool flag_of(const LargeJson& object, const char* name, bool missing = false);

}  // namespace strata
