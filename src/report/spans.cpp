#include "report/spans.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/error.h"
#include "report/svg.h"
#include "report/svg_parts.h"

namespace fathom::report {
namespace {

constexpr double kRowHeight = 18, kRowGap = 4;

std::string Box(const SpanKind& kind, double x, double y, double width, double height) {
  return fmt::format("<rect class=\"fx-f{}{}\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\"/>\n", kind.color % kColors,
                     kind.faint ? " fx-half" : "", Pixel(x), Pixel(y), Pixel(width), Pixel(height));
}

}  // namespace

std::string Svg(const SpanChart& chart) {
  double high = chart.limit;
  for (const Span& s : chart.spans) {
    FATHOM_CHECK(s.row >= 0 && s.row < static_cast<int64_t>(chart.rows.size()));
    FATHOM_CHECK(s.kind >= 0 && s.kind < static_cast<int64_t>(chart.kinds.size()));
    high = std::max(high, s.end);
  }
  if (chart.spans.empty() || !(high > 0)) return "";
  size_t longest = 0;
  for (const std::string& name : chart.rows) longest = std::max(longest, name.size());
  const double left = std::max(kLeft, 20 + kCharWidth * static_cast<double>(longest));
  const double width = Width(chart.wide), right = width - kRight - 4;

  // The legend, in lines.
  std::string legend;
  double x = left, top = kTop;
  const auto place = [&](size_t letters) {
    const double needs = 34 + kCharWidth * static_cast<double>(letters);
    if (x > left && x + needs > width) {
      x = left;
      top += kLegendLine;
    }
    const double at = x;
    x += needs;
    return at;
  };
  for (const SpanKind& kind : chart.kinds) {
    if (kind.name.empty()) continue;
    const double at = place(kind.name.size());
    legend += Box(kind, at, top - 4, 12, 12) + Text("fx-text", at + 18, top + 6, kind.name);
  }
  if (chart.limit > 0 && !chart.limit_name.empty()) {
    const double at = place(chart.limit_name.size() + 1);
    legend +=
        Line("fx-mark fx-fault", at, top + 2, at + 16, top + 2) + Text("fx-text", at + 22, top + 6, chart.limit_name);
  }
  top += kLegendLine + 2;

  const double bottom = top + static_cast<double>(chart.rows.size()) * (kRowHeight + kRowGap);
  const double scale = (right - left) / (high * 1.01);
  std::string out = Open(chart.title, width, bottom + kBottom) + legend;
  const std::vector<double> ticks = LinearTicks(0, high, chart.wide ? 12 : 7);
  const std::vector<std::string> labels = TickLabels(ticks);
  for (size_t i = 0; i < ticks.size(); ++i) {
    const double at = left + ticks[i] * scale;
    out += Line("fx-grid", at, top, at, bottom) + Text("fx-text fx-mid", at, bottom + 16, labels[i]);
  }
  for (size_t r = 0; r < chart.rows.size(); ++r) {
    const double y = top + static_cast<double>(r) * (kRowHeight + kRowGap);
    out += Text("fx-text fx-end", left - 7, y + kRowHeight - 5, chart.rows[r]);
  }
  for (const Span& s : chart.spans) {
    const double y = top + static_cast<double>(s.row) * (kRowHeight + kRowGap) + kRowGap / 2;
    const double from = left + s.begin * scale, to = left + s.end * scale;
    out += Box(chart.kinds[static_cast<size_t>(s.kind)], from, y, std::max(to - from - 0.6, 0.3), kRowHeight);
    if (!s.label.empty() && to - from > kCharWidth * static_cast<double>(s.label.size()) + 1)
      out += Text("fx-text fx-on fx-mid", (from + to) / 2, y + kRowHeight - 5, s.label);
  }
  if (chart.limit > 0) {
    const double at = left + chart.limit * scale;
    out += Line("fx-mark fx-fault", at, top - 4, at, bottom + 2);
  }
  if (!chart.x_label.empty()) out += Text("fx-text fx-mid", (left + right) / 2, bottom + 34, chart.x_label);
  return out + "</svg>\n";
}

}  // namespace fathom::report
