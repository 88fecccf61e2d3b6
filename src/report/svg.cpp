#include "report/svg.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <map>
#include <optional>

#include "core/error.h"
#include "report/png.h"
#include "report/svg_parts.h"

namespace fathom::report {
namespace {

constexpr double kHeight = 300;

// An axis: value -> pixel, linear or logarithmic.
struct Axis {
  double low = 0, high = 1, begin = 0, end = 1;
  bool log = false;
  double At(double value) const {
    const double t =
        log ? (std::log(value) - std::log(low)) / (std::log(high) - std::log(low)) : (value - low) / (high - low);
    return begin + t * (end - begin);
  }
};

struct Range {
  double low = INFINITY, high = -INFINITY;
  void Add(double v) {
    low = std::min(low, v);
    high = std::max(high, v);
  }
  bool empty() const { return !(low <= high); }
};

struct Point {
  double x, y;
};

bool Usable(double y, bool log) { return std::isfinite(y) && (!log || y > 0); }

// What a series adds to the y axis: all its values, of a faint one those between its 1st and 99th percentile.
void AddRange(const Series& s, bool log, Range& range) {
  std::vector<double> y;
  for (double v : s.y) {
    if (Usable(v, log)) y.push_back(v);
  }
  if (y.empty()) return;
  std::sort(y.begin(), y.end());
  const size_t cut = s.faint ? y.size() / 100 : 0;
  range.Add(y[cut]);
  range.Add(y[y.size() - 1 - cut]);
}

// Room around the values; a range of one value, or of values that differ in their last digits only (ticks between those
// could not be told apart), becomes one around it.
Range Padded(Range r, bool log, bool zero) {
  constexpr double kOne = 1e-9;
  if (log) {
    const double room = r.high > r.low * (1 + kOne) ? std::pow(r.high / r.low, 0.05) : 2;
    return {r.low / room, r.high * room};
  }
  if (zero) r.Add(0);
  const double largest = std::max(std::fabs(r.low), std::fabs(r.high));
  const double room = r.high - r.low > kOne * largest ? 0.05 * (r.high - r.low) : std::max(largest * 0.5, 1e-12);
  // Nothing but zeros: from 0 to a little above it.
  return {zero && r.low == 0 ? 0 : r.low - room, zero && r.high == 0 && r.low < 0 ? 0 : r.high + room};
}

// At most four points a pixel column (first, least, greatest, last), so that a long run's curve stays small and keeps
// its spikes.
std::vector<Point> Thinned(const std::vector<Point>& points) {
  std::vector<Point> kept;
  for (size_t i = 0; i < points.size();) {
    const double column = std::floor(points[i].x);
    size_t end = i, least = i, greatest = i;
    for (; end < points.size() && std::floor(points[end].x) == column; ++end) {
      if (points[end].y < points[least].y) least = end;
      if (points[end].y > points[greatest].y) greatest = end;
    }
    std::vector<size_t> order = {i, least, greatest, end - 1};
    std::sort(order.begin(), order.end());
    order.erase(std::unique(order.begin(), order.end()), order.end());
    for (size_t at : order) kept.push_back(points[at]);
    i = end;
  }
  return kept;
}

// An entry of a legend: its swatch's style and its name.
struct Entry {
  std::string css, name;
};

// Entries in lines below the title, at most `width` wide; *height is what they take.
std::string Legend(const std::vector<Entry>& entries, double width, double* height) {
  std::string out;
  double x = kLeft, y = kTop;
  for (const Entry& e : entries) {
    const double needs = 24 + kCharWidth * static_cast<double>(e.name.size()) + 14;
    if (x > kLeft && x + needs > width - kRight) {
      x = kLeft;
      y += kLegendLine;
    }
    out += Line(e.css.c_str(), x, y + 2, x + 18, y + 2) + Text("fx-text", x + 24, y + 6, e.name);
    x += needs;
  }
  *height = entries.empty() ? 0 : y - kTop + kLegendLine;
  return out;
}

// Where x counts something, between two whole numbers there is nothing to mark.
std::vector<double> XTickPlaces(const LineChart& chart, const Range& xs) {
  std::vector<double> ticks = LinearTicks(xs.low, xs.high, chart.wide ? 12 : 7);
  for (const Series& s : chart.series) {
    if (std::any_of(s.x.begin(), s.x.end(), [](double v) { return v != std::floor(v); })) return ticks;
  }
  ticks.erase(std::remove_if(ticks.begin(), ticks.end(), [](double v) { return std::fabs(v - std::round(v)) > 1e-9; }),
              ticks.end());
  return ticks;
}

// Labels of the x axis, those that would touch the one before left out.
std::string XTicks(const Axis& axis, const std::vector<double>& ticks, double bottom) {
  std::string out;
  const std::vector<std::string> labels = TickLabels(ticks);
  double free = -INFINITY;
  for (size_t i = 0; i < ticks.size(); ++i) {
    const double x = axis.At(ticks[i]), half = kCharWidth * static_cast<double>(labels[i].size()) / 2;
    out += Line("fx-tick", x, bottom, x, bottom + 4);
    if (x - half < free) continue;
    out += Text("fx-text fx-mid", x, bottom + 18, labels[i]);
    free = x + half + 6;
  }
  return out;
}

std::string AxisNames(const std::string& x_label, const std::string& y_label, double width, double top, double bottom) {
  std::string out;
  if (!x_label.empty()) out += Text("fx-text fx-mid", (kLeft + width - kRight) / 2, bottom + 36, x_label);
  if (!y_label.empty()) {
    const double y = (top + bottom) / 2;
    out += Text("fx-text fx-mid", 14, y, y_label, fmt::format(" transform=\"rotate(-90 14 {})\"", Pixel(y)));
  }
  return out;
}

// The points of a series, cut where a value is missing.
std::vector<std::vector<Point>> Pieces(const Series& s, const Axis& x, const Axis& y) {
  std::vector<std::vector<Point>> pieces(1);
  for (size_t i = 0; i < s.y.size(); ++i) {
    if (Usable(s.y[i], y.log) && std::isfinite(s.x[i])) {
      pieces.back().push_back({x.At(s.x[i]), y.At(s.y[i])});
    } else if (!pieces.back().empty()) {
      pieces.emplace_back();
    }
  }
  if (pieces.back().empty()) pieces.pop_back();
  return pieces;
}

std::string Curve(const Series& s, const std::string& css, const Axis& x, const Axis& y) {
  std::string path, dots;
  for (const std::vector<Point>& piece : Pieces(s, x, y)) {
    const std::vector<Point> points = Thinned(piece);
    for (size_t i = 0; i < points.size(); ++i) {
      path += fmt::format("{}{} {}", i == 0 ? "M" : "L", Pixel(points[i].x), Pixel(points[i].y));
    }
    if (!s.points && points.size() > 1) continue;  // a value alone has no line: a dot
    for (const Point& p : points) {
      dots += fmt::format("<circle class=\"{} fx-dot\" cx=\"{}\" cy=\"{}\" r=\"2.6\"/>\n", css, Pixel(p.x), Pixel(p.y));
    }
  }
  return fmt::format("<path class=\"{}{}\" d=\"{}\"/>\n", css, s.faint ? " fx-faint" : "", path) + dots;
}

// The colour of a value: 0 is the middle (transparent), +-1 the ends.
constexpr int kSteps = 100;  // of each direction: palette index kSteps is the middle
std::vector<Rgba> MapPalette() {
  constexpr std::array<uint8_t, 3> kLow = {37, 120, 214}, kHigh = {226, 92, 20};
  std::vector<Rgba> palette;
  for (int i = -kSteps; i <= kSteps; ++i) {
    const auto& c = i < 0 ? kLow : kHigh;
    palette.push_back({c[0], c[1], c[2], static_cast<uint8_t>(std::abs(i) * 255 / kSteps)});
  }
  palette.push_back({128, 128, 128, 90});  // no value
  return palette;
}

uint8_t MapIndex(const HeatMap& map, double value) {
  if (!std::isfinite(value)) return 2 * kSteps + 1;
  double t = 0;
  if (value > map.middle) t = std::log(value / map.middle) / std::log(map.high / map.middle);
  if (value < map.middle && map.low < map.middle) {
    t = value > 0 ? -std::log(map.middle / value) / std::log(map.middle / map.low) : -1;
  }
  return static_cast<uint8_t>(std::lround(std::clamp(t, -1.0, 1.0) * kSteps) + kSteps);
}

std::string Picture(const std::string& png, double x, double y, double width, double height) {
  return fmt::format(
      "<image class=\"fx-map\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" preserveAspectRatio=\"none\" "
      "href=\"{}\"/>\n",
      Pixel(x), Pixel(y), Pixel(width), Pixel(height), DataUri("image/png", png));
}

// The strip that explains a map's colours, at the right of the title's line.
std::string ColorScale(const HeatMap& map, double width) {
  constexpr double kStrip = 130, kStripHeight = 9;
  std::vector<uint8_t> pixels;
  const int begin = map.low < map.middle ? 0 : kSteps;
  for (int i = begin; i <= 2 * kSteps; ++i) pixels.push_back(static_cast<uint8_t>(i));
  const auto columns = static_cast<int64_t>(pixels.size());
  const double x = width - kRight - kStrip, y = kTop - 1;
  std::string out = Picture(EncodePng(pixels, columns, 1, MapPalette()), x, y, kStrip, kStripHeight);
  out += fmt::format("<rect class=\"fx-frame\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\"/>\n", Pixel(x), Pixel(y),
                     kStrip, kStripHeight);
  const auto label = [](double v) { return fmt::format("{:.3g}", v); };
  out += Text("fx-text fx-mid", x, y + 22,
              fmt::format("{}{}", begin == 0 ? "\xE2\x89\xA4" : "", label(begin == 0 ? map.low : map.middle)));
  if (begin == 0) out += Text("fx-text fx-mid", x + kStrip / 2, y + 22, label(map.middle));
  out += Text("fx-text fx-mid", x + kStrip - 6, y + 22, "\xE2\x89\xA5" + label(map.high));
  out += Text("fx-text fx-end", x - 20, y + 9, map.value_label);
  return out;
}

// 2e-4, 1.5e-5
std::string Scientific(double value) {
  const std::string text = fmt::format("{:.2e}", value);
  const size_t e = text.find('e');
  return fmt::format("{:g}e{}", std::strtod(text.substr(0, e).c_str(), nullptr), std::atoi(text.c_str() + e + 1));
}

}  // namespace

std::string Pixel(double v) { return fmt::format("{:g}", std::round(v * 10) / 10); }

std::string Text(const char* css, double x, double y, const std::string& text, const std::string& more) {
  return fmt::format("<text class=\"{}\" x=\"{}\" y=\"{}\"{}>{}</text>\n", css, Pixel(x), Pixel(y), more,
                     EscapeXml(text));
}

std::string Line(const char* css, double x1, double y1, double x2, double y2) {
  return fmt::format("<line class=\"{}\" x1=\"{}\" y1=\"{}\" x2=\"{}\" y2=\"{}\"/>\n", css, Pixel(x1), Pixel(y1),
                     Pixel(x2), Pixel(y2));
}

std::string Open(const std::string& title, double width, double height) {
  return fmt::format("<svg class=\"fx\" viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{}\">\n", Pixel(width),
                     Pixel(height), EscapeXml(title)) +
         Text("fx-title", kLeft - 46, 19, title);
}

std::string EscapeXml(std::string_view text) {
  std::string out;
  for (char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      default:  // control characters have no place in XML
        if (static_cast<unsigned char>(c) >= 0x20 || c == '\n' || c == '\t') out += c;
    }
  }
  return out;
}

