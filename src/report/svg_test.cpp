#include "report/svg.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <zlib.h>

#include <cmath>

#include "report/markup_test.h"
#include "report/png.h"

namespace fathom::report {
namespace {

using ::testing::DoubleNear;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::Pointwise;

LineChart Chart(std::vector<double> x, std::vector<double> y) {
  LineChart chart;
  chart.title = "A <title> & \"more\"";
  chart.x_label = "step";
  Series s;
  s.name = "loss";
  s.x = std::move(x);
  s.y = std::move(y);
  chart.series = {s};
  return chart;
}

size_t Count(const std::string& text, const std::string& part) {
  size_t count = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++count;
  return count;
}

TEST(Svg, Ticks) {
  EXPECT_THAT(LinearTicks(0, 10, 5), ElementsAre(0, 2, 4, 6, 8, 10));
  EXPECT_THAT(LinearTicks(-0.13, 0.21, 4), Pointwise(DoubleNear(1e-12), {-0.1, 0.0, 0.1, 0.2}));
  EXPECT_THAT(LinearTicks(1, 2178, 7), ElementsAre(500, 1000, 1500, 2000));
  EXPECT_THAT(LogTicks(0.5, 30, 6), Pointwise(DoubleNear(1e-12), {0.5, 1.0, 2.0, 5.0, 10.0, 20.0}));
  EXPECT_THAT(LogTicks(1e-8, 1e3, 6), Pointwise(DoubleNear(1e-9), {1e-8, 1e-6, 1e-4, 1e-2, 1.0, 100.0}));
  EXPECT_THAT(LogTicks(4, 5, 5), Pointwise(DoubleNear(1e-12), {4.0, 4.2, 4.4, 4.6, 4.8, 5.0}));
}

TEST(Svg, TickLabelsAreShort) {
  EXPECT_THAT(TickLabels({0, 0.5, 1}), ElementsAre("0", "0.5", "1"));
  EXPECT_THAT(TickLabels({0, 5000, 10000}), ElementsAre("0", "5k", "10k"));
  EXPECT_THAT(TickLabels({500, 2000}), ElementsAre("500", "2000"));
  EXPECT_THAT(TickLabels({1.5e6, 1e10, 2.5e12}), ElementsAre("1.5M", "10G", "2.5T"));
  EXPECT_THAT(TickLabels({1e-4, 1.5e-4, -2e-7}), ElementsAre("1e-4", "1.5e-4", "-2e-7"));
  EXPECT_THAT(TickLabels({-0.1, 0.1 - 0.1, 0.1}), ElementsAre("-0.1", "0", "0.1"));
}

TEST(Svg, NothingToDrawIsEmpty) {
  EXPECT_EQ(Svg(LineChart{}), "");
  EXPECT_EQ(Svg(Chart({}, {})), "");
  EXPECT_EQ(Svg(Chart({1, 2}, {NAN, INFINITY})), "");
  LineChart log = Chart({1, 2}, {0, -1});
  log.log_y = true;
  EXPECT_EQ(Svg(log), "");
  HeatMap map;
  map.rows = 1;
  map.x = {1};
  map.values = {NAN};
  EXPECT_EQ(Svg(map), "");
}

TEST(Svg, LinesAreWhereTheValuesAre) {
  LineChart chart = Chart({0, 10}, {0, 1});
  chart.zero = true;
  const std::string svg = Svg(chart);
  ExpectWellFormed(svg);
  EXPECT_THAT(svg, HasSubstr("A &lt;title&gt; &amp; &quot;more&quot;"));
  // From the axes' corner (62, 256) to the right edge, 1 of a range of 1.05 high: 256 - 222 / 1.05.
  EXPECT_THAT(svg, HasSubstr("d=\"M62 256L544 44.6\""));
  EXPECT_THAT(svg, Not(HasSubstr(">loss<")));  // one series needs no legend
}

TEST(Svg, LogarithmicAxis) {
  LineChart chart = Chart({0, 1, 2, 3}, {1, 10, 0, 100});
  chart.log_y = true;
  const std::string svg = Svg(chart);
  ExpectWellFormed(svg);
  // Half-way in the logarithm between 1 and 100; the value that has no logarithm interrupts the line.
  EXPECT_THAT(svg, HasSubstr("L222.7 145M"));
  EXPECT_EQ(Count(svg, "<circle"), 1u);  // the value alone behind the gap
}

TEST(Svg, ValuesOfOneKindStillHaveARange) {
  for (double v : {0.0, 5.0, -3e-9, 1e12}) ExpectWellFormed(Svg(Chart({1, 2, 3}, {v, v, v})));
  ExpectWellFormed(Svg(Chart({7}, {1})));
  LineChart log = Chart({1, 2}, {4, 4});
  log.log_y = true;
  ExpectWellFormed(Svg(log));
}

// An acceptance that is 0 in every row so far; losses that differ by a rounding.
TEST(Svg, ZerosAndAlmostEqualValuesHaveARange) {
  LineChart zeros = Chart({1, 2}, {0, 0});
  zeros.zero = true;
  ExpectWellFormed(Svg(zeros));
  EXPECT_THAT(Svg(zeros), HasSubstr("<path"));
  for (bool log : {false, true}) {
    LineChart close = Chart({1, 2}, {8.3, std::nextafter(8.3, 9)});
    close.log_y = log;
    ExpectWellFormed(Svg(close));
    EXPECT_LT(Count(Svg(close), "fx-grid"), 12u);
  }
}

TEST(Svg, CountsHaveNoTicksBetween) {
  EXPECT_THAT(Svg(Chart({1, 2, 3}, {1, 2, 3})), Not(HasSubstr("fx-mid\" x=\"182.5\"")));
  EXPECT_EQ(Count(Svg(Chart({1, 2, 3}, {1, 2, 3})), "fx-tick"), 3u);
  EXPECT_GT(Count(Svg(Chart({1, 2.5, 3}, {1, 2, 3})), "fx-tick"), 3u);
}

TEST(Svg, LongSeriesStaySmallAndKeepTheirSpikes) {
  LineChart chart = Chart({}, {});
  for (int i = 0; i < 200'000; ++i) {
    chart.series[0].x.push_back(i);
    chart.series[0].y.push_back(i == 123'456 ? 50 : i % 2);
  }
  const std::string svg = Svg(chart);
  EXPECT_LT(svg.size(), 60'000u);
  EXPECT_THAT(svg, HasSubstr(" 44.1L"));  // 50 of [-2.5, 52.5], 222 pixels: 34 + 222 * 2.5 / 55
  // In the background its outliers do not stretch the axis.
  chart.series[0].faint = true;
  EXPECT_THAT(Svg(chart), Not(HasSubstr(">40<")));
}

TEST(Svg, LegendsMarksAndColours) {
  LineChart chart = Chart({0, 10}, {0, 1});
  chart.series.push_back(chart.series[0]);
  chart.series[1].name = "another & name";
  chart.marks = {{3, "skipped", true}, {4, "skipped", true}, {5, "resumed", false}, {99, "outside", false}};
  const std::string svg = Svg(chart);
  ExpectWellFormed(svg);
  EXPECT_EQ(Count(svg, ">skipped<"), 1u);
  EXPECT_EQ(Count(svg, "fx-mark fx-fault"), 3u);  // two lines, one entry
  EXPECT_EQ(Count(svg, ">resumed<"), 1u);
  EXPECT_THAT(svg, Not(HasSubstr("outside")));
  EXPECT_THAT(svg, HasSubstr("another &amp; name"));
  EXPECT_THAT(svg, HasSubstr("<path class=\"fx-line fx-c1\""));
}

TEST(Svg, HeatMaps) {
  HeatMap map;
  map.title = "Loads";
  map.rows = 2;
  map.x = {10, 20, 30};
  map.values = {1, 4, 0.25, NAN, 0, 100};
  const std::string svg = Svg(map);
  ExpectWellFormed(svg);
  EXPECT_EQ(Count(svg, "data:image/png;base64,"), 2u);  // the map and its scale
  map.low = map.middle;
  ExpectWellFormed(Svg(map));
  ExpectWellFormed(Standalone(svg));
  EXPECT_THAT(Standalone(svg), HasSubstr("xmlns=\"http://www.w3.org/2000/svg\""));
}

TEST(Png, ChunksAndPixels) {
  const std::vector<uint8_t> pixels = {0, 1, 2, 2, 1, 0};
  const std::string png = EncodePng(pixels, 3, 2, {{255, 0, 0, 255}, {0, 255, 0, 128}, {0, 0, 255, 0}});
  ASSERT_EQ(png.substr(0, 8), "\x89PNG\r\n\x1A\n");
  const auto number = [&](size_t at) {
    uint32_t v = 0;
    for (size_t i = 0; i < 4; ++i) v = v << 8 | static_cast<uint8_t>(png[at + i]);
    return v;
  };
  std::string types, data;
  for (size_t at = 8; at < png.size();) {
    const uint32_t length = number(at);
    const std::string type = png.substr(at + 4, 4), body = png.substr(at + 8, length);
    const std::string checked = type + body;
    EXPECT_EQ(number(at + 8 + length),
              crc32(0, reinterpret_cast<const Bytef*>(checked.data()), static_cast<uInt>(checked.size())));
    types += type;
    if (type == "IHDR") {
      EXPECT_EQ(number(at + 8), 3u);
      EXPECT_EQ(number(at + 12), 2u);
    }
    if (type == "tRNS") {
      EXPECT_EQ(body, std::string("\xFF\x80\x00", 3));
    }
    if (type == "IDAT") data = body;
    at += length + 12;
  }
  EXPECT_EQ(types, "IHDRPLTEtRNSIDATIEND");
  std::string rows(8, '?');
  uLongf bytes = rows.size();
  ASSERT_EQ(uncompress(reinterpret_cast<Bytef*>(rows.data()), &bytes, reinterpret_cast<const Bytef*>(data.data()),
                       static_cast<uLong>(data.size())),
            Z_OK);
  EXPECT_EQ(rows, std::string("\0\0\1\2\0\2\1\0", 8));
}

TEST(Png, Base64) {  // RFC 4648, 10
  EXPECT_EQ(DataUri("t", ""), "data:t;base64,");
  EXPECT_EQ(DataUri("t", "f"), "data:t;base64,Zg==");
  EXPECT_EQ(DataUri("t", "fo"), "data:t;base64,Zm8=");
  EXPECT_EQ(DataUri("t", "foobar"), "data:t;base64,Zm9vYmFy");
}

}  // namespace
}  // namespace fathom::report
