// A report as one HTML file that opens without a network: style and charts are inside, there are no scripts. Sections
// and charts without anything in them are left out.
#pragma once

#include <string>
#include <variant>
#include <vector>

#include "report/spans.h"
#include "report/svg.h"

namespace fathom::report {

struct Fact {
  std::string name, value;
};

struct Table {
  std::vector<std::string> header;
  std::vector<std::vector<std::string>> rows;  // each as long as the header; cells that are numbers stand right
};

struct TextBlock {
  std::string title, body;  // line breaks of the body are kept
};

struct Section {
  std::string title;
  std::string note;  // a sentence under the title
  std::vector<std::variant<LineChart, HeatMap, SpanChart>> charts;
  std::vector<Table> tables;
  std::vector<TextBlock> texts;
};

struct Report {
  std::string title, subtitle;
  std::vector<Fact> facts;
  std::vector<Section> sections;
};

std::string Html(const Report& report);

}  // namespace fathom::report
