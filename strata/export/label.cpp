#include "strata/export/label.h"

#include "strata/core/file.h"

namespace strata {
namespace {

constexpr const char* kPrefix = "quantize.strata.";

Label label_of(const std::vector<GgufKey>& keys) {
  const std::string prefix = kPrefix;
  Label label;
  for (const GgufKey& key : keys)
    if (key.name.compare(0, prefix.size(), prefix) == 0)
      if (const auto* text = std::get_if<std::string>(&key.value.value))
        label.emplace_back(key.name.substr(prefix.size()), *text);
  return label;
}

}  // namespace

std::vector<GgufKey> gguf_keys(const Label& label) {
  std::vector<GgufKey> keys;
  for (const auto& [name, value] : label) keys.push_back({kPrefix + name, gguf_string(value)});
  return keys;
}

Json to_json(const Label& label) {
  Json json = Json::object();
  for (const auto& [name, value] : label) json[name] = value;
  return json;
}

Label read_label(const Model& model) {
  if (is_gguf(model.path)) return label_of(GgufFile(model.path).keys());
  const std::filesystem::path directory = std::filesystem::is_directory(model.path)
                                              ? model.path
                                              : std::filesystem::absolute(model.path).parent_path();
  const Json config = read_json(directory / "config.json");
  Label label;
  const auto found = config.find("strata");
  if (found == config.end() || !found->is_object()) return label;
  for (const auto& [name, value] : found->items())
    if (value.is_string()) label.emplace_back(name, value.get<std::string>());
  return label;
}

}  // namespace strata
