// A check of XML and of the HTML that html.cpp writes: tags closed in order, attributes quoted, nothing loose.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <string_view>
#include <vector>

namespace fathom::report {

// The attributes and the slash behind a tag's name: ` name="value" other="value"` or nothing.
inline bool AttributesAreQuoted(std::string_view text) {
  while (!text.empty() && text.back() == '/') text.remove_suffix(1);
  while (!text.empty()) {
    if (text[0] != ' ') return false;
    const size_t equals = text.find("=\"");
    if (equals == std::string_view::npos) return false;
    for (char c : text.substr(1, equals - 1)) {
      if (!(c >= 'a' && c <= 'z') && !(c >= 'A' && c <= 'Z') && !(c >= '0' && c <= '9') && c != '-') return false;
    }
    const size_t end = text.find('"', equals + 2);
    if (end == std::string_view::npos) return false;
    text.remove_prefix(end + 1);
  }
  return true;
}

inline void ExpectWellFormed(const std::string& text) {
  std::vector<std::string> open;
  size_t tags = 0;
  for (size_t at = text.find('<'); at != std::string::npos; at = text.find('<', at + 1), ++tags) {
    const size_t end = text.find('>', at);
    ASSERT_NE(end, std::string::npos);
    const std::string tag = text.substr(at + 1, end - at - 1);
    ASSERT_EQ(tag.find('<'), std::string::npos) << tag.substr(0, 200);
    if (tag[0] == '!') continue;
    if (tag[0] == '/') {
      ASSERT_FALSE(open.empty()) << tag;
      EXPECT_EQ(open.back(), tag.substr(1));
      open.pop_back();
      continue;
    }
    const std::string name = tag.substr(0, tag.find_first_of(" /"));
    EXPECT_TRUE(AttributesAreQuoted(std::string_view(tag).substr(name.size()))) << tag.substr(0, 200);
    if (tag.back() != '/' && name != "meta") open.push_back(name);
  }
  EXPECT_TRUE(open.empty()) << open.back();
  EXPECT_GT(tags, 2u);
  for (size_t at = text.find('&'); at != std::string::npos; at = text.find('&', at + 1)) {
    const std::string entity = text.substr(at, text.find(';', at) - at + 1);
    EXPECT_TRUE(entity == "&amp;" || entity == "&lt;" || entity == "&gt;" || entity == "&quot;")
        << entity.substr(0, 20);
  }
  for (const char* number : {"\"nan", "\"-nan", "\"inf", "\"-inf", "Mnan", "Lnan", " nan"}) {
    EXPECT_EQ(text.find(number), std::string::npos) << number;
  }
}

}  // namespace fathom::report
