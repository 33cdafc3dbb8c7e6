#include "strata/pipeline/comparison_file.h"

#include <algorithm>
#include <limits>

#include "strata/core/error.h"

namespace strata {
namespace {

constexpr const char* kFormat = "strata.comparison";
constexpr int kVersion = 2;  // 1 had no keys

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

ComparisonFile::ComparisonFile(std::filesystem::path path) : path_(std::move(path)) {
  if (!std::filesystem::exists(path_)) return;
  const Json document = read_json(path_);
  try {
    if (document.at("format") != kFormat || document.at("version") != kVersion)
      fail("{} is no file of comparison results that this version writes; choose another file",
           path_.string());
    for (const Json& row : document.at("rows")) {
      keys_.push_back(row.at("key"));
      rows_.push_back(row_from_json(row));
    }
  } catch (const Json::exception&) {
    fail("{} is no file of comparison results; choose another file", path_.string());
  }
}

const CompareRow* ComparisonFile::find(const Json& key) const {
  const auto found = std::find(keys_.begin(), keys_.end(), key);
  return found == keys_.end() ? nullptr : &rows_[static_cast<size_t>(found - keys_.begin())];
}

void ComparisonFile::add(const std::vector<Json>& keys, const std::vector<CompareRow>& rows) {
  keys_.insert(keys_.end(), keys.begin(), keys.end());
  rows_.insert(rows_.end(), rows.begin(), rows.end());
  Json list = Json::array();
  for (size_t r = 0; r < rows_.size(); ++r) {
    Json row = {{"key", keys_[r]}};
    row.update(row_json(rows_[r]));
    list.push_back(row);
  }
  write_json(path_, {{"format", kFormat}, {"version", kVersion}, {"rows", list}});
}

}  // namespace strata
