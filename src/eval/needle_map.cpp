// How a needle map is shown: text, SVG, PNG, JSON.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "eval/needle.h"
#include "report/png.h"
#include "report/svg.h"

namespace fathom::eval {
namespace {

double At(const NeedleMap& map, const std::vector<double>& values, size_t length, size_t depth) {
  return values[length * map.depths.size() + depth];
}

}  // namespace

std::string NeedleTable(const NeedleMap& map) {
  std::string out = "  depth";
  for (int64_t length : map.lengths) out += fmt::format("{:>8}", length);
  out += "   tokens\n";
  for (size_t d = 0; d < map.depths.size(); ++d) {
    out += fmt::format("{:>5.0f} %", 100 * map.depths[d]);
    for (size_t l = 0; l < map.lengths.size(); ++l) out += fmt::format("{:>8.0f}", 100 * At(map, map.found, l, d));
    out += "\n";
  }
  out += "  found";
  for (size_t l = 0; l < map.lengths.size(); ++l)
    out += fmt::format("{:>8.1f}", 100 * map.FoundAt(static_cast<int64_t>(l)));
  out += "   % of the answers, exactly\n    nll";
  for (size_t l = 0; l < map.lengths.size(); ++l) {
    double sum = 0;
    for (size_t d = 0; d < map.depths.size(); ++d) sum += At(map, map.nll, l, d);
    out += fmt::format("{:>8.3f}", sum / static_cast<double>(map.depths.size()));
  }
  return out + "   nats an answer\n";
}

std::string NeedleSvg(const NeedleMap& map, const std::string& title, int64_t trained) {
  constexpr double kLeft = 62, kTop = 52, kCellWidth = 62, kCellHeight = 24, kBelow = 44;
  const auto columns = static_cast<double>(map.lengths.size()), rows = static_cast<double>(map.depths.size());
  const double width = std::max(kLeft + columns * kCellWidth + 20, 330.0);
  const double bottom = kTop + rows * kCellHeight, height = bottom + kBelow;
  const auto text = [](const char* css, double x, double y, const std::string& words) {
    return fmt::format("<text class=\"{}\" x=\"{:.1f}\" y=\"{:.1f}\">{}</text>\n", css, x, y, report::EscapeXml(words));
  };
  std::string out = fmt::format("<svg class=\"fx\" viewBox=\"0 0 {:.0f} {:.0f}\" role=\"img\" aria-label=\"{}\">\n",
                                width, height, report::EscapeXml(title));
  out += text("fx-title", 14, 19, title);
  out += text("fx-text", 14, 38, fmt::format("answers found, %, of {} a cell", map.samples));
  for (size_t l = 0; l < map.lengths.size(); ++l) {
    const double x = kLeft + static_cast<double>(l) * kCellWidth;
    for (size_t d = 0; d < map.depths.size(); ++d) {
      const double y = kTop + static_cast<double>(d) * kCellHeight, found = At(map, map.found, l, d);
      // Green where it is found, red where it is not, the background between the two.
      const double strength = std::fabs(2 * found - 1) * 0.75;
      out += fmt::format(
          "<rect class=\"{}\" x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\" style=\"fill-opacity:{:.2f};"
          "stroke:var(--rule)\"/>\n",
          found >= 0.5 ? "fx-f2" : "fx-f1", x, y, kCellWidth, kCellHeight, strength);
      out += fmt::format("<text class=\"fx-mid\" style=\"fill:var(--ink)\" x=\"{:.1f}\" y=\"{:.1f}\">{:.0f}</text>\n",
                         x + kCellWidth / 2, y + kCellHeight / 2 + 4, 100 * found);
    }
    out += text("fx-text fx-mid", x + kCellWidth / 2, bottom + 16, fmt::format("{}", map.lengths[l]));
  }
  for (size_t d = 0; d < map.depths.size(); ++d) {
    out += text("fx-text fx-end", kLeft - 7, kTop + (static_cast<double>(d) + 0.5) * kCellHeight + 4,
                fmt::format("{:.0f} %", 100 * map.depths[d]));
  }
  out += text("fx-text fx-mid", kLeft + columns * kCellWidth / 2, bottom + 34, "tokens of context");
  out += fmt::format("<text class=\"fx-text fx-mid\" transform=\"translate(14 {:.1f}) rotate(-90)\">depth</text>\n",
                     (kTop + bottom) / 2);
  const auto beyond = std::find_if(map.lengths.begin(), map.lengths.end(), [&](int64_t n) { return n > trained; });
  if (trained > 0 && beyond != map.lengths.end()) {
    const double x = kLeft + static_cast<double>(beyond - map.lengths.begin()) * kCellWidth;
    out += fmt::format(
        "<line class=\"fx-axis\" style=\"stroke-width:2\" x1=\"{0:.1f}\" y1=\"{1:.1f}\" x2=\"{0:.1f}\" "
        "y2=\"{2:.1f}\"/>\n",
        x, kTop - 4, bottom + 4);
  }
  return out + "</svg>\n";
}

std::string NeedlePng(const NeedleMap& map) {
  constexpr int64_t kCell = 24;
  constexpr int kSteps = 100;
  std::vector<report::Rgba> palette;
  for (int i = 0; i <= kSteps; ++i) {  // red over white to green
    const double t = 2.0 * i / kSteps - 1;
    const auto blend = [&](double to) { return static_cast<uint8_t>(255 + (to - 255) * std::fabs(t) * 0.85); };
    palette.push_back({blend(t < 0 ? 194 : 21), blend(t < 0 ? 65 : 128), blend(t < 0 ? 12 : 61), 255});
  }
  const auto columns = static_cast<int64_t>(map.lengths.size()), rows = static_cast<int64_t>(map.depths.size());
  std::vector<uint8_t> pixels;
  for (int64_t y = 0; y < rows * kCell; ++y) {
    for (int64_t x = 0; x < columns * kCell; ++x) {
      const double found = At(map, map.found, static_cast<size_t>(x / kCell), static_cast<size_t>(y / kCell));
      pixels.push_back(static_cast<uint8_t>(std::lround(std::clamp(found, 0.0, 1.0) * kSteps)));
    }
  }
  return report::EncodePng(pixels, columns * kCell, rows * kCell, palette);
}

std::string NeedleJson(const NeedleMap& map) {
  nlohmann::json cells = nlohmann::json::array();
  for (size_t l = 0; l < map.lengths.size(); ++l) {
    for (size_t d = 0; d < map.depths.size(); ++d) {
      cells.push_back({{"length", map.lengths[l]},
                       {"depth", map.depths[d]},
                       {"found", At(map, map.found, l, d)},
                       {"nll", At(map, map.nll, l, d)}});
    }
  }
  nlohmann::json lengths = nlohmann::json::array();
  for (size_t l = 0; l < map.lengths.size(); ++l)
    lengths.push_back({{"length", map.lengths[l]}, {"found", map.FoundAt(static_cast<int64_t>(l))}});
  return nlohmann::json{{"samples", map.samples}, {"lengths", lengths}, {"cells", cells}}.dump(1) + "\n";
}

}  // namespace fathom::eval
