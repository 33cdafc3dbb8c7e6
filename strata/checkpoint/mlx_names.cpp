#include "strata/checkpoint/mlx_names.h"

#include <algorithm>
#include <array>
#include <utility>

namespace strata {
namespace {

const std::string kExperts = ".experts.", kSwitch = ".switch_mlp.", kSparse = "block_sparse_moe";

constexpr std::array<std::pair<const char*, const char*>, 3> kMixtralParts = {
    {{"w1", "gate_proj"}, {"w2", "down_proj"}, {"w3", "up_proj"}}};

// The name with `from` before what is called PART, which for Mixtral has another name.
template <class Translate>
std::string renamed(const std::string& name, const std::string& from, const std::string& to,
                    const Translate& translate) {
  const size_t at = name.find(from);
  if (at == std::string::npos) return name;
  const size_t part = at + from.size(), end = std::min(name.find('.', part), name.size());
  const bool is_mixtral =
      at >= kSparse.size() && name.compare(at - kSparse.size(), kSparse.size(), kSparse) == 0;
  const std::string own = name.substr(part, end - part);
  return name.substr(0, at) + to + (is_mixtral ? translate(own) : own) + name.substr(end);
}

}  // namespace

std::string mlx_name(const std::string& name, const std::string& stacks) {
  return renamed(name, kExperts, "." + stacks + ".", [](const std::string& part) {
    for (const auto& [ours, theirs] : kMixtralParts)
      if (part == ours) return std::string(theirs);
    return part;
  });
}

std::string name_of_mlx(const std::string& name) {
  return renamed(name, kSwitch, kExperts, [](const std::string& part) {
    for (const auto& [ours, theirs] : kMixtralParts)
      if (part == theirs) return std::string(ours);
    return part;
  });
}

}  // namespace strata
