// The documents cannot rot: the paths that they name exist, and the table of kernels in docs/kernels.md is what the
// registry says. (The commands of README.md are run by readme_test.cpp.)
#include <fmt/format.h>
#include <glob.h>
#include <gtest/gtest.h>

#include <array>
#include <cstdlib>
#include <map>
#include <regex>
#include <sstream>

#include "kernels/ops.h"
#include "source_tree.h"

namespace fathom::tests {
namespace {

namespace fs = std::filesystem;

std::vector<fs::path> Documents() {
  std::vector<fs::path> documents;
  for (const char* name : {"README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"}) documents.push_back(kSourceDir / name);
  for (const auto& entry : fs::directory_iterator(kSourceDir / "docs")) {
    if (entry.path().extension() == ".md") documents.push_back(entry.path());
  }
  return documents;
}

bool AnyMatches(const fs::path& pattern) {
  glob_t found{};
  const int code = glob(pattern.c_str(), GLOB_BRACE | GLOB_NOSORT, nullptr, &found);
  globfree(&found);
  return code == 0;
}

// The lines outside ``` fences, which hold programs' output and drawings.
std::string Prose(const fs::path& document) {
  std::string prose;
  bool fenced = false;
  for (const std::string& line : ReadLines(document)) {
    if (line.rfind("```", 0) == 0) {
      fenced = !fenced;
    } else if (!fenced) {
      prose += line + "\n";
    }
  }
  return prose;
}

// Whether a `quoted` word is a path of this project: it begins with a folder of the project or of src/. Headers outside
// (`hwy/highway.h`), URLs and what a build or a user makes (`build/...`) do not.
bool NamesAPath(const std::string& word, fs::path& pattern) {
  static const std::regex shape("[A-Za-z0-9_.-]+(/[A-Za-z0-9_.,*{}-]+)*/?");
  if (!std::regex_match(word, shape) || word.find('/') == std::string::npos) return false;
  const std::string first = fs::path(word).begin()->string();
  if (first == "build" || first == "." || first == "..") return false;
  if (fs::is_directory(kSourceDir / first)) {
    pattern = kSourceDir / word;
  } else if (fs::is_directory(kSourceDir / "src" / first)) {
    pattern = kSourceDir / "src" / word;
  } else {
    return false;
  }
  return true;
}

TEST(Docs, NamedPathsExist) {
  const std::regex quoted("`([^`\n]+)`");
  size_t paths = 0;
  for (const fs::path& document : Documents()) {
    const std::string prose = Prose(document);
    for (std::sregex_iterator it(prose.begin(), prose.end(), quoted), end; it != end; ++it) {
      fs::path pattern;
      if (!NamesAPath((*it)[1].str(), pattern)) continue;
      ++paths;
      EXPECT_TRUE(AnyMatches(pattern)) << document.filename().string() << " names " << (*it)[1].str();
    }
  }
  EXPECT_GT(paths, 10u);  // the expression above still finds them
}

TEST(Docs, LinksLeadSomewhere) {
  const std::regex link("\\]\\(([^)#\\s]+)(#[^)\\s]*)?\\)");
  for (const fs::path& document : Documents()) {
    const std::string prose = Prose(document);
    for (std::sregex_iterator it(prose.begin(), prose.end(), link), end; it != end; ++it) {
      const std::string target = (*it)[1].str();
      if (target.find("://") != std::string::npos || target.rfind("mailto:", 0) == 0) continue;
      EXPECT_TRUE(fs::exists(document.parent_path() / target)) << document.filename().string() << " links " << target;
    }
  }
}

// The table of docs/kernels.md: a row per op, a column per instruction set, the entries' names in the order in which
// they are tried. A program has the entries of its own architecture; what is compiled for SSE4 is compiled for NEON,
// which the same test holds a build for ARM to.
using Row = std::array<std::string, kIsaCount + 1>;  // the op, then the cells
std::vector<Row> KernelTable() {
  std::vector<Row> rows;
  std::map<std::string, size_t> at;
  for (const kernels::OpEntry& entry : kernels::ListOps()) {
    const auto [found, fresh] = at.emplace(entry.op, rows.size());
    if (fresh) rows.push_back({entry.op});
    std::string& cell = rows[found->second][1 + static_cast<size_t>(entry.isa)];
    cell += fmt::format("{}{}", cell.empty() ? "" : ", ", entry.name);
  }
#if defined(__x86_64__)
  const auto cell_of = [](Row& row, Isa isa) -> std::string& { return row[1 + static_cast<size_t>(isa)]; };
  for (Row& row : rows) cell_of(row, Isa::kNeon) = cell_of(row, Isa::kSse4).empty() ? "" : Name(Isa::kNeon);
#endif
  return rows;
}

#if defined(__x86_64__)
std::string Markdown(const std::vector<Row>& table) {
  std::string header = "| op |", rule = "|---|", rows;
  for (int isa = 0; isa < kIsaCount; ++isa) {
    header += fmt::format(" {} |", Name(static_cast<Isa>(isa)));
    rule += "---|";
  }
  for (const Row& row : table) {
    rows += "|";
    for (const std::string& cell : row) rows += cell.empty() ? " |" : fmt::format(" {} |", cell);
    rows += "\n";
  }
  return header + "\n" + rule + "\n" + rows;
}
#endif

TEST(Docs, KernelTableIsTheRegistry) {
  const fs::path path = kSourceDir / "docs/kernels.md";
  const std::string begin = "<!-- table: generated -->\n", end = "<!-- end of table -->\n";
  const std::string text = ReadText(path);
  const size_t from = text.find(begin), to = text.find(end);
  ASSERT_TRUE(from != std::string::npos && to != std::string::npos && from < to) << path;
  const size_t inside = from + begin.size();
  const std::string shown = text.substr(inside, to - inside);
  std::vector<Row> table = KernelTable();
#if defined(__x86_64__)
  const std::string expected = Markdown(table);
  if (std::getenv("FATHOM_UPDATE_DOCS")) {
    std::ofstream(path, std::ios::binary) << text.substr(0, inside) << expected << text.substr(to);
    return;
  }
  EXPECT_EQ(shown, expected) << "write it anew: FATHOM_UPDATE_DOCS=1 ctest --preset release -R KernelTable";
#else  // the columns that this build has
  std::istringstream lines(shown);
  std::string line;
  for (int i = 0; i < 2; ++i) std::getline(lines, line);
  const auto cell = [&line](size_t n) {
    size_t at = 0;
    for (size_t i = 0; i < n; ++i) at = line.find('|', at + 1);
    const std::string padded = line.substr(at + 1, line.find('|', at + 1) - at - 1);
    return padded.size() < 2 ? "" : padded.substr(1, padded.size() - 2);
  };
  for (const Row& row : table) {
    ASSERT_TRUE(std::getline(lines, line)) << row[0];
    for (const size_t column :
         {size_t{0}, 1 + static_cast<size_t>(Isa::kReference), 1 + static_cast<size_t>(Isa::kNeon)}) {
      EXPECT_EQ(cell(column), row[column]) << row[0];
    }
  }
  EXPECT_FALSE(std::getline(lines, line)) << line;
#endif
}

}  // namespace
}  // namespace fathom::tests
