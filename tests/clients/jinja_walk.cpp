// Templates through the interpreter, for a comparison with Jinja2: reads {"template", "variables"} a line, writes
// {"output"} or {"error"} for each. The time is that of tools/make_jinja_vectors.py.
#include <iostream>
#include <nlohmann/json.hpp>
#include <string>

#include "jinja/template.h"

int main() {
  using Json = nlohmann::ordered_json;
  std::tm t{};
  t.tm_year = 125, t.tm_mon = 2, t.tm_mday = 9, t.tm_hour = 14, t.tm_min = 5, t.tm_sec = 7, t.tm_isdst = -1;
  const std::time_t now = std::mktime(&t);
  for (std::string line; std::getline(std::cin, line);) {
    const Json row = Json::parse(line);
    const auto read = fathom::jinja::Template::Parse(row.at("template").get<std::string>());
    Json answer;
    if (!read.ok()) {
      answer["error"] = read.error().summary();
    } else {
      const auto rendered = read.Value().Render(row.at("variables"), now);
      answer[rendered.ok() ? "output" : "error"] = rendered.ok() ? rendered.Value() : rendered.error().summary();
    }
    std::cout << answer.dump() << "\n";
  }
  return 0;
}
