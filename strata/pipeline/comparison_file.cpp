#include "strata/pipeline/comparison_file.h"

#include <algorithm>
#include <limits>

#include "strata/core/error.h"

namespace strata {
namespace {

constexpr const char* kFormat = "strata.comparison";

// The first setting in which two comparisons differ.
std::string first_difference(const Json& a, const Json& b) {
  for (const auto& [key, value] : a.items())
    if (!b.contains(key) || b.at(key) != value) return key;
  return "settings";
}

// JSON has no infinity: an overflowing perplexity is written as null.
double number(const Json& json) {
  return json.is_null() ? std::numeric_limits<double>::infinity() : json.get<double>();
}

}  // namespace

Json row_json(const CompareRow& row) {
  const Evaluation& e = row.evaluation;
  Json json = {{"method", row.method}, {"quantizer", row.quantizer},
               {"budget", row.budget}, {"bits_per_weight", row.bits_per_weight},
               {"bytes", row.bytes},   {"text", row.text},
               {"tokens", e.tokens},   {"ppl", e.ppl},
               {"nll", e.nll},         {"ppl_standard_error", e.ppl_standard_error}};
  if (e.kld) {
    json["kld"] = *e.kld;
    json["kld_p99"] = *e.kld_p99;
    json["top1"] = *e.top1;
  }
  if (row.spread) json["ppl_spread"] = *row.spread;
  json["seconds"] = row.seconds;
  return json;
}

CompareRow row_from_json(const Json& json) {
  CompareRow row;
  Evaluation& e = row.evaluation;
  json.at("method").get_to(row.method);
  json.at("quantizer").get_to(row.quantizer);
  json.at("budget").get_to(row.budget);
  json.at("bits_per_weight").get_to(row.bits_per_weight);
  json.at("bytes").get_to(row.bytes);
  json.at("text").get_to(row.text);
  json.at("tokens").get_to(e.tokens);
  e.ppl = number(json.at("ppl"));
  e.nll = number(json.at("nll"));
  e.ppl_standard_error = number(json.at("ppl_standard_error"));
  json.at("seconds").get_to(row.seconds);
  if (json.contains("kld")) {
    e.kld = number(json.at("kld"));
    e.kld_p99 = number(json.at("kld_p99"));
    e.top1 = number(json.at("top1"));
  }
  if (json.contains("ppl_spread")) row.spread = number(json.at("ppl_spread"));
  return row;
}

ComparisonFile::ComparisonFile(std::filesystem::path path, Json settings)
    : path_(std::move(path)), settings_(std::move(settings)) {
  if (!std::filesystem::exists(path_)) return;
  const Json document = read_json(path_);
  try {
    if (document.at("format") != kFormat || document.at("version") != 1)
      fail("{} is no file of comparison results that this version writes; choose another file",
           path_.string());
    if (document.at("settings") != settings_)
      fail("{} holds results of another comparison ({} differs); choose another file", path_.string(),
           first_difference(settings_, document.at("settings")));
    for (const Json& row : document.at("rows")) rows_.push_back(row_from_json(row));
  } catch (const Json::exception&) {
    fail("{} is no file of comparison results; choose another file", path_.string());
  }
}

std::vector<CompareRow> ComparisonFile::find(const CompareCell& cell) const {
  std::vector<CompareRow> found;
  std::copy_if(rows_.begin(), rows_.end(), std::back_inserter(found), [&](const CompareRow& row) {
    return row.method == cell.method && row.quantizer == cell.quantizer && row.budget == cell.budget;
  });
  return found;
}

void ComparisonFile::add(const std::vector<CompareRow>& rows) {
  rows_.insert(rows_.end(), rows.begin(), rows.end());
  Json list = Json::array();
  for (const CompareRow& row : rows_) list.push_back(row_json(row));
  const Json document = {{"format", kFormat}, {"version", 1}, {"settings", settings_}, {"rows", list}};
  write_json(path_, document);
}

}  // namespace strata
