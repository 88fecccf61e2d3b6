// Charts as SVG: pure functions from numbers to text. No scripts, no fonts, no files from elsewhere.
//
// Colours and fonts come from the style sheet that SvgStyle() returns, for light and dark backgrounds; a page with many
// charts has it once, Standalone() puts it into a chart that is a file of its own.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace fathom::report {

struct Series {
  std::string name;          // empty: not in the legend
  std::vector<double> x, y;  // of one length; a y that is not finite interrupts the line
  int color = -1;            // of the palette of eight; -1: by the series' place among those with a colour of their own
  bool faint = false;   // in the background: raw values behind smoothed ones. Its outliers do not stretch the axis.
  bool points = false;  // a dot at each value beside the line
};

// A vertical line at x: something that happened there.
struct Mark {
  double x = 0;
  std::string name;  // marks of one name share an entry of the legend
  bool fault = false;
};

struct LineChart {
  std::string title;
  std::string x_label, y_label;
  std::vector<Series> series;
  std::vector<Mark> marks;
  bool log_y = false;  // values that are not positive are left out
  bool zero = false;   // the axis reaches down to 0
  bool wide = false;   // takes the page's whole width
};

// values (rows, columns), drawn as a grid of cells, row 0 at the bottom.
struct HeatMap {
  std::string title;
  std::string x_label, y_label;
  std::vector<double> x;  // (columns,) what each column stands for, ascending
  int64_t first_row = 0;  // the number of row 0
  int64_t rows = 0;
  std::vector<double> values;  // row-major; not finite: an empty cell
  // Colours: the middle is the background, `low` and below one colour, `high` and above another; on a logarithmic
  // scale. low == middle: one direction only.
  double low = 0.25, middle = 1, high = 4;
  std::string value_label;
  bool wide = false;
};

// Empty if there is nothing to draw: no finite value.
std::string Svg(const LineChart& chart);
std::string Svg(const HeatMap& map);

std::string SvgStyle();
// A file of its own from the text that Svg returned.
std::string Standalone(const std::string& svg);

// For element content and attributes.
std::string EscapeXml(std::string_view text);

// Places for ticks, about `count` of them, at 1, 2 or 5 times powers of ten within [low, high].
std::vector<double> LinearTicks(double low, double high, int count);
// The same on a logarithmic axis: powers of ten, with their 2 and 5 (or 1.5, ...) where the range is short.
std::vector<double> LogTicks(double low, double high, int count);
// Short text for each tick: 250k, 1.5M, 3e-4.
std::vector<std::string> TickLabels(const std::vector<double>& ticks);

}  // namespace fathom::report
