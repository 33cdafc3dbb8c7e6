#include "strata/allocation/plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <unordered_set>

#include "strata/allocation/fields.h"
#include "strata/core/error.h"

namespace strata {
namespace {

constexpr char kPlanFormat[] = "strata.plan";

Scheme scheme_from_json(const Fields& line, const char* key) {
  try {
    return parse_scheme(line.text(key));
  } catch (const UsageError& error) {
    fail("{}: {}", line.where(), error.what());
  }
}

Assignment assignment_from_json(const Fields& line) {
  Assignment assignment;
  assignment.tensor = line.text("tensor");
  if (line.has("shape")) line.shape("shape", assignment.rows, assignment.cols);
  assignment.scheme = scheme_from_json(line, "scheme");
  return assignment;
}

}  // namespace

void Plan::sum_up() {
  double bits = 0, code_bits = 0, weights = 0;
  bytes = 0;
  for (const Assignment& a : assignments) {
    const uint64_t stored = a.scheme.stored_bits(a.rows, a.cols);
    const double size = static_cast<double>(a.rows * a.cols);
    bits += static_cast<double>(stored);
    bytes += (stored + 7) / 8;
    code_bits += a.scheme.code_bits_per_weight(a.rows, a.cols) * size;
    weights += size;
  }
  bits_per_weight = weights > 0 ? bits / weights : 0;
  average_code_bits = weights > 0 ? code_bits / weights : 0;
}

Scheme stored_scheme(const Scheme& scheme, int64_t cols) {
  Scheme stored = scheme;
  if (scheme.kind == Scheme::Kind::Gguf && cols > 0) stored.gguf = stored_type(scheme.gguf, cols);
  return stored;
}

std::string name_stored_schemes(Plan& plan) {
  std::map<std::pair<std::string, std::string>, int> counts;  // of (chosen, stored)
  for (Assignment& assignment : plan.assignments) {
    const Scheme stored = stored_scheme(assignment.scheme, assignment.cols);
    if (stored.name() == assignment.scheme.name()) continue;
    ++counts[{assignment.scheme.name(), stored.name()}];
    assignment.scheme = stored;
  }
  std::string list;
  for (const auto& [types, count] : counts)
    list += fmt::format("{}{} for {} in {}", list.empty() ? "" : ", ", types.second, types.first,
                        count == 1 ? "1 matrix" : fmt::format("{} matrices", count));
  return list.empty() ? "" : "types whose blocks divide the rows stand for others: " + list;
}

Json to_json(const Plan& plan) {
  Json document;
  document["format"] = kPlanFormat;
  document["version"] = 1;
  document["model"] = plan.model;
  document["method"] = plan.method;
  document["allocator"] = plan.allocator;
  document["budget"] = plan.budget;
  document["bits_per_weight"] = plan.bits_per_weight;
  document["average_code_bits"] = plan.average_code_bits;
  document["bytes"] = plan.bytes;
  if (plan.cost) document["cost"] = *plan.cost;
  if (plan.gap) document["gap"] = *plan.gap;
  if (plan.embedding) document["embedding"] = plan.embedding->name();
  if (plan.head) document["head"] = plan.head->name();
  if (plan.layer_embedding) document["layer_embedding"] = plan.layer_embedding->name();
  if (plan.embedding_bits) document["embedding_bits_per_weight"] = *plan.embedding_bits;
  if (plan.head_bits) document["head_bits_per_weight"] = *plan.head_bits;
  if (plan.layer_embedding_bits) document["layer_embedding_bits_per_weight"] = *plan.layer_embedding_bits;
  if (plan.file_bits) document["file_bits_per_weight"] = *plan.file_bits;
  if (plan.layers > 0) document["layers"] = plan.layers;
  document["assignments"] = Json::array();
  for (const Assignment& assignment : plan.assignments) {
    Json line;
    line["tensor"] = assignment.tensor;
    if (assignment.rows > 0) line["shape"] = {assignment.rows, assignment.cols};
    line["scheme"] = assignment.scheme.name();
    document["assignments"].push_back(std::move(line));
  }
  return document;
}

Plan plan_from_json(const Json& document, const std::string& where) {
  const Fields file = open_document(document, where, kPlanFormat);
  Plan plan;
  plan.model = file.text_or_empty("model");
  plan.method = file.text_or_empty("method");
  plan.allocator = file.text_or_empty("allocator");
  plan.budget = file.text_or_empty("budget");
  if (file.has("bits_per_weight")) plan.bits_per_weight = file.finite("bits_per_weight");
  if (file.has("average_code_bits")) plan.average_code_bits = file.finite("average_code_bits");
  if (file.has("bytes")) plan.bytes = static_cast<uint64_t>(file.whole("bytes", 0, INT64_MAX));
  if (file.has("cost")) plan.cost = file.finite("cost");
  if (file.has("gap")) plan.gap = file.finite("gap");
  if (file.has("embedding")) plan.embedding = scheme_from_json(file, "embedding");
  if (file.has("head")) plan.head = scheme_from_json(file, "head");
  if (file.has("layer_embedding")) plan.layer_embedding = scheme_from_json(file, "layer_embedding");
  const auto read_bits = [&](const char* key, std::optional<double>& bits) {
    if (file.has(key)) bits = file.finite(key);
  };
  read_bits("embedding_bits_per_weight", plan.embedding_bits);
  read_bits("head_bits_per_weight", plan.head_bits);
  read_bits("layer_embedding_bits_per_weight", plan.layer_embedding_bits);
  read_bits("file_bits_per_weight", plan.file_bits);
  if (file.has("layers")) plan.layers = file.whole("layers", 1, INT32_MAX);

  const Json& lines = file.list("assignments");
  if (lines.empty()) fail("{}: \"assignments\" is empty, expected a scheme for every module", where);
  std::unordered_set<std::string> tensors;
  for (size_t i = 0; i < lines.size(); ++i) {
    const Fields line(lines[i], fmt::format("{}: assignments[{}]", where, i));
    plan.assignments.push_back(assignment_from_json(line));
    if (!tensors.insert(plan.assignments.back().tensor).second)
      fail("{}: the tensor {} is assigned twice", where, plan.assignments.back().tensor);
  }
  const bool all_shapes = std::all_of(plan.assignments.begin(), plan.assignments.end(),
                                      [](const Assignment& a) { return a.rows > 0; });
  if (all_shapes) plan.sum_up();
  return plan;
}

Plan read_plan(const std::filesystem::path& path) {
  return plan_from_json(read_json(path), path.string());
}

void write_plan(const std::filesystem::path& path, const Plan& plan) {
  write_json(path, to_json(plan));
}

}  // namespace strata
