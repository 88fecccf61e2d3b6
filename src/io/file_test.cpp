#include "io/file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>

namespace fathom::io {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

class FileTest : public ::testing::Test {
 protected:
  FileTest() : folder_(fs::temp_directory_path() / ("fathom_file_test_" + std::to_string(::getpid()))) {
    fs::create_directories(folder_);
  }
  ~FileTest() override { fs::remove_all(folder_); }
  std::string Path(const std::string& name) const { return (folder_ / name).string(); }
  size_t Count() const { return static_cast<size_t>(std::distance(fs::directory_iterator(folder_), {})); }
  fs::path folder_;
};

std::string ErrorOf(const auto& f) {
  try {
    f();
  } catch (const Error& e) {
    return e.what();
  }
  return "no error";
}

TEST_F(FileTest, WritesAndMapsBack) {
  WriteFileAtomically(Path("a"), "hello");
  const MappedFile file = MappedFile::Open(Path("a")).Value();
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(file.data()), static_cast<size_t>(file.bytes())), "hello");
  EXPECT_EQ(file.Read(1, 3).Value(), "ell");
  EXPECT_EQ(ReadFile(Path("a"), 5).Value(), "hello");
  EXPECT_EQ(Count(), 1u);
}

// Kilobytes of a line of /proc/self/status.
int64_t StatusKilobytes(const std::string& name) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with(name + ":")) return std::stoll(line.substr(name.size() + 1));
  }
  return -1;
}

TEST_F(FileTest, LoadsInPiecesAndLocks) {
  const std::string content(70 << 20, 'x');  // more than a piece
  WriteFileAtomically(Path("a"), content);
  const MappedFile file = MappedFile::Open(Path("a")).Value();
  std::vector<int64_t> told;
  const int64_t before = StatusKilobytes("RssFile");
  file.Load(/*lock=*/false, [&](int64_t read) { told.push_back(read); });
  EXPECT_EQ(told, (std::vector<int64_t>{64 << 20, 70 << 20}));
  EXPECT_GE(StatusKilobytes("RssFile") - before, 70 << 10) << "not all of it is mapped";
  EXPECT_EQ(StatusKilobytes("VmLck"), 0);
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  return;  // these make mlock a function that does nothing
#endif
  rlimit limit{};
  ::getrlimit(RLIMIT_MEMLOCK, &limit);
  if (::geteuid() != 0 && limit.rlim_cur < content.size()) {
    EXPECT_THAT(ErrorOf([&] { file.Load(/*lock=*/true, {}); }), HasSubstr("ulimit -l"));
  } else {
    file.Load(/*lock=*/true, {});
    EXPECT_EQ(StatusKilobytes("VmLck"), 70 << 10);
  }
}

TEST_F(FileTest, LoadingWhatIsGoneIsAnErrorAndNoSignal) {
  WriteFileAtomically(Path("a"), std::string(1 << 20, 'x'));
  const MappedFile file = MappedFile::Open(Path("a")).Value();
  fs::resize_file(Path("a"), 1 << 12);
  EXPECT_THAT(ErrorOf([&] { file.Load(/*lock=*/false, {}); }), HasSubstr("cannot read"));
}

TEST_F(FileTest, AnEmptyFileHasNoBytes) {
  WriteFileAtomically(Path("empty"), "");
  EXPECT_EQ(MappedFile::Open(Path("empty")).Value().bytes(), 0);
}

TEST_F(FileTest, AMovedMappingStaysWhereItIs) {
  WriteFileAtomically(Path("a"), "hello");
  MappedFile file = MappedFile::Open(Path("a")).Value();
  const std::byte* data = file.data();
  const MappedFile moved = std::move(file);
  EXPECT_EQ(moved.data(), data);
}

TEST_F(FileTest, SaysWhatIsWrongWithAPath) {
  EXPECT_THAT(MappedFile::Open(Path("none")).error().what(), HasSubstr("none"));
  EXPECT_THAT(MappedFile::Open(Path("none")).error().what(), HasSubstr("No such file"));
  EXPECT_THAT(MappedFile::Open(folder_.string()).error().what(), HasSubstr("a directory"));
  EXPECT_THAT(ReadFile(Path("none"), 10).error().what(), HasSubstr("No such file"));
  WriteFileAtomically(Path("long"), "hello");
  EXPECT_THAT(ReadFile(Path("long"), 4).error().what(), HasSubstr("at most 4 bytes"));
  EXPECT_THAT(ErrorOf([&] { WriteFileAtomically(Path("no/folder/a"), "x"); }), HasSubstr("cannot write"));
}

TEST_F(FileTest, WithoutCommitTheOldFileStays) {
  WriteFileAtomically(Path("a"), "old");
  {
    AtomicFile file(Path("a"));
    file.Write("new");
  }
  EXPECT_EQ(ReadFile(Path("a"), 100).Value(), "old");
  EXPECT_EQ(Count(), 1u);
}

TEST_F(FileTest, WritesOutOfOrder) {
  AtomicFile file(Path("a"));
  file.Reserve(100);
  file.WriteAt(3, "def", 3);
  file.WriteAt(0, "abc", 3);
  file.Commit();
  EXPECT_EQ(ReadFile(Path("a"), 100).Value(), "abcdef");
}

// A limit of file size stands for the full disk: the write fails in the middle.
TEST_F(FileTest, AFailedWriteLeavesTheOldFileAndNoOther) {
  WriteFileAtomically(Path("a"), "old");
  std::signal(SIGXFSZ, SIG_IGN);
  rlimit before{};
  getrlimit(RLIMIT_FSIZE, &before);
  rlimit small = before;
  small.rlim_cur = 1000;
  setrlimit(RLIMIT_FSIZE, &small);
  const std::string large(5000, 'x');
  const std::string message = ErrorOf([&] { WriteFileAtomically(Path("a"), large); });
  setrlimit(RLIMIT_FSIZE, &before);
  EXPECT_THAT(message, HasSubstr("cannot write " + Path("a")));
  EXPECT_THAT(message, HasSubstr("File too large"));
  EXPECT_EQ(ReadFile(Path("a"), 100).Value(), "old");
  EXPECT_EQ(Count(), 1u);
}

TEST(FileErrorTest, AFullDiskSaysWhatIsFree) {
  EXPECT_THAT(FileError("cannot write x", "x", ENOSPC).what(), HasSubstr("are free there"));
}

TEST(HumanBytesTest, ThreeDigits) {
  EXPECT_EQ(HumanBytes(1), "1 byte");
  EXPECT_EQ(HumanBytes(999), "999 bytes");
  EXPECT_EQ(HumanBytes(1500000000), "1.50 GB");
  EXPECT_EQ(HumanBytes(999'999), "1.00 MB");
  EXPECT_EQ(HumanBytes(689'000'000'000), "689 GB");
}

}  // namespace
}  // namespace fathom::io
