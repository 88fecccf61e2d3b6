// Bars cut into pieces, row by row: what devices do over time, or what fills their memory.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace fathom::report {

struct SpanKind {
  std::string name;  // in the legend; empty: not there
  int color = 0;     // of the palette of eight
  bool faint = false;
};

struct Span {
  int64_t row = 0;
  double begin = 0, end = 0;
  int64_t kind = 0;
  std::string label;  // left out where there is no room
};

struct SpanChart {
  std::string title;
  std::string x_label;
  std::vector<std::string> rows;  // from the top
  std::vector<SpanKind> kinds;
  std::vector<Span> spans;
  double limit = 0;  // a dashed line at this x; 0: none
  std::string limit_name;
  bool wide = true;
};

// Empty if there is nothing to draw.
std::string Svg(const SpanChart& chart);

}  // namespace fathom::report
