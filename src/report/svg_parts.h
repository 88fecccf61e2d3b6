// Pieces that the charts of this folder are drawn with.
#pragma once

#include <string>

namespace fathom::report {

inline constexpr int kColors = 8;
inline constexpr double kWidth = 560, kWideWidth = 1140;
inline constexpr double kTop = 34, kBottom = 44, kLeft = 62, kRight = 16, kLegendLine = 18;
inline constexpr double kCharWidth = 6.6;  // of the 12-pixel text, a little more than its average

inline double Width(bool wide) { return wide ? kWideWidth : kWidth; }

std::string Pixel(double v);
std::string Text(const char* css, double x, double y, const std::string& text, const std::string& more = "");
std::string Line(const char* css, double x1, double y1, double x2, double y2);
// <svg> and the title.
std::string Open(const std::string& title, double width, double height);

}  // namespace fathom::report