std::vector<double> LinearTicks(double low, double high, int count) {
  FATHOM_CHECK(low < high && count > 0);
  const double rough = (high - low) / count, power = std::pow(10, std::floor(std::log10(rough)));
  const double ratio = rough / power;
  const double step = power * (ratio <= 1 ? 1 : ratio <= 2 ? 2 : ratio <= 5 ? 5 : 10);
  std::vector<double> ticks;
  for (double i = std::ceil(low / step - 1e-9); i <= high / step + 1e-9; ++i) ticks.push_back(i * step);
  return ticks;
}

std::vector<double> LogTicks(double low, double high, int count) {
  FATHOM_CHECK(low > 0 && low < high && count > 0);
  const double decades = std::log10(high / low);
  if (decades < 0.6) return LinearTicks(low, high, count);
  std::vector<double> multiples = {1};
  if (decades <= 2.5) multiples = {1, 2, 5};
  const int stride = std::max(1, static_cast<int>(std::ceil(decades / count)));
  std::vector<double> ticks;
  for (int power = static_cast<int>(std::floor(std::log10(low))); std::pow(10, power) <= high; ++power) {
    if (stride > 1 && power % stride != 0) continue;
    for (double m : multiples) {
      const double v = m * std::pow(10, power);
      if (v >= low * (1 - 1e-9) && v <= high * (1 + 1e-9)) ticks.push_back(v);
    }
  }
  return ticks;
}

