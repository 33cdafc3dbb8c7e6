#include "strata/pipeline/comparison_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

namespace strata {
namespace {

bool has_several_quantizers(const Comparison& comparison) {
  std::set<std::string> names;
  for (const CompareRow& row : comparison.rows) names.insert(row.quantizer);
  return names.size() > 1;
}

// The chart of one measure on one text.
template <class Measure>
LineChart chart_of(const Comparison& comparison, const std::string& text, const Measure& measure) {
  const bool several = has_several_quantizers(comparison);
  LineChart chart;
  chart.x_label = "stored bits a weight";
  chart.log_y = true;
  for (const CompareRow& row : comparison.rows) {
    if (row.text != text) continue;
    const std::string name = several ? row.method + ", " + row.quantizer : row.method;
    auto series = std::find_if(chart.series.begin(), chart.series.end(),
                               [&](const ChartSeries& s) { return s.name == name; });
    if (series == chart.series.end()) series = chart.series.insert(series, {name, {}});
    series->points.emplace_back(row.bits_per_weight, measure(row));
  }
  for (ChartSeries& series : chart.series) std::sort(series.points.begin(), series.points.end());
  return chart;
}

}  // namespace

Table comparison_table(const Comparison& comparison) {
  const bool several = has_several_quantizers(comparison);
  const size_t texts = comparison.unquantized.size();
  Table table;
  table.column("asked bpw");
  table.column("method", Table::Align::Left);
  if (several) table.column("quantizer", Table::Align::Left);
  table.column("bpw");
  table.column("bytes");
  for (const CompareRow& row : comparison.unquantized) {
    table.column("PPL " + row.text);
    table.column("KLD");
    table.column("top-1 %");
  }
  table.column("seconds");
  const auto add = [&](const CompareRow* rows, const std::string& asked) {
    std::vector<std::string> cells = {asked, rows->method};
    if (several) cells.push_back(rows->quantizer);
    cells.push_back(fmt::format("{:.3f}", rows->bits_per_weight));
    cells.push_back(fmt::format("{}", rows->bytes));
    for (size_t t = 0; t < texts; ++t) {
      const Evaluation& e = rows[t].evaluation;
      cells.push_back(
          fmt::format("{:.3f}{}", e.ppl, rows[t].spread ? fmt::format(" ± {:.2f}", *rows[t].spread) : ""));
      cells.push_back(e.kld ? fmt::format("{:.4f}", *e.kld) : "");
      cells.push_back(e.top1 ? fmt::format("{:.2f}", 100 * *e.top1) : "");
    }
    cells.push_back(fmt::format("{:.1f}", rows->seconds));
    table.row(std::move(cells));
  };
  add(comparison.unquantized.data(), "");
  for (size_t i = 0; i + texts <= comparison.rows.size(); i += texts)
    add(&comparison.rows[i], fmt::format("{:g}", comparison.rows[i].budget));
  return table;
}

Table correlation_table(const Comparison& comparison) {
  Table table;
  table.column("score", Table::Align::Left);
  table.column("rank correlation");
  for (const ScoreCorrelation& row : comparison.correlations)
    table.row({row.method, fmt::format("{:.2f}", row.rank_correlation)});
  return table;
}

std::vector<LineChart> comparison_charts(const Comparison& comparison) {
  std::vector<LineChart> charts;
  for (const CompareRow& unquantized : comparison.unquantized) {
    LineChart ppl =
        chart_of(comparison, unquantized.text, [](const CompareRow& row) { return row.evaluation.ppl; });
    ppl.title = "Perplexity on " + unquantized.text;
    ppl.y_label = "PPL";
    ppl.baseline = unquantized.evaluation.ppl;
    ppl.baseline_name = "unquantized";
    charts.push_back(std::move(ppl));
    LineChart kld = chart_of(comparison, unquantized.text,
                             [](const CompareRow& row) { return row.evaluation.kld.value_or(0); });
    kld.title = "KL divergence from the unquantized model on " + unquantized.text;
    kld.y_label = "KLD, nats";
    charts.push_back(std::move(kld));
  }
  return charts;
}

std::string comparison_page(const Comparison& comparison, const std::string& model) {
  HtmlPage page;
  page.title = "Quantizing " + model;
  page.note =
      "Methods at equal stored bytes; scales, zero points and padding are counted. Click a name in a legend "
      "to "
      "hide its curve.";
  page.charts = comparison_charts(comparison);
  page.sections.push_back({"All cells", "", comparison_table(comparison)});
  if (!comparison.correlations.empty())
    page.sections.push_back(
        {"Do the scores order the layers?",
         "Spearman's rank correlation of each layer score with the KL divergence measured "
         "when that layer alone takes the smallest scheme.",
         correlation_table(comparison)});
  return html(page);
}

}  // namespace strata
