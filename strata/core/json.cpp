#include "strata/core/json.h"

#include "strata/core/error.h"
#include "strata/core/file.h"

namespace strata {

namespace {

template <class Document>
Document parse_file(const std::filesystem::path& path) {
  const std::string text = read_text(path);
  try {
    return Document::parse(text);
  } catch (const typename Document::parse_error& error) {
    fail("{} is not valid JSON: parsing stopped at byte {} of {}", path.string(), error.byte, text.size());
  } catch (const typename Document::out_of_range&) {
    fail("{} holds a number that is too large for double precision", path.string());
  }
}

}  // namespace

Json read_json(const std::filesystem::path& path) {
  return parse_file<Json>(path);
}

LargeJson read_large_json(const std::filesystem::path& path) {
  return parse_file<LargeJson>(path);
}

void write_json(const std::filesystem::path& path, const Json& document) {
  write_text(path, document.dump(1, ' ', false, Json::error_handler_t::replace) + "\n");
}

}  // namespace strata