std::vector<std::string> TickLabels(const std::vector<double>& ticks) {
  double largest = 0, smallest = INFINITY;
  for (double t : ticks) {
    largest = std::max(largest, std::fabs(t));
    if (t != 0) smallest = std::min(smallest, std::fabs(t));
  }
  std::vector<std::string> labels;
  for (double t : ticks) {
    const double a = std::fabs(t);
    if (a < largest * 1e-12 || a == 0) {
      labels.push_back("0");
    } else if (a >= 1e15 || a < 1e-3) {
      labels.push_back(Scientific(t));
    } else if (a >= 1e4 || (largest >= 1e4 && a >= 1e3)) {
      const int group = std::min(4, static_cast<int>(std::floor(std::log10(a) / 3 + 1e-9)));
      labels.push_back(fmt::format("{:.5g}{}", t / std::pow(1000, group),
                                   std::string_view(" kMGT").substr(static_cast<size_t>(group), 1)));
    } else {
      labels.push_back(fmt::format("{:.5g}", t));
    }
  }
  return labels;
}

std::string Svg(const LineChart& chart) {
  Range xs, ys;
  for (const Series& s : chart.series) {
    FATHOM_CHECK(s.x.size() == s.y.size());
    for (size_t i = 0; i < s.x.size(); ++i) {
      if (std::isfinite(s.x[i]) && Usable(s.y[i], chart.log_y)) xs.Add(s.x[i]);
    }
    AddRange(s, chart.log_y, ys);
  }
  if (xs.empty() || ys.empty()) return "";
  if (xs.low == xs.high) xs = {xs.low - 0.5, xs.high + 0.5};
  ys = Padded(ys, chart.log_y, chart.zero);

  std::vector<Entry> entries;
  std::vector<std::string> styles;
  int next = 0;
  for (const Series& s : chart.series) {
    const int color = s.color >= 0 ? s.color : next++;
    styles.push_back(fmt::format("fx-line fx-c{}", color % kColors));
    if (!s.name.empty() && chart.series.size() > 1)
      entries.push_back({styles.back() + (s.faint ? " fx-faint" : ""), s.name});
  }
  std::map<std::string, std::string> marks;  // name -> style
  for (const Mark& m : chart.marks) {
    if (m.x < xs.low || m.x > xs.high) continue;
    const std::string css = m.fault ? "fx-mark fx-fault" : "fx-mark";
    if (marks.emplace(m.name, css).second && !m.name.empty()) entries.push_back({css, m.name});
  }

  const double width = Width(chart.wide);
  double legend_height = 0;
  const std::string legend = Legend(entries, width, &legend_height);
  const double top = kTop + legend_height, bottom = kHeight + legend_height - kBottom;
  const Axis x{xs.low, xs.high, kLeft, width - kRight, false}, y{ys.low, ys.high, bottom, top, chart.log_y};

  std::string out = Open(chart.title, width, kHeight + legend_height) + legend;
  const std::vector<double> ticks = chart.log_y ? LogTicks(ys.low, ys.high, 6) : LinearTicks(ys.low, ys.high, 6);
  const std::vector<std::string> labels = TickLabels(ticks);
  for (size_t i = 0; i < ticks.size(); ++i) {
    out += Line("fx-grid", kLeft, y.At(ticks[i]), width - kRight, y.At(ticks[i]));
    out += Text("fx-text fx-end", kLeft - 7, y.At(ticks[i]) + 4, labels[i]);
  }
  out += Line("fx-axis", kLeft, bottom, width - kRight, bottom);
  out += XTicks(x, XTickPlaces(chart, xs), bottom);
  out += AxisNames(chart.x_label, chart.y_label, width, top, bottom);
  // An inner <svg> cuts off what lies beyond the axes, with room for half a dot.
  constexpr double kRoom = 4;
  out += fmt::format("<svg x=\"{0}\" y=\"{1}\" width=\"{2}\" height=\"{3}\" viewBox=\"{0} {1} {2} {3}\">\n",
                     Pixel(kLeft - kRoom), Pixel(top), Pixel(width - kRight - kLeft + 2 * kRoom), Pixel(bottom - top));
  for (const Mark& m : chart.marks) {
    const auto style = marks.find(m.name);
    if (m.x >= xs.low && m.x <= xs.high) out += Line(style->second.c_str(), x.At(m.x), top, x.At(m.x), bottom);
  }
  for (bool faint : {true, false}) {
    for (size_t i = 0; i < chart.series.size(); ++i) {
      if (chart.series[i].faint == faint) out += Curve(chart.series[i], styles[i], x, y);
    }
  }
  return out + "</svg>\n</svg>\n";
}

