#include "server/page.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <zlib.h>

#include <filesystem>
#include <regex>
#include <set>
#include <string>

#include "server/page_data.h"

namespace fathom::server {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

std::string Text(const PageFile& file) {
  if (!file.gzip) return std::string(file.bytes);
  z_stream z{};
  EXPECT_EQ(inflateInit2(&z, 16 + MAX_WBITS), Z_OK);
  std::string text(4 << 20, '\0');
  z.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(file.bytes.data()));
  z.avail_in = static_cast<uInt>(file.bytes.size());
  z.next_out = reinterpret_cast<Bytef*>(text.data());
  z.avail_out = static_cast<uInt>(text.size());
  EXPECT_EQ(inflate(&z, Z_FINISH), Z_STREAM_END) << file.path;
  text.resize(z.total_out);
  inflateEnd(&z);
  return text;
}

TEST(Page, FilesAreFoundByTheirPath) {
  const PageFile* index = FindPageFile("/");
  ASSERT_NE(index, nullptr);
  EXPECT_EQ(index, FindPageFile("/index.html"));
  EXPECT_EQ(index->content_type, "text/html; charset=utf-8");
  EXPECT_THAT(Text(*index), StartsWith("<!doctype html>"));
  for (const char* path : {"", "index.html", "/nothing.js", "/../CMakeLists.txt", "//", "/lib/", "/index.html?x"}) {
    EXPECT_EQ(FindPageFile(path), nullptr) << path;
  }
}

TEST(Page, TagsTellFilesApart) {
  std::set<std::string_view> tags;
  for (const PageFile& file : PageFiles()) {
    EXPECT_THAT(std::string(file.etag), testing::MatchesRegex("\"[0-9a-f]{16}\"")) << file.path;
    EXPECT_TRUE(tags.insert(file.etag).second) << file.path;
    EXPECT_FALSE(Text(file).empty()) << file.path;
  }
}

// What a file of ours names in import, src, href or loadScript is there, and nothing is named by a whole address.
TEST(Page, WhatFilesNameIsThere) {
  const std::regex named("(?:from |src=|href=|href: |src: |loadScript\\()\"([^\"#{}$]+)\"");
  size_t names = 0;
  for (const PageFile& file : PageFiles()) {
    if (file.path.substr(0, 5) == "/lib/") continue;
    const std::string text = Text(file);
    for (std::sregex_iterator it(text.begin(), text.end(), named), end; it != end; ++it) {
      const std::string name = (std::filesystem::path("/") / (*it)[1].str()).lexically_normal().string();
      EXPECT_NE(FindPageFile(name), nullptr) << file.path << " names " << (*it)[1];
      ++names;
    }
  }
  EXPECT_GT(names, 30u);  // the expression still finds them
}

TEST(Page, FormulasHaveTheirFonts) {
  const std::string style = Text(*FindPageFile("/lib/katex.css"));
  const std::regex font("url\\((fonts/[A-Za-z0-9_-]+\\.woff2)\\)");
  size_t fonts = 0;
  for (std::sregex_iterator it(style.begin(), style.end(), font), end; it != end; ++it, ++fonts) {
    const PageFile* file = FindPageFile(fmt::format("/lib/{}", (*it)[1].str()));
    ASSERT_NE(file, nullptr) << (*it)[1];
    EXPECT_FALSE(file->gzip);
    EXPECT_THAT(std::string(file->bytes), StartsWith("wOF2"));
  }
  EXPECT_GT(fonts, 10u);
}

// No script in the page itself: the policy would refuse it.
TEST(Page, ObeysItsPolicy) {
  EXPECT_THAT(std::string(kPagePolicy), HasSubstr("default-src 'self'"));
  const std::string text = Text(*FindPageFile("/"));
  EXPECT_FALSE(std::regex_search(text, std::regex("<script(?![^>]*\\bsrc=)")));
  EXPECT_FALSE(std::regex_search(text, std::regex("\\son[a-z]+=", std::regex::icase)));
}

}  // namespace
}  // namespace fathom::server
