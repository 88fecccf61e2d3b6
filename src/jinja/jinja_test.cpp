// The interpreter against Jinja2, whose answers tools/make_jinja_vectors.py wrote down; limits; errors.
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "core/utf8.h"
#include "jinja/template.h"
#include "jinja/text.h"

namespace fathom::jinja {
namespace {

using Json = nlohmann::ordered_json;

Result<std::string> Rendered(const std::string& source, const Json& variables = Json::object(),
                             const Limits& limits = {}) {
  const Result<Template> parsed = Template::Parse(source);
  if (!parsed.ok()) return parsed.error();
  std::tm t{};
  t.tm_year = 125, t.tm_mon = 2, t.tm_mday = 9, t.tm_hour = 14, t.tm_min = 5, t.tm_sec = 7, t.tm_isdst = -1;
  return parsed.Value().Render(variables, std::mktime(&t), limits);
}

std::string ErrorOf(const std::string& source, const Json& variables = Json::object(), const Limits& limits = {}) {
  const Result<std::string> r = Rendered(source, variables, limits);
  return r.ok() ? "no error: " + r.Value().substr(0, 200) : r.error().summary();
}

TEST(Jinja, EveryConstructAsJinja2HasIt) {
  std::ifstream file(FATHOM_SOURCE_DIR "/tests/golden/jinja/constructs.jsonl");
  std::string line;
  ASSERT_TRUE(std::getline(file, line));
  const Json variables = Json::parse(line).at("variables");
  size_t rows = 0;
  while (std::getline(file, line)) {
    const Json row = Json::parse(line);
    const auto source = row.at("template").get<std::string>();
    const Result<std::string> got = Rendered(source, variables);
    ++rows;
    if (row.contains("error")) {
      EXPECT_FALSE(got.ok()) << source << "\n" << (got.ok() ? got.Value() : "");
    } else {
      ASSERT_TRUE(row.contains("output"));
      EXPECT_TRUE(got.ok()) << source << "\n" << (got.ok() ? "" : got.error().what());
      EXPECT_EQ(got.ok() ? got.Value() : "", row.at("output").get<std::string>()) << source;
    }
  }
  EXPECT_GT(rows, 300u);
}

TEST(Jinja, ErrorsNameTheLineAndWhat) {
  EXPECT_EQ(ErrorOf("a\n{% if x %}\n\n{{ y.z }}{% endif %}", {{"x", 1}}),
            "the chat template failed: line 4: 'y' is undefined");
  EXPECT_EQ(ErrorOf("\n\n{{ raise_exception('No ' ~ 1) }}"), "the chat template failed: line 3: No 1");
  EXPECT_EQ(ErrorOf("{{ x.y.z }}", {{"x", Json::object()}}),
            "the chat template failed: line 1: 'dict' has no attribute 'y'");
  EXPECT_EQ(ErrorOf("{{ 1 }}\n{{ x|nope }}"), "the chat template cannot be read: line 2: no filter named 'nope'");
  EXPECT_EQ(ErrorOf("{% for x in [1] %}\n{{ x }"), "the chat template cannot be read: line 2: '}' without '{'");
  EXPECT_NE(ErrorOf("{% include 'x' %}").find("'include' is not supported"), std::string::npos);
  EXPECT_NE(ErrorOf("{% for x in [1] %}").find("no endfor"), std::string::npos);
  EXPECT_NE(ErrorOf("\xff").find("UTF-8"), std::string::npos);
  EXPECT_NE(ErrorOf("{{ x }}", {{"x", "\xff"}}).find("UTF-8"), std::string::npos);
  // A macro's caller is named again behind the call.
  EXPECT_EQ(ErrorOf("{% macro m() %}\nx\n{% endmacro %}\n{{ m() ~ 1 + 1 }}"),
            "the chat template failed: line 4: + is not defined for str and int");
}

// Each of these would run for long, or fill the memory, or the stack.
TEST(Jinja, LimitsHold) {
  const Limits small{.steps = 1'000'000, .bytes = 8 << 20};
  const std::pair<const char*, const char*> cases[] = {
      {"{% set ns = namespace(x='ab') %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}", "bytes"},
      {"{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}", "bytes"},
      {"{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x }}",
       "large"},
      {"{% set ns = namespace(x=[1]) %}{% for i in range(9999) %}{% set ns.x = [ns.x] %}{% endfor %}", "deep"},
      {"{% set ns = namespace(x=[1]) %}{% for i in range(9999) %}{% set ns.x = [ns.x.copy] %}{% endfor %}", "deep"},
      {"{% set ns = namespace(l=1) %}{% for i in range(9999) %}{% for j in [ns.l] %}{% set ns.l = loop %}{% endfor "
       "%}{% endfor %}",
       "deep"},
      {"{{ 'a' * 1000000000000 }}", "too long"},
      {"{{ [1] * 1000000000000 }}", "too long"},
      {"{{ 'x'.center(1000000000000) }}", "steps"},
      {"{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "deep"},
      {"{{ 'x'|indent(1000000000000) }}", "steps"},
      {"{{ ('a' * 5000000).replace('', 'abcdefgh') }}", "bytes"},
      {"{% for i in range(9999) %}{{ 'a' * 10000 }}{% endfor %}", "bytes"},
      {"{% set big = 'a' * 300000 %}{% for i in range(9999) %}{{ 'b' in big }}{% endfor %}", "steps"},
      {"{{ range(1000000)|list }}", "range"},
      {"{% set ns = namespace() %}{% for i in range(99999) %}{% set ns.a = namespace(b=ns) %}{% endfor %}", "bytes"},
      {"{{ 9223372036854775807 + 1 }}", "too large"},
      {"{{ 2 ** 64 }}", "too large"},
      {"{{ -9223372036854775807 - 2 }}", "too large"},
      {"{{ (-9223372036854775807 - 1) // -1 }}", "too large"},
      {"{{ 99999999999999999999 }}", "too large"},
  };
  for (const auto& [source, what] : cases) {
    EXPECT_NE(ErrorOf(source, Json::object(), small).find(what), std::string::npos)
        << source << "\n"
        << ErrorOf(source, Json::object(), small);
  }
  std::string sum = "a";
  for (int i = 0; i < 200; ++i) sum += "+a";
  EXPECT_NE(ErrorOf("{% for a in range(9000) %}{{ " + sum + " }}{% endfor %}", Json::object(), small).find("steps"),
            std::string::npos);
  const std::string deep(5000, '('), not_many(5000, '-');
  for (const std::string& source :
       {"{{ " + deep + "1", "{{ " + not_many + "1 }}", "{{ x" + std::string(5000, '.') + " }}",
        "{{ " + std::string(3000, '[') + std::string(3000, ']') + " }}"}) {
    EXPECT_NE(ErrorOf(source).find("cannot be read"), std::string::npos);
  }
  std::string attributes = "{{ x", ifs, nots = "{{ ";
  for (int i = 0; i < 5000; ++i) attributes += ".a", ifs += "{% if x %}", nots += "not ";
  for (const std::string& source : {attributes + " }}", ifs, nots + "x }}"})
    EXPECT_NE(ErrorOf(source).find("deeply"), std::string::npos);
}

TEST(Jinja, ANamespaceThatHoldsItselfIsFreed) {  // LeakSanitizer looks
  EXPECT_EQ(Rendered("{% set ns = namespace() %}{% set ns.x = ns %}{% set ns.y = [ns] %}{{ ns }}{% macro m() %}{% "
                     "endmacro %}{% set ns.m = m %}")
                .Value(),
            "<Namespace>");
}

TEST(Jinja, ManyMayRenderOneTemplate) {
  const Template t = Template::Parse("{% for x in xs %}{{ x }}{% endfor %}").Value();
  EXPECT_EQ(t.Render({{"xs", {1, 2}}}).Value(), "12");
  EXPECT_EQ(t.Render({{"xs", {3}}}).Value(), "3");
  EXPECT_EQ(t.Render(Json::object()).Value(), "");
}

TEST(JinjaText, Utf8) {
  EXPECT_TRUE(IsUtf8("aé中😀"));
  for (const char* bad : {"\xc0\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xe2\x82", "\x80", "\xf8"})
    EXPECT_FALSE(IsUtf8(bad));
  EXPECT_EQ(CountChars("aé中😀"), 4u);
}

}  // namespace
}  // namespace fathom::jinja