std::string Svg(const HeatMap& map) {
  const auto columns = static_cast<int64_t>(map.x.size());
  FATHOM_CHECK(static_cast<int64_t>(map.values.size()) == map.rows * columns);
  FATHOM_CHECK(map.low > 0 && map.low <= map.middle && map.middle < map.high);
  if (std::none_of(map.values.begin(), map.values.end(), [](double v) { return std::isfinite(v); })) return "";

  std::vector<uint8_t> pixels;
  for (int64_t row = map.rows - 1; row >= 0; --row) {
    for (int64_t c = 0; c < columns; ++c)
      pixels.push_back(MapIndex(map, map.values[static_cast<size_t>(row * columns + c)]));
  }
  constexpr double kScale = 34;
  const double width = Width(map.wide), top = kTop + kScale, bottom = kHeight + kScale - kBottom;
  const double w = width - kRight - kLeft, h = bottom - top;
  const double columns_d = static_cast<double>(columns), rows_d = static_cast<double>(map.rows);
  std::string out = Open(map.title, width, kHeight + kScale) + ColorScale(map, width);
  out += Picture(EncodePng(pixels, columns, map.rows, MapPalette()), kLeft, top, w, h);
  out += fmt::format("<rect class=\"fx-frame\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\"/>\n", Pixel(kLeft),
                     Pixel(top), Pixel(w), Pixel(h));
  // Cells are centred on whole numbers of rows and columns.
  const Axis y{-0.5, rows_d - 0.5, bottom, top, false};
  std::vector<double> row_ticks;
  for (double t :
       LinearTicks(static_cast<double>(map.first_row) - 0.5, static_cast<double>(map.first_row) + rows_d - 0.5, 8)) {
    if (t == std::floor(t)) row_ticks.push_back(t);
  }
  const std::vector<std::string> row_labels = TickLabels(row_ticks);
  for (size_t i = 0; i < row_ticks.size(); ++i) {
    out +=
        Text("fx-text fx-end", kLeft - 7, y.At(row_ticks[i] - static_cast<double>(map.first_row)) + 4, row_labels[i]);
  }
  // Columns are equally wide; ticks stand where the values of x fall between them.
  const Axis x{-0.5, columns_d - 0.5, kLeft, width - kRight, false};
  const auto column_of = [&](double value) {
    const auto after = std::upper_bound(map.x.begin(), map.x.end(), value) - map.x.begin();
    if (after == 0 || after == columns) return after == 0 ? 0.0 : columns_d - 1;
    const auto i = static_cast<size_t>(after);
    return static_cast<double>(after - 1) + (value - map.x[i - 1]) / (map.x[i] - map.x[i - 1]);
  };
  std::vector<double> ticks = map.x;
  if (columns > 1) ticks = LinearTicks(map.x.front(), map.x.back(), map.wide ? 12 : 7);
  const std::vector<std::string> labels = TickLabels(ticks);
  double free = -INFINITY;
  for (size_t i = 0; i < ticks.size(); ++i) {
    const double at = x.At(column_of(ticks[i])), half = kCharWidth * static_cast<double>(labels[i].size()) / 2;
    out += Line("fx-tick", at, bottom, at, bottom + 4);
    if (at - half < free) continue;
    out += Text("fx-text fx-mid", at, bottom + 18, labels[i]);
    free = at + half + 6;
  }
  out += AxisNames(map.x_label, map.y_label, width, top, bottom);
  return out + "</svg>\n";
}

