#pragma once

#include <string>
#include <vector>

namespace strata {

// A plain-text table with aligned columns, for terminals, Markdown and HTML.
class Table {
 public:
  enum class Align { Left, Right };

  void column(std::string title, Align align = Align::Right);
  void row(std::vector<std::string> cells);  // one cell a column

  bool empty() const { return columns_.empty(); }

  std::string text() const;
  std::string markdown() const;
  std::string html() const;

 private:
  struct Column {
    std::string title;
    Align align;
  };
  std::vector<size_t> widths() const;

  std::vector<Column> columns_;
  std::vector<std::vector<std::string>> rows_;
};

// A horizontal bar of `width` cells filled to `fraction` in [0, 1], in eighths of a cell.
std::string bar(double fraction, int width);

// Number of terminal cells that UTF-8 text takes, when every code point takes one.
size_t display_width(const std::string& text);

}  // namespace strata
