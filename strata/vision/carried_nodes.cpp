#include "strata/vision/carried_nodes.h"

#include <unordered_map>

#include "strata/core/error.h"

namespace strata::vision {
namespace {

// The nodes that each node reads from. Nodes stand behind those that they need.
std::vector<std::vector<size_t>> sources_of(const OnnxModel& model) {
  std::unordered_map<std::string, size_t> producer;
  std::vector<std::vector<size_t>> sources(model.nodes.size());
  for (size_t n = 0; n < model.nodes.size(); ++n) {
    for (const std::string& input : model.nodes[n].inputs) {
      const auto found = producer.find(input);
      if (found != producer.end()) sources[n].push_back(found->second);
    }
    for (const std::string& output : model.nodes[n].outputs) producer[output] = n;
  }
  return sources;
}

// Adds to the marked nodes all that need one of them.
void mark_followers(std::vector<bool>& marked, const std::vector<std::vector<size_t>>& sources) {
  for (size_t n = 0; n < marked.size(); ++n)
    for (size_t source : sources[n])
      if (marked[source]) marked[n] = true;
}

// Adds to the marked nodes all that one of them needs.
void mark_sources(std::vector<bool>& marked, const std::vector<std::vector<size_t>>& sources) {
  for (size_t n = marked.size(); n-- > 0;)
    for (size_t source : sources[n])
      if (marked[n]) marked[source] = true;
}

}  // namespace

std::vector<NodeRole> node_roles(const OnnxModel& model, const std::vector<std::string>& refusals,
                                 const std::vector<bool>& layers) {
  const size_t count = model.nodes.size();
  const auto sources = sources_of(model);
  std::vector<bool> behind_layers = layers, before_layers = layers;
  mark_followers(behind_layers, sources);
  mark_sources(before_layers, sources);
  std::vector<bool> before(count, false), behind(count, false);
  for (size_t n = 0; n < count; ++n) {
    if (refusals[n].empty()) continue;
    if (layers[n] || (behind_layers[n] && before_layers[n])) fail("{}", refusals[n]);
    (before_layers[n] ? before : behind)[n] = true;
  }
  mark_sources(before, sources);
  mark_followers(behind, sources);
  std::vector<NodeRole> roles(count, NodeRole::Computed);
  for (size_t n = 0; n < count; ++n)
    if (before[n] || behind[n]) roles[n] = before[n] ? NodeRole::Before : NodeRole::Behind;
  return roles;
}

}  // namespace strata::vision
