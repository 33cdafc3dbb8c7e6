#include "strata/report/line_chart.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

namespace strata {
namespace {

constexpr double kWidth = 900, kHeight = 480;
constexpr double kLeft = 70, kRight = 660, kTop = 44, kBottom = 424;  // of the plot
constexpr double kLegendLine = 19;                                    // less where there are many series

// Colours that stay apart for colour-blind readers, then dashes: 8 x 3 looks.
constexpr std::array<const char*, 8> kColours = {"#0072b2", "#d55e00", "#009e73", "#cc79a7",
                                                 "#56b4e9", "#b8860b", "#7b3fa0", "#444444"};
constexpr std::array<const char*, 3> kDashes = {"", "6 3", "2 3"};

struct Look {
  const char *colour, *dash;
};

Look look_of(size_t index) {
  return {kColours[index % kColours.size()], kDashes[index / kColours.size() % kDashes.size()]};
}

// A linear or logarithmic axis from values to places.
class Axis {
 public:
  Axis(double low, double high, double from, double to, bool logarithmic)
      : logarithmic_(logarithmic), from_(from), to_(to), low_(scaled(low)), high_(scaled(high)) {
    if (high_ - low_ < 1e-9) low_ -= 0.5, high_ += 0.5;
    const double margin = 0.04 * (high_ - low_);
    low_ -= margin;
    high_ += margin;
  }

  double place(double value) const { return from_ + (to_ - from_) * (scaled(value) - low_) / (high_ - low_); }

  // Round values: 1, 2, 5 in every power of ten that the axis spans, or multiples of such a step.
  std::vector<double> ticks() const {
    return logarithmic_ && high_ - low_ > 0.5 ? log_ticks() : even_ticks();
  }

 private:
  double scaled(double value) const { return logarithmic_ ? std::log10(value) : value; }

  std::vector<double> log_ticks() const {
    std::vector<double> ticks, digits = {1, 2, 5};
    if (high_ - low_ > 5) digits = {1};
    if (high_ - low_ < 1.5) digits = {1, 1.5, 2, 3, 4, 5, 7};
    for (int power = static_cast<int>(std::floor(low_)); power <= static_cast<int>(high_) + 1; ++power)
      for (const double digit : digits) {
        const double value = digit * std::pow(10.0, power);
        if (scaled(value) >= low_ && scaled(value) <= high_) ticks.push_back(value);
      }
    return ticks;
  }

  std::vector<double> even_ticks() const {
    const double low = logarithmic_ ? std::pow(10.0, low_) : low_;
    const double high = logarithmic_ ? std::pow(10.0, high_) : high_;
    const double rough = (high - low) / 6, power = std::pow(10.0, std::floor(std::log10(rough)));
    double step = 10 * power;
    for (const double digit : {1.0, 2.0, 5.0})
      if (digit * power >= rough) {
        step = digit * power;
        break;
      }
    std::vector<double> ticks;
    for (double k = std::ceil(low / step); k * step <= high; ++k) ticks.push_back(k * step + 0.0);  // no -0
    return ticks;
  }

  bool logarithmic_;
  double from_, to_, low_, high_;
};

bool can_be_drawn(const LineChart& chart, const std::pair<double, double>& point) {
  return std::isfinite(point.first) && std::isfinite(point.second) && (!chart.log_y || point.second > 0);
}

class Drawing {
 public:
  explicit Drawing(const LineChart& chart)
      : chart_(chart),
        x_(range(true).first, range(true).second, kLeft, kRight, false),
        y_(range(false).first, range(false).second, kBottom, kTop, chart.log_y) {}

  std::string draw() {
    add("<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {}\" width=\"{}\" height=\"{}\" "
        "font-family=\"system-ui, sans-serif\" font-size=\"12\" role=\"img\">\n",
        kWidth, kHeight, kWidth, kHeight);
    add("<title>{}</title>\n<rect width=\"{}\" height=\"{}\" fill=\"#ffffff\"/>\n",
        escape_markup(chart_.title), kWidth, kHeight);
    text(kLeft, 24, "start", "#111111", chart_.title, " font-size=\"15\" font-weight=\"600\"");
    axes();
    baseline();
    for (size_t i = 0; i < chart_.series.size(); ++i) curve(i);
    for (size_t i = 0; i < chart_.series.size(); ++i) legend(i);
    out_ += "</svg>\n";
    return std::move(out_);
  }

 private:
  template <class... Values>
  void add(fmt::format_string<Values...> format, Values&&... values) {
    fmt::format_to(std::back_inserter(out_), format, std::forward<Values>(values)...);
  }

  void text(double x, double y, const char* anchor, const char* colour, const std::string& content,
            const std::string& more = "") {
    add("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"{}\" fill=\"{}\"{}>{}</text>\n", x, y, anchor, colour,
        more, escape_markup(content));
  }

