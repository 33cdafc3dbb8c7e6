#pragma once

#include <string>
#include <string_view>

namespace strata {

// Unicode normalization form C (Unicode Standard Annex 15). Bytes that are not UTF-8 stay as they are. Built
// without utf8proc, it throws unless the text is made of characters that are known to be normal already.
std::string normalize_nfc(std::string_view text);

}  // namespace strata
