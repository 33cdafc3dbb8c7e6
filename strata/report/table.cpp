#include "strata/report/table.h"

#include <algorithm>
#include <cmath>

#include "strata/core/error.h"
#include "strata/report/line_chart.h"

namespace strata {
namespace {

std::string padded(const std::string& cell, size_t width, Table::Align align) {
  const std::string space(width - display_width(cell), ' ');
  return align == Table::Align::Left ? cell + space : space + cell;
}

}  // namespace

void Table::column(std::string title, Align align) {
  columns_.push_back({std::move(title), align});
}

void Table::row(std::vector<std::string> cells) {
  if (cells.size() != columns_.size())
    fail("a table row has {} cells where {} were expected", cells.size(), columns_.size());
  rows_.push_back(std::move(cells));
}

std::vector<size_t> Table::widths() const {
  std::vector<size_t> widths;
  for (size_t c = 0; c < columns_.size(); ++c) {
    size_t width = display_width(columns_[c].title);
    for (const auto& row : rows_) width = std::max(width, display_width(row[c]));
    widths.push_back(width);
  }
  return widths;
}

std::string Table::text() const {
  const std::vector<size_t> width = widths();
  const auto line = [&](const auto& cell_of) {
    std::string joined;
    for (size_t c = 0; c < columns_.size(); ++c) {
      if (c > 0) joined += "  ";
      joined += padded(cell_of(c), width[c], columns_[c].align);
    }
    joined.erase(joined.find_last_not_of(' ') + 1);
    return joined + "\n";
  };
  std::string text = line([&](size_t c) { return columns_[c].title; });
  for (const auto& row : rows_) text += line([&](size_t c) { return row[c]; });
  return text;
}

std::string Table::markdown() const {
  std::string text = "|";
  for (const Column& column : columns_) text += " " + column.title + " |";
  text += "\n|";
  for (const Column& column : columns_) text += column.align == Align::Left ? "---|" : "---:|";
  text += "\n";
  for (const auto& row : rows_) {
    text += "|";
    for (const std::string& cell : row) text += " " + cell + " |";
    text += "\n";
  }
  return text;
}

std::string Table::html() const {
  const auto line = [&](const char* tag, const auto& cell_of) {
    std::string joined = "<tr>";
    for (size_t c = 0; c < columns_.size(); ++c)
      joined += std::string("<") + tag + (columns_[c].align == Align::Left ? " class=\"left\">" : ">") +
                escape_markup(cell_of(c)) + "</" + tag + ">";
    return joined + "</tr>\n";
  };
  std::string text = "<table>\n" + line("th", [&](size_t c) { return columns_[c].title; });
  for (const auto& row : rows_) text += line("td", [&](size_t c) { return row[c]; });
  return text + "</table>\n";
}

std::string bar(double fraction, int width) {
  static const char* const kEighths[] = {"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
  const int eighths = static_cast<int>(std::lround(std::clamp(fraction, 0.0, 1.0) * 8 * width));
  std::string text;
  for (int i = 0; i < eighths / 8; ++i) text += "█";
  text += kEighths[eighths % 8];
  text.append(static_cast<size_t>(width - (eighths + 7) / 8), ' ');
  return text;
}

size_t display_width(const std::string& text) {
  return static_cast<size_t>(
      std::count_if(text.begin(), text.end(), [](unsigned char byte) { return (byte & 0xc0) != 0x80; }));
}

}  // namespace strata
