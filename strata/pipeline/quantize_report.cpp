#include "strata/pipeline/quantize_report.h"

#include <fmt/format.h>

#include <map>
#include <set>

#include "strata/allocation/frontier.h"
#include "strata/allocation/problem.h"
#include "strata/core/text.h"
#include "strata/core/units.h"
#include "strata/export/run_commands.h"
#include "strata/report/frontier_chart.h"
#include "strata/report/html_page.h"
#include "strata/report/plan_chart.h"
#include "strata/report/plan_heat_map.h"
#include "strata/report/plan_place.h"

namespace strata {
namespace {

using Section = HtmlPage::Section;

double mib(uint64_t bytes) {
  return static_cast<double>(bytes) / (1024.0 * 1024);
}

Section results_section(const QuantizeRequest& request, const QuantizeResult& result) {
  Section section;
  section.title = "Asked for and got";
  section.listing = plan_summary(result.plan) +
                    fmt::format("file         {}: {} ({} bytes), {:.4f} bits a weight\n",
                                result.exported.path.string(), format_bytes(result.exported.file_bytes),
                                result.exported.file_bytes, result.plan.file_bits.value_or(0));
  if (result.held_back_kld)
    section.listing += fmt::format("lost         KL divergence {:.4f} on tokens held back from scoring\n",
                                   *result.held_back_kld);
  if (result.tuning)
    section.listing += fmt::format("tuned        KL divergence {:.4f} on tokens held back, before {:.4f}\n",
                                   result.tuning->after, result.tuning->before);
  for (const std::string& note : result.notes) section.listing += "note         " + note + "\n";
  if (result.measurements.empty()) return section;
  section.note = fmt::format("Measured on {}, {} tokens predicted.", request.text.filename().string(),
                             result.measurements.back().evaluation.tokens);
  section.table = measurements_table(result);
  return section;
}

// Bytes that the plan's matrices take, as the frontier counts them.
uint64_t planned_bytes(const QuantizeResult& result) {
  uint64_t bytes = result.plan.bytes;
  for (const AllocationModule& boundary : result.allocator.boundaries) {
    const auto& scheme = boundary.module == "head" ? result.plan.head : result.plan.embedding;
    if (scheme) bytes += (scheme->stored_bits(boundary.rows, boundary.cols) + 7) / 8;
  }
  return bytes;
}

Section frontier_section(const QuantizeResult& result) {
  const Frontier found = frontier(modules_of(result.scores), result.scores, result.allocator);
  const std::vector<size_t> suggested = knees(found.points);
  LineChart chart = frontier_chart(found, suggested);
  const uint64_t bytes = planned_bytes(result);
  if (result.plan.cost)
    chart.series.push_back(
        {"this file", {{mib(bytes) / frontier_unit_mib(found), *result.plan.cost}}, false});
  Section section;
  section.title = "Other budgets";
  section.note = fmt::format(
      "The least predicted cost ({}) that every size of these matrices allows, from the same scores: strata "
      "frontier. Every mark on the curve is a plan that is optimal for its size.",
      result.scores.method);
  section.figures = {svg(chart)};
  section.table = frontier_table(found, suggested);
  return section;
}

// Means of neighbouring places where tokens are predicted, so that there are about 64 of them.
std::vector<std::pair<double, double>> thinned(const std::vector<double>& values) {
  const size_t step = std::max<size_t>(1, values.size() / 64);
  std::vector<std::pair<double, double>> points;
  for (size_t first = 0; first < values.size(); first += step) {
    const size_t last = std::min(values.size(), first + step);
    double sum = 0, count = 0;
    for (size_t i = first; i < last; ++i) sum += values[i], count += values[i] != 0 ? 1 : 0;
    if (count > 0) points.emplace_back(static_cast<double>(first + last - 1) / 2, sum / count);
  }
  return points;
}

std::string shown(const std::string& text) {
  std::string line;
  for (const char c : text)
    if (c == '\n')
      line += "↵";
    else
      line += c;
  return line.empty() ? "·" : printable(line, 160);
}

Section tokens_section(const LossByToken& losses) {
  LineChart chart;
  chart.title = "Loss by place in the window";
  chart.x_label = "token of the window";
  chart.y_label = "KLD, nats";
  chart.series = {{"this file", thinned(losses.by_position)}};
  Section section;
  section.title = "Where the text lost most";
  section.note =
      "KL divergence of single predictions from the unquantized model's: its mean by the token's place, and "
      "the "
      "tokens with the largest.";
  section.figures = {svg(chart)};
  section.table.column("KLD");
  section.table.column("before", Table::Align::Right);
  section.table.column("token", Table::Align::Left);
  section.table.column("after", Table::Align::Left);
  for (const LossByToken::Token& token : losses.worst)
    section.table.row({fmt::format("{:.3f}", token.divergence), shown(token.before), shown(token.text),
                       shown(token.after)});
  return section;
}

Section sizes_section(const QuantizeResult& result) {
  std::map<int, std::pair<uint64_t, int64_t>> layers;  // bits and weights
  for (const Assignment& one : result.plan.assignments) {
    auto& [bits, weights] = layers[place_of(one.tensor).layer];
    bits += one.scheme.stored_bits(one.rows, one.cols);
    weights += one.rows * one.cols;
  }
  LineChart chart;
  chart.title = "Size of the layers";
  chart.x_label = "layer";
  chart.y_label = "stored bits a weight";
  ChartSeries series{"bits a weight", {}};
  for (const auto& [layer, sum] : layers)
    if (sum.second > 0)
      series.points.emplace_back(layer, static_cast<double>(sum.first) / static_cast<double>(sum.second));
  chart.series = {series};
  Section section;
  section.title = "Sizes";
  section.figures = {svg(chart)};
  section.table = recipe_table(result);
  return section;
}

Section settings_section(const QuantizeRequest& request) {
  Section section;
  section.title = "Settings";
  section.table.column("option", Table::Align::Left);
  section.table.column("value", Table::Align::Left);
  for (const auto& [name, value] : settings_of(request)) section.table.row({name, value});
  return section;
}

std::string text_of(const Json& value) {
  if (value.is_null()) return "";
  return value.is_string() ? value.get<std::string>() : value.dump();
}

}  // namespace

Table measurements_table(const QuantizeResult& result) {
  Table table;
  table.column("", Table::Align::Left);
  for (const char* title : {"matrices", "PPL", "±", "KLD", "99th percentile", "top-1 %"}) table.column(title);
  for (const Measurement& m : result.measurements) {
    const Evaluation& e = m.evaluation;
    table.row({m.name, format_bytes(m.bytes), fmt::format("{:.3f}", e.ppl),
               fmt::format("{:.3f}", e.ppl_standard_error), e.kld ? fmt::format("{:.4f}", *e.kld) : "",
               e.kld_p99 ? fmt::format("{:.3f}", *e.kld_p99) : "",
               e.top1 ? fmt::format("{:.2f}", 100 * *e.top1) : ""});
  }
  return table;
}

Table recipe_table(const QuantizeResult& result) {
  struct Sum {
    size_t matrices = 0;
    uint64_t bytes = 0;
    int64_t weights = 0;
  };
  std::map<double, std::pair<std::string, Sum>> schemes;  // by bits a weight
  for (const Assignment& one : result.plan.assignments) {
    const uint64_t bits = one.scheme.stored_bits(one.rows, one.cols);
    const int64_t weights = one.rows * one.cols;
    const double bits_per_weight = weights > 0 ? static_cast<double>(bits) / static_cast<double>(weights) : 0;
    auto& [name, sum] = schemes[bits_per_weight];
    if (name.find(one.scheme.name()) == std::string::npos)
      name += (name.empty() ? "" : ", ") + one.scheme.name();
    ++sum.matrices;
    sum.bytes += (bits + 7) / 8;
    sum.weights += weights;
  }
  Table table;
  table.column("scheme", Table::Align::Left);
  for (const char* title : {"bits a weight", "matrices", "weights", "size"}) table.column(title);
  for (const auto& [bits, named] : schemes)
    table.row({named.first, fmt::format("{:.4f}", bits), fmt::format("{}", named.second.matrices),
               fmt::format("{:.2f} M", static_cast<double>(named.second.weights) / 1e6),
               format_bytes(named.second.bytes)});
  const Plan& plan = result.plan;
  const auto add = [&](const std::string& what, const std::optional<Scheme>& scheme,
                       const std::optional<double>& bits) {
    if (bits)
      table.row(
          {what + ": " + (scheme ? scheme->name() : "as it was"), fmt::format("{:.4f}", *bits), "1", "", ""});
  };
  add(plan.embedding_bits && !plan.head_bits ? "embedding and head" : "embedding", plan.embedding,
      plan.embedding_bits);
  add("head", plan.head, plan.head_bits);
  add("embeddings of the layers", plan.layer_embedding, plan.layer_embedding_bits);
  return table;
}

std::vector<std::pair<std::string, std::string>> settings_of(const QuantizeRequest& request) {
  QuantizeRequest copy = request;  // declarations are over members that can be changed
  std::vector<std::pair<std::string, std::string>> settings = {
      {"model", request.model.string()},
      {"output", request.output.string()},
      {"format", request.format},
      {"runtime", request.runtime},
      {"effort", request.effort},
      {"method", request.method},
      {"schemes", request.schemes},
      {"scores", request.scores.string()},
      {"plan", request.plan.string()},
      {"budget", request.allocator.budget.text()},
      {"allocator", request.allocator.name},
      {"quantizer", request.quantizer.name},
      {"embedding", request.boundaries.embedding},
      {"head", request.boundaries.head},
      {"layer-embedding", request.boundaries.layer_embedding},
      {"text", request.text.string()},
      {"window", fmt::format("{}", request.evaluation.window)},
      {"tokens", fmt::format("{}", request.evaluation.max_tokens)},
      {"seed", fmt::format("{}", request.workbench.seed)},
      {"device", request.workbench.device.str()}};
  std::set<std::string> names;
  const auto add = [&](const Options& options) {
    for (const Option& option : options)
      if (names.insert(option.name).second) settings.emplace_back(option.name, text_of(option.value()));
  };
  add(declare(copy.workbench));
  add(declare(copy.tuning));
  for (const auto& method : sensitivity_methods())
    if (method.options != nullptr) add(method.options(copy.workbench.methods));
  for (const Quantizer& quantizer : quantizers())
    if (quantizer.options != nullptr) add(quantizer.options(copy.quantizer.options));
  for (const Allocator& allocator : allocators())
    if (allocator.options != nullptr) add(allocator.options(copy.allocator.own));
  return settings;
}

std::string quantize_page(const QuantizeRequest& request, const QuantizeResult& result) {
  HtmlPage page;
  page.title = fmt::format("{} at {:.2f} bits a weight", request.model.filename().string(),
                           result.plan.bits_per_weight);
  page.note = fmt::format("Quantized by {}.", request.program);
  page.sections.push_back(results_section(request, result));
  Section plan;
  plan.title = "Bits of every matrix";
  plan.note = "Point at a cell for its score and what it costs in every scheme.";
  plan.figures = {svg(plan_heat_map(result.scores, result.plan))};
  page.sections.push_back(std::move(plan));
  if (!result.scores.costs.empty()) page.sections.push_back(frontier_section(result));
  if (result.by_token) page.sections.push_back(tokens_section(*result.by_token));
  page.sections.push_back(sizes_section(result));
  Section run;
  run.title = "To run it";
  for (const std::string& command : run_commands(result.format, result.exported.path))
    run.listing += command + "\n";
  page.sections.push_back(std::move(run));
  page.sections.push_back(settings_section(request));
  return html(page);
}

}  // namespace strata
