#include "report/spans.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "report/markup_test.h"
#include "report/svg.h"

namespace fathom::report {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

SpanChart Chart() {
  SpanChart chart;
  chart.title = "Two <devices>";
  chart.x_label = "time";
  chart.rows = {"0", "1"};
  chart.kinds = {{"forward", 0, false}, {"backward", 1, true}};
  chart.spans = {{0, 0, 50, 0, "7"},
                 {1, 50, 100, 1,
                  "a label that finds no room in its box, however wide the page may be: it is too "
                  "long by far, as whoever counts its letters will see, and it goes on and on"}};
  return chart;
}

TEST(Spans, BoxesLabelsAndLegend) {
  const std::string svg = Svg(Chart());
  ExpectWellFormed(svg);
  EXPECT_THAT(svg, HasSubstr("Two &lt;devices&gt;"));
  EXPECT_THAT(svg, HasSubstr(">forward</text>"));
  EXPECT_THAT(svg, HasSubstr("fx-f1 fx-half"));
  EXPECT_THAT(svg, HasSubstr(">7</text>"));
  EXPECT_THAT(svg, Not(HasSubstr("a label that finds")));
  EXPECT_THAT(svg, Not(HasSubstr("fx-fault")));
  ExpectWellFormed(Standalone(svg));
}

TEST(Spans, ALimitStretchesTheAxis) {
  SpanChart chart = Chart();
  chart.limit = 400;
  chart.limit_name = "memory";
  const std::string svg = Svg(chart);
  EXPECT_THAT(svg, HasSubstr("fx-mark fx-fault"));
  EXPECT_THAT(svg, HasSubstr(">400</text>"));
  EXPECT_THAT(svg, HasSubstr(">memory</text>"));
}

TEST(Spans, NothingIsEmpty) {
  SpanChart chart = Chart();
  chart.spans.clear();
  EXPECT_EQ(Svg(chart), "");
}

}  // namespace
}  // namespace fathom::report
