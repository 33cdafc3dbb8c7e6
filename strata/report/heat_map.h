#pragma once

#include <string>
#include <vector>

namespace strata {

// Coloured cells in rows and columns, as SVG.
struct HeatMap {
  struct Cell {
    bool there = false;
    double value = 0;   // its colour, from the lowest there is to the highest
    std::string label;  // in the cell
    std::string hint;   // beside the pointer; lines end with "\n"
  };
  std::string title, legend;  // the legend says what values are: "stored bits a weight"
  std::vector<std::string> rows, columns;
  std::vector<std::vector<Cell>> cells;  // [rows][columns]
};

// A complete <svg> element: dark is low, light is high.
std::string svg(const HeatMap& map);

}  // namespace strata
