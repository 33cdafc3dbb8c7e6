#include "strata/report/heat_map.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "strata/report/line_chart.h"

namespace strata {
namespace {

constexpr int kCellHeight = 20, kMapTop = 74, kMapLeft = 56, kMapWidth = 900;

struct MapColour {
  double red, green, blue;
};

// Viridis at even distances: as bright as it is high, for every eye.
constexpr std::array<MapColour, 5> kViridis = {
    {{68, 1, 84}, {59, 82, 139}, {33, 145, 140}, {94, 201, 98}, {253, 231, 37}}};

MapColour colour_of(double fraction) {
  const double place = std::clamp(fraction, 0.0, 1.0) * static_cast<double>(kViridis.size() - 1);
  const size_t low = std::min(static_cast<size_t>(place), kViridis.size() - 2);
  const double part = place - static_cast<double>(low);
  const auto mix = [part](double a, double b) { return std::round(a + part * (b - a)); };
  const MapColour &a = kViridis[low], &b = kViridis[low + 1];
  return {mix(a.red, b.red), mix(a.green, b.green), mix(a.blue, b.blue)};
}

std::string name_of(const MapColour& colour) {
  return fmt::format("#{:02x}{:02x}{:02x}", static_cast<int>(colour.red), static_cast<int>(colour.green),
                     static_cast<int>(colour.blue));
}

std::string map_text(int x, int y, const char* more, const std::string& content) {
  return fmt::format("<text x=\"{}\" y=\"{}\" {}>{}</text>\n", x, y, more, escape_markup(content));
}

}  // namespace

std::string svg(const HeatMap& map) {
  double low = INFINITY, high = -INFINITY;
  for (const auto& row : map.cells)
    for (const HeatMap::Cell& cell : row)
      if (cell.there) low = std::min(low, cell.value), high = std::max(high, cell.value);
  const auto fraction = [&](double value) { return high > low ? (value - low) / (high - low) : 0.5; };
  const int columns = std::max(1, static_cast<int>(map.columns.size()));
  const int width = std::clamp((kMapWidth - kMapLeft) / columns, 14, 110);
  const bool labelled = width >= 48;
  const int full_width = std::max(kMapWidth, kMapLeft + columns * width + 8);
  const int full_height = kMapTop + static_cast<int>(map.rows.size()) * kCellHeight + 12;

  std::string out = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {}\" width=\"{}\" height=\"{}\" "
      "font-family=\"system-ui, sans-serif\" font-size=\"11\" class=\"heat-map\" "
      "role=\"img\">\n<title>{}</title>\n"
      "<rect width=\"{}\" height=\"{}\" fill=\"#ffffff\"/>\n",
      full_width, full_height, full_width, full_height, escape_markup(map.title), full_width, full_height);
  out += map_text(8, 24, "font-size=\"15\" font-weight=\"600\"", map.title);
  if (low <= high) {
    constexpr int kSteps = 24, kStep = 6;
    const int right = kMapWidth - 60, first = right - kSteps * kStep;
    for (int i = 0; i < kSteps; ++i)
      out += fmt::format("<rect x=\"{}\" y=\"14\" width=\"{}\" height=\"12\" fill=\"{}\"/>\n",
                         first + i * kStep, kStep, name_of(colour_of(static_cast<double>(i) / (kSteps - 1))));
    out += map_text(first - 6, 24, "text-anchor=\"end\"", fmt::format("{} {:.4g}", map.legend, low));
    out += map_text(right + 6, 24, "", fmt::format("{:.4g}", high));
  }
  for (int c = 0; c < static_cast<int>(map.columns.size()); ++c) {
    const int x = kMapLeft + c * width + width / 2;
    out +=
        labelled
            ? map_text(x, kMapTop - 8, "text-anchor=\"middle\"", map.columns[static_cast<size_t>(c)])
            : map_text(x, kMapTop - 8,
                       fmt::format("transform=\"rotate(-60 {} {})\" font-size=\"9\"", x, kMapTop - 8).c_str(),
                       map.columns[static_cast<size_t>(c)]);
  }
  for (size_t r = 0; r < map.rows.size(); ++r) {
    const int y = kMapTop + static_cast<int>(r) * kCellHeight;
    out += map_text(kMapLeft - 8, y + 14, "text-anchor=\"end\"", map.rows[r]);
    for (size_t c = 0; c < map.cells[r].size(); ++c) {
      const HeatMap::Cell& cell = map.cells[r][c];
      if (!cell.there) continue;
      const int x = kMapLeft + static_cast<int>(c) * width;
      const double at = fraction(cell.value);
      out +=
          fmt::format("<g data-hint=\"{}\"><rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" fill=\"{}\"/>",
                      escape_markup(cell.hint), x, y, width - 1, kCellHeight - 1, name_of(colour_of(at)));
      if (labelled)
        out +=
            fmt::format("<text x=\"{}\" y=\"{}\" text-anchor=\"middle\" fill=\"{}\">{}</text>", x + width / 2,
                        y + 14, at > 0.55 ? "#111111" : "#ffffff", escape_markup(cell.label));
      out += "</g>\n";
    }
  }
  return out + "</svg>\n";
}

}  // namespace strata
