#include "strata/report/frontier_chart.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "strata/core/units.h"

namespace strata {
namespace {

// Points that are spread over the sizes, the ends among them; and these.
std::set<size_t> spread(const std::vector<FrontierPoint>& points, size_t parts,
                        const std::vector<size_t>& more) {
  std::set<size_t> chosen(more.begin(), more.end());
  const double first = static_cast<double>(points.front().bytes);
  const double step =
      (static_cast<double>(points.back().bytes) - first) / static_cast<double>(std::max<size_t>(1, parts));
  double next = first;
  for (size_t i = 0; i < points.size(); ++i) {
    if (static_cast<double>(points[i].bytes) < next && i + 1 < points.size()) continue;
    chosen.insert(i);
    while (step > 0 && next <= static_cast<double>(points[i].bytes)) next += step;
  }
  return chosen;
}

}  // namespace

double frontier_unit_mib(const Frontier& frontier) {
  constexpr uint64_t kLarge = uint64_t{2} << 30;
  return frontier.points.back().bytes > kLarge ? 1024 : 1;
}

LineChart frontier_chart(const Frontier& frontier, const std::vector<size_t>& knees) {
  constexpr size_t kMarks = 120;
  const bool large = frontier_unit_mib(frontier) > 1;
  const double unit = 1024.0 * 1024 * frontier_unit_mib(frontier);
  const auto place = [&](const FrontierPoint& point) {
    return std::make_pair(static_cast<double>(point.bytes) / unit, point.cost);
  };
  LineChart chart;
  chart.title = "Least predicted cost of every size";
  chart.x_label = large ? "GiB of matrices" : "MiB of matrices";
  chart.y_label = "predicted cost";
  chart.log_y = true;
  ChartSeries curve{"least cost", {}}, knee{"knees", {}, false}, uniform{"one scheme everywhere", {}, false};
  for (const size_t i : spread(frontier.points, kMarks, knees))
    curve.points.push_back(place(frontier.points[i]));
  for (const auto& [scheme, point] : frontier.uniform) uniform.points.push_back(place(point));
  for (const size_t i : knees) knee.points.push_back(place(frontier.points[i]));
  std::sort(uniform.points.begin(), uniform.points.end());
  chart.series = {curve, uniform};
  if (!knees.empty()) chart.series.push_back(knee);
  return chart;
}

Table frontier_table(const Frontier& frontier, const std::vector<size_t>& knees) {
  constexpr size_t kLines = 20;
  Table table;
  for (const char* title : {"bits a weight", "size", "bytes", "cost"}) table.column(title);
  table.column("", Table::Align::Left);
  for (const size_t i : spread(frontier.points, kLines, knees)) {
    const FrontierPoint& point = frontier.points[i];
    const bool is_knee = std::find(knees.begin(), knees.end(), i) != knees.end();
    table.row({fmt::format("{:.4f}", point.bits_per_weight), format_bytes(point.bytes),
               fmt::format("{}", point.bytes), fmt::format("{:.6g}", point.cost), is_knee ? "knee" : ""});
  }
  return table;
}

}  // namespace strata