std::string SvgStyle() {
  // Both palettes keep a contrast of 3:1 or more against their background, text 4.5:1 or more.
  return R"(.fx{--ink:#1f2328;--soft:#59636e;--rule:#dfe3e8;--back:#ffffff;
--c0:#0b66c3;--c1:#c2410c;--c2:#15803d;--c3:#7e22ce;--c4:#a16207;--c5:#0e7490;--c6:#be185d;--c7:#4d7c0f}
@media (prefers-color-scheme:dark){.fx{--ink:#e6edf3;--soft:#9ba5b0;--rule:#30363d;--back:#12161b;
--c0:#5aa9ff;--c1:#ff9352;--c2:#4cc96b;--c3:#c591ff;--c4:#e5b93c;--c5:#3fc7dd;--c6:#ff7db3;--c7:#a5d13f}}
svg.fx{font:12px system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif;display:block;width:100%;height:auto}
.fx-title{font-size:14px;font-weight:600;fill:var(--ink)}.fx-text{fill:var(--soft)}
.fx-mid{text-anchor:middle}.fx-end{text-anchor:end}
.fx-grid{stroke:var(--rule);stroke-width:1}.fx-axis,.fx-tick{stroke:var(--soft);stroke-width:1}
.fx-frame{fill:none;stroke:var(--rule)}.fx-map{image-rendering:pixelated}
.fx-line{fill:none;stroke-width:1.8;stroke-linejoin:round}.fx-faint{stroke-width:1;stroke-opacity:.38}
.fx-mark{stroke:var(--soft);stroke-width:1.2;stroke-dasharray:4 3}.fx-fault{stroke:var(--c6)}
.fx-c0{stroke:var(--c0)}.fx-c1{stroke:var(--c1)}.fx-c2{stroke:var(--c2)}.fx-c3{stroke:var(--c3)}
.fx-c4{stroke:var(--c4)}.fx-c5{stroke:var(--c5)}.fx-c6{stroke:var(--c6)}.fx-c7{stroke:var(--c7)}
.fx-dot{fill:var(--back)}.fx-half{fill-opacity:.45}.fx-on{fill:var(--back);font-size:10px}
.fx-f0{fill:var(--c0)}.fx-f1{fill:var(--c1)}.fx-f2{fill:var(--c2)}.fx-f3{fill:var(--c3)}
.fx-f4{fill:var(--c4)}.fx-f5{fill:var(--c5)}.fx-f6{fill:var(--c6)}.fx-f7{fill:var(--c7)}
)";
}

std::string Standalone(const std::string& svg) {
  const std::string tag = "<svg class=\"fx\"";
  FATHOM_CHECK(svg.rfind(tag, 0) == 0);
  const size_t inside = svg.find('>') + 1;
  return "<svg class=\"fx\" xmlns=\"http://www.w3.org/2000/svg\" style=\"background:var(--back)\"" +
         svg.substr(tag.size(), inside - tag.size()) + "\n<style>" + SvgStyle() + "</style>" + svg.substr(inside);
}

}  // namespace fathom::report
