#include "io/pending_directory.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

namespace fathom::io {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

class PendingDirectoryTest : public ::testing::Test {
 protected:
  PendingDirectoryTest() : folder_(fs::temp_directory_path() / ("fathom_pending_test_" + std::to_string(::getpid()))) {
    fs::remove_all(folder_);
    fs::create_directories(folder_);
  }
  ~PendingDirectoryTest() override { fs::remove_all(folder_); }
  std::string Path(const std::string& name) const { return (folder_ / name).string(); }
  static std::vector<std::string> Names(const fs::path& of) {
    std::vector<std::string> names;
    for (const auto& e : fs::directory_iterator(of)) names.push_back(e.path().filename().string());
    std::sort(names.begin(), names.end());
    return names;
  }
  fs::path folder_;
};

TEST_F(PendingDirectoryTest, AppearsWhole) {
  {
    PendingDirectory made(Path("deep/er/a/"));
    WriteFileAtomically(made.path() + "/x", "1");
    EXPECT_TRUE(IsTemporaryName(fs::path(made.path()).filename().string()));
    EXPECT_FALSE(fs::exists(Path("deep/er/a")));
    made.Commit();
  }
  EXPECT_THAT(Names(Path("deep/er")), ElementsAre("a"));
  EXPECT_THAT(Names(Path("deep/er/a")), ElementsAre("x"));
}

TEST_F(PendingDirectoryTest, WithoutCommitNothingStays) {
  { PendingDirectory made(Path("a")); }
  EXPECT_THAT(Names(folder_), IsEmpty());
}

TEST_F(PendingDirectoryTest, ReplacesAsAWhole) {
  fs::create_directories(Path("a"));
  WriteFileAtomically(Path("a/old"), "1");
  {
    PendingDirectory made(Path("a"));
    WriteFileAtomically(made.path() + "/new", "1");
    made.Commit();
  }
  EXPECT_THAT(Names(folder_), ElementsAre("a"));
  EXPECT_THAT(Names(Path("a")), ElementsAre("new"));
}

TEST_F(PendingDirectoryTest, AKilledOnesFilesAreNotTaken) {
  fs::create_directories(Path("a.tmp-" + std::to_string(::getpid())));
  WriteFileAtomically(Path("a.tmp-" + std::to_string(::getpid()) + "/stale"), "1");
  {
    PendingDirectory made(Path("a"));
    made.Commit();
  }
  EXPECT_THAT(Names(Path("a")), IsEmpty());
}

}  // namespace
}  // namespace fathom::io
