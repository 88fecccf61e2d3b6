// README.md does what it says: each ```sh block that follows a line `<!-- test -->` is run from the project's folder
// and must succeed. build/release/fathom stands for the program that was built with this test.
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <regex>

#include "source_tree.h"

namespace fathom::tests {
namespace {

std::vector<std::string> MarkedBlocks() {
  std::vector<std::string> blocks;
  bool marked = false, inside = false;
  for (const std::string& line : ReadLines(kSourceDir / "README.md")) {
    if (inside) {
      if (line == "```") {
        inside = false;
      } else {
        blocks.back() += line + "\n";
      }
    } else if (marked && line == "```sh") {
      blocks.emplace_back();
      inside = true;
    }
    marked = line == "<!-- test -->";
  }
  EXPECT_FALSE(inside) << "a block of README.md is not closed";
  return blocks;
}

struct Outcome {
  int exit_code;
  std::string output;
};

Outcome RunScript(const std::string& script) {
  char path[] = "/tmp/fathom-readme-XXXXXX";
  const int descriptor = mkstemp(path);
  EXPECT_GE(descriptor, 0);
  EXPECT_EQ(write(descriptor, script.data(), script.size()), static_cast<ssize_t>(script.size()));
  close(descriptor);
  FILE* pipe = popen((std::string("bash ") + path + " 2>&1 </dev/null").c_str(), "r");
  EXPECT_NE(pipe, nullptr);
  Outcome outcome{-1, ""};
  char buffer[4096];
  for (size_t got; (got = fread(buffer, 1, sizeof buffer, pipe)) > 0;) outcome.output.append(buffer, got);
  const int status = pclose(pipe);
  if (WIFEXITED(status)) outcome.exit_code = WEXITSTATUS(status);
  std::filesystem::remove(path);
  return outcome;
}

TEST(Readme, MarkedCommandsRun) {
  const auto blocks = MarkedBlocks();
  ASSERT_FALSE(blocks.empty()) << "README.md has no block marked <!-- test -->";
  for (const std::string& block : blocks) {
    const std::string commands = std::regex_replace(block, std::regex("build/release/fathom"), FATHOM_BINARY);
    const Outcome outcome = RunScript("set -eu -o pipefail\ncd '" + kSourceDir.string() + "'\n" + commands);
    EXPECT_EQ(outcome.exit_code, 0) << block << outcome.output;
    EXPECT_FALSE(outcome.output.empty()) << "says nothing:\n" << block;
  }
}

}  // namespace
}  // namespace fathom::tests