  std::pair<double, double> range(bool of_x) const {
    double low = INFINITY, high = -INFINITY;
    const auto include = [&](double value) {
      low = std::min(low, value);
      high = std::max(high, value);
    };
    for (const ChartSeries& series : chart_.series)
      for (const auto& point : series.points)
        if (can_be_drawn(chart_, point)) include(of_x ? point.first : point.second);
    if (!of_x && chart_.baseline && can_be_drawn(chart_, {0, *chart_.baseline})) include(*chart_.baseline);
    return low <= high ? std::make_pair(low, high) : std::make_pair(1.0, 2.0);
  }

  void axes() {
    for (const double tick : y_.ticks()) {
      const double y = y_.place(tick);
      add("<line x1=\"{}\" x2=\"{}\" y1=\"{:.1f}\" y2=\"{:.1f}\" stroke=\"#e6e6e6\"/>\n", kLeft, kRight, y,
          y);
      text(kLeft - 8, y + 4, "end", "#444444", fmt::format("{:g}", tick));
    }
    for (const double tick : x_.ticks()) {
      const double x = x_.place(tick);
      add("<line x1=\"{:.1f}\" x2=\"{:.1f}\" y1=\"{}\" y2=\"{}\" stroke=\"#888888\"/>\n", x, x, kBottom,
          kBottom + 5);
      text(x, kBottom + 19, "middle", "#444444", fmt::format("{:g}", tick));
    }
    add("<line x1=\"{}\" x2=\"{}\" y1=\"{}\" y2=\"{}\" stroke=\"#888888\"/>\n", kLeft, kRight, kBottom,
        kBottom);
    text((kLeft + kRight) / 2, kBottom + 42, "middle", "#111111", chart_.x_label);
    text(18, (kTop + kBottom) / 2, "middle", "#111111", chart_.y_label,
         fmt::format(" transform=\"rotate(-90 18 {})\"", (kTop + kBottom) / 2));
  }

  void baseline() {
    if (!chart_.baseline || !can_be_drawn(chart_, {0, *chart_.baseline})) return;
    const double y = y_.place(*chart_.baseline);
    add("<line x1=\"{}\" x2=\"{}\" y1=\"{:.1f}\" y2=\"{:.1f}\" stroke=\"#111111\" stroke-dasharray=\"1 "
        "4\"/>\n",
        kLeft, kRight, y, y);
    text(kLeft + 4, y - 5, "start", "#111111",
         fmt::format("{} {:.4g}", chart_.baseline_name, *chart_.baseline));
  }

  void curve(size_t index) {
    const ChartSeries& series = chart_.series[index];
    const Look look = look_of(index);
    std::string path;
    for (const auto& point : series.points)
      if (can_be_drawn(chart_, point))
        path += fmt::format("{}{:.1f},{:.1f}", path.empty() ? "" : " ", x_.place(point.first),
                            y_.place(point.second));
    const std::string name = escape_markup(series.name);
    add("<g class=\"series\" data-name=\"{}\">\n", name);
    if (series.joined)
      add("<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"2\" "
          "stroke-dasharray=\"{}\"/>\n",
          path, look.colour, look.dash);
    for (const auto& point : series.points)
      if (can_be_drawn(chart_, point))
        add("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"{}\" fill=\"{}\"><title>{}: {:.4g} at "
            "{:.4g}</title></circle>\n",
            x_.place(point.first), y_.place(point.second), series.joined ? 3.5 : 6.0, look.colour, name,
            point.second, point.first);
    out_ += "</g>\n";
  }

  void legend(size_t index) {
    const Look look = look_of(index);
    const double spacing =
        std::min(kLegendLine, (kBottom - kTop) / static_cast<double>(chart_.series.size()));
    const double y = kTop + 8 + spacing * static_cast<double>(index);
    add("<g class=\"legend\" data-name=\"{}\">\n", escape_markup(chart_.series[index].name));
    add("<line x1=\"{}\" x2=\"{}\" y1=\"{:.1f}\" y2=\"{:.1f}\" stroke=\"{}\" stroke-width=\"2\" "
        "stroke-dasharray=\"{}\"/>\n",
        kRight + 20, kRight + 48, y, y, look.colour, look.dash);
    text(kRight + 56, y + 4, "start", "#111111", chart_.series[index].name);
    out_ += "</g>\n";
  }

  const LineChart& chart_;
  Axis x_, y_;
  std::string out_;
};

}  // namespace

std::string svg(const LineChart& chart) {
  return Drawing(chart).draw();
}

std::string escape_markup(const std::string& text) {
  std::string escaped;
  for (const char c : text) switch (c) {
      case '&':
        escaped += "&amp;";
        break;
      case '<':
        escaped += "&lt;";
        break;
      case '>':
        escaped += "&gt;";
        break;
      case '"':
        escaped += "&quot;";
        break;
      default:
        escaped += c;
    }
  return escaped;
}

}  // namespace strata
