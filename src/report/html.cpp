#include "report/html.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>

namespace fathom::report {
namespace {

constexpr std::string_view kStyle =
    R"(:root{color-scheme:light dark;--page:#f4f5f7;--card:#ffffff;--text:#1f2328;--quiet:#59636e;--edge:#dfe3e8}
@media (prefers-color-scheme:dark){:root{--page:#0b0e12;--card:#12161b;--text:#e6edf3;--quiet:#9ba5b0;--edge:#30363d}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--text);font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}
main{max-width:1240px;margin:0 auto;padding:28px 20px 60px}
h1{font-size:26px;line-height:1.25;margin:0}h2{font-size:19px;margin:36px 0 2px}
p.note{margin:0 0 4px;color:var(--quiet)}
.facts{display:grid;grid-template-columns:repeat(auto-fill,minmax(180px,1fr));gap:10px;margin:18px 0 0}
.facts div{background:var(--card);border:1px solid var(--edge);border-radius:8px;padding:8px 12px;overflow-wrap:anywhere}
.facts dt{font-size:12px;color:var(--quiet)}.facts dd{margin:0;font-weight:600;font-variant-numeric:tabular-nums}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,440px),1fr));gap:14px;margin-top:12px}
figure{margin:0;background:var(--card);border:1px solid var(--edge);border-radius:8px;padding:10px 12px 8px;min-width:0}
figure.wide{grid-column:1/-1;overflow-x:auto}figure.wide svg{min-width:720px}
.scroll{overflow-x:auto}
table{border-collapse:collapse;background:var(--card);margin-top:12px;font-variant-numeric:tabular-nums}
th,td{border:1px solid var(--edge);padding:4px 12px;text-align:left;vertical-align:top}th{font-weight:600}td.n{text-align:right}
section.text{background:var(--card);border:1px solid var(--edge);border-radius:8px;padding:10px 14px;margin-top:12px}
section.text h3{font-size:14px;margin:0 0 4px;color:var(--quiet);font-weight:600}
section.text p{margin:0;white-space:pre-wrap;overflow-wrap:anywhere}
)";

std::string Draw(const std::variant<LineChart, HeatMap, SpanChart>& chart) {
  return std::visit(
      [](const auto& c) {
        const std::string svg = Svg(c);
        return svg.empty() ? svg : fmt::format("<figure{}>\n{}</figure>\n", c.wide ? " class=\"wide\"" : "", svg);
      },
      chart);
}

bool LooksLikeANumber(const std::string& text) {
  return !text.empty() && std::string_view("+-.0123456789").find(text[0]) != std::string_view::npos &&
         std::any_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

std::string Draw(const Table& table) {
  if (table.rows.empty()) return "";
  std::string out = "<div class=\"scroll\"><table>\n<tr>";
  for (const std::string& cell : table.header) out += fmt::format("<th>{}</th>", EscapeXml(cell));
  out += "</tr>\n";
  for (const std::vector<std::string>& row : table.rows) {
    out += "<tr>";
    for (const std::string& cell : row) {
      out += fmt::format("<td{}>{}</td>", LooksLikeANumber(cell) ? " class=\"n\"" : "", EscapeXml(cell));
    }
    out += "</tr>\n";
  }
  return out + "</table></div>\n";
}

std::string Draw(const TextBlock& text) {
  if (text.body.empty()) return "";
  const std::string title = text.title.empty() ? "" : fmt::format("<h3>{}</h3>\n", EscapeXml(text.title));
  return fmt::format("<section class=\"text\">{}<p>{}</p></section>\n", title, EscapeXml(text.body));
}

std::string Draw(const Section& section) {
  std::string charts, rest;
  for (const auto& chart : section.charts) charts += Draw(chart);
  if (!charts.empty()) charts = "<div class=\"charts\">\n" + charts + "</div>\n";
  for (const Table& table : section.tables) rest += Draw(table);
  for (const TextBlock& text : section.texts) rest += Draw(text);
  if (charts.empty() && rest.empty()) return "";
  std::string out = fmt::format("<h2>{}</h2>\n", EscapeXml(section.title));
  if (!section.note.empty()) out += fmt::format("<p class=\"note\">{}</p>\n", EscapeXml(section.note));
  return out + charts + rest;
}

}  // namespace

std::string Html(const Report& report) {
  std::string out = "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n";
  out += "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n";
  out += fmt::format("<title>{}</title>\n<style>\n{}{}</style>\n</head>\n<body>\n<main>\n", EscapeXml(report.title),
                     SvgStyle(), kStyle);
  out += fmt::format("<h1>{}</h1>\n", EscapeXml(report.title));
  if (!report.subtitle.empty()) out += fmt::format("<p class=\"note\">{}</p>\n", EscapeXml(report.subtitle));
  if (!report.facts.empty()) {
    out += "<dl class=\"facts\">\n";
    for (const Fact& f : report.facts) {
      out += fmt::format("<div><dt>{}</dt><dd>{}</dd></div>\n", EscapeXml(f.name), EscapeXml(f.value));
    }
    out += "</dl>\n";
  }
  for (const Section& section : report.sections) out += Draw(section);
  return out + "</main>\n</body>\n</html>\n";
}

}  // namespace fathom::report
