// The layer order of cmake/layers.cmake, kept: every #include of src/ names a file of the project by its path from
// src/, of the folder itself or of a lower layer, and every folder is a CMake target that depends on lower layers only.
#include <gtest/gtest.h>

#include <map>
#include <regex>
#include <set>

#include "source_tree.h"

namespace fathom::tests {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMaxLines = 700;

// Folder -> its layer's number, from the list in cmake/layers.cmake.
std::map<std::string, int> ReadLayers() {
  const std::string text = ReadText(kSourceDir / "cmake/layers.cmake");
  const std::regex layer("\"L(\\d):([a-z ]+)\"");
  std::map<std::string, int> layers;
  for (std::sregex_iterator it(text.begin(), text.end(), layer), end; it != end; ++it) {
    std::istringstream folders((*it)[2].str());
    for (std::string folder; folders >> folder;) layers[folder] = std::stoi((*it)[1].str());
  }
  return layers;
}

std::vector<fs::path> SourceFiles() {
  const std::set<std::string> extensions = {".h", ".hpp", ".inc", ".cpp", ".cc"};
  std::vector<fs::path> files;
  for (const auto& entry : fs::recursive_directory_iterator(kSourceDir / "src")) {
    if (entry.is_regular_file() && extensions.count(entry.path().extension().string())) files.push_back(entry.path());
  }
  return files;
}

// "core" of "core/error.h".
std::string FirstPart(const fs::path& path) { return path.begin()->string(); }

TEST(Layering, TheListIsRead) {
  const auto layers = ReadLayers();
  EXPECT_EQ(layers.at("core"), 0);
  EXPECT_EQ(layers.at("kernels"), layers.at("tokenizer"));
  EXPECT_LT(layers.at("model"), layers.at("engine"));
  EXPECT_EQ(layers.at("cli"), 7);
}

TEST(Layering, IncludesPointDownwards) {
  const auto layers = ReadLayers();
  const std::regex include("^\\s*#\\s*include\\s*\"([^\"]+)\".*");
  // Highway includes a file again for each target: #define HWY_TARGET_INCLUDE "kernels/simd/x.cpp".
  const std::regex target_include("^\\s*#\\s*define\\s+HWY_TARGET_INCLUDE\\s*\"([^\"]+)\".*");
  size_t includes = 0;
  for (const fs::path& file : SourceFiles()) {
    const fs::path relative = fs::relative(file, kSourceDir / "src");
    const std::string own = FirstPart(relative);
    ASSERT_TRUE(layers.count(own)) << "src/" << own << " is not in cmake/layers.cmake";
    for (const std::string& line : ReadLines(file)) {
      std::smatch match;
      if (!std::regex_match(line, match, include) && !std::regex_match(line, match, target_include)) continue;
      ++includes;
      const std::string named = match[1].str();
      const std::string folder = FirstPart(named);
      if (folder == "hwy") continue;  // Highway's documents write "hwy/highway.h"
      EXPECT_TRUE(fs::exists(kSourceDir / "src" / named))
          << "src/" << relative.string() << " includes \"" << named << "\": write the path from src/";
      ASSERT_TRUE(layers.count(folder)) << "src/" << relative.string() << " includes \"" << named << '"';
      EXPECT_TRUE(folder == own || layers.at(folder) < layers.at(own))
          << "src/" << relative.string() << " (layer " << layers.at(own) << ") includes \"" << named << "\" (layer "
          << layers.at(folder) << ")";
    }
  }
  EXPECT_GT(includes, 50u);  // the expression above still finds them
}

TEST(Layering, EachFolderIsATargetOnLowerLayers) {
  const auto layers = ReadLayers();
  const std::regex comment("#[^\n]*"), call("fathom_folder\\(\\s*([a-z]+)([^)]*)\\)");
  const std::regex depends("\\bDEPENDS\\s+((?:[a-z]+\\s*)+)");
  size_t targets = 0;
  for (const auto& entry : fs::directory_iterator(kSourceDir / "src")) {
    if (!entry.is_directory() || fs::is_empty(entry)) continue;
    const std::string folder = entry.path().filename().string();
    ASSERT_TRUE(layers.count(folder)) << "src/" << folder << " is not in cmake/layers.cmake";
    ASSERT_TRUE(fs::exists(entry.path() / "CMakeLists.txt")) << "src/" << folder << " has no CMakeLists.txt";
    if (folder == "cli") continue;  // the program, not a library
    const std::string text = std::regex_replace(ReadText(entry.path() / "CMakeLists.txt"), comment, "");
    std::smatch match;
    ASSERT_TRUE(std::regex_search(text, match, call)) << "src/" << folder << " has no fathom_folder()";
    EXPECT_EQ(match[1].str(), folder);
    ++targets;
    const std::string arguments = match[2].str();
    if (!std::regex_search(arguments, match, depends)) continue;
    std::istringstream names(match[1].str());
    for (std::string name; names >> name;) {
      ASSERT_TRUE(layers.count(name)) << "src/" << folder << " depends on " << name;
      EXPECT_LT(layers.at(name), layers.at(folder)) << "src/" << folder << " depends on " << name;
    }
  }
  EXPECT_GE(targets, 5u);
}

TEST(Layering, FilesStayShort) {
  for (const fs::path& file : SourceFiles()) {
    EXPECT_LE(ReadLines(file).size(), kMaxLines) << fs::relative(file, kSourceDir).string() << ": split it";
  }
}

}  // namespace
}  // namespace fathom::tests
