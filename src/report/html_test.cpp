#include "report/html.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "report/markup_test.h"

namespace fathom::report {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

Report Example() {
  LineChart chart;
  chart.title = "Curve";
  Series s;
  s.x = {1, 2, 3};
  s.y = {3, 2, 1};
  chart.series = {s};
  Report report;
  report.title = "A <run>";
  report.facts = {{"Steps", "10"}, {"Model", "a & b"}};
  Section charts, empty, rest;
  charts.title = "Charts";
  charts.charts = {chart, LineChart{}, HeatMap{}};
  empty.title = "Nothing measured";
  empty.note = "not shown";
  empty.charts = {LineChart{}};
  rest.title = "Rest";
  rest.tables = {{{"name", "value"}, {{"x", "-1.5"}, {"y", "good"}}}, {{"no rows"}, {}}};
  rest.texts = {{"A sample", "One <b>line</b>\nand another"}, {"Empty", ""}};
  report.sections = {charts, empty, rest};
  return report;
}

TEST(Html, IsWellFormedAndNeedsNothingElse) {
  const std::string html = Html(Example());
  ExpectWellFormed(html);
  EXPECT_THAT(html, HasSubstr("<h1>A &lt;run&gt;</h1>"));
  EXPECT_THAT(html, HasSubstr("<dd>a &amp; b</dd>"));
  for (const char* outside : {"http:", "https:", "<script", "<link", "src=", "url(", "@import"}) {
    EXPECT_THAT(html, Not(HasSubstr(outside)));
  }
}

TEST(Html, LeavesOutWhatIsEmpty) {
  const std::string html = Html(Example());
  EXPECT_THAT(html, Not(HasSubstr("Nothing measured")));
  EXPECT_THAT(html, Not(HasSubstr("not shown")));
  EXPECT_THAT(html, Not(HasSubstr("no rows")));
  EXPECT_THAT(html, Not(HasSubstr(">Empty<")));
  size_t figures = 0;
  for (size_t at = html.find("<figure>"); at != std::string::npos; at = html.find("<figure>", at + 1)) ++figures;
  EXPECT_EQ(figures, 1u);
  EXPECT_THAT(html, HasSubstr("<td class=\"n\">-1.5</td>"));
  EXPECT_THAT(html, HasSubstr("<td>good</td>"));
  EXPECT_THAT(html, HasSubstr("One &lt;b&gt;line&lt;/b&gt;\nand another"));
}

}  // namespace
}  // namespace fathom::report
