// Saving under what a machine does to it: killed at any moment, full disks, folders that cannot be written.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include <chrono>
#include <csignal>
#include <thread>

#include "train/run_state_test.h"

namespace fathom::train {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr StorePolicy kPolicy = {.ema = true};

model::ModelConfig FewTensors() {
  model::ModelConfig c = checkpoint::TinyConfig();
  c.num_nextn_predict_layers = 0;
  c.n_routed_experts = 2;
  c.num_experts_per_tok = 1;
  c.n_group = c.topk_group = 1;
  return c;
}

class RunStateCrashTest : public RunFolderTest {
 protected:
  RunState StateOf(int64_t step) {
    RunState s;
    s.step = s.tokens = step;
    s.data_cursor = std::to_string(step);
    return s;
  }
  // Makes and saves the state of a step into `folder`.
  void Save(const std::string& folder, int64_t step, int64_t keep) {
    ThreadPool pool(1);
    ParamStore store(config_, kPolicy);
    FillStep(store, step);
    SaveRunState(folder, store, StateOf(step), keep, pool);
  }
  // The newest step in `folder`, 0 if there is none; a complaint if what was loaded is not that step's alone.
  int64_t Load(const std::string& folder, std::string* complaint) {
    ThreadPool pool(1);
    Context ctx = TestContext(pool);
    ParamStore store(config_, kPolicy), expected(config_, kPolicy);
    const std::optional<LoadedState> loaded = LoadNewestRunState(folder, config_, store, ctx);
    if (!loaded) return 0;
    FillStep(expected, loaded->state.step);
    *complaint += FirstDifference(store, expected);
    if (!(loaded->state == StateOf(loaded->state.step))) *complaint += "another state";
    for (const std::string& w : loaded->warnings) *complaint += w;
    return loaded->state.step;
  }
  // Names in the folder of checkpoints that are not a step's.
  static std::string Leftovers(const std::string& folder) {
    std::string out;
    std::error_code error;
    for (const auto& e : fs::directory_iterator(folder + "/checkpoints", error)) {
      if (e.path().filename().string().find("tmp") != std::string::npos) out += e.path().filename().string() + " ";
    }
    return out;
  }

  const model::ModelConfig config_ = FewTensors();
};

TEST_F(RunStateCrashTest, KilledAtAnyMoment) {
  Rng rng(11);
  int64_t newest = 0;
  for (int round = 0; round < 12; ++round) {
    int ends[2];
    ASSERT_EQ(::pipe(ends), 0);
    const int64_t keep = 1 + round % 2;
    const pid_t child = ::fork();
    if (child == 0) {
      ThreadPool pool(2);
      ParamStore store(config_, kPolicy);
      for (int64_t step = newest + 1;; ++step) {
        FillStep(store, step);
        SaveRunState(Path(), store, StateOf(step), keep, pool);
        if (::write(ends[1], &step, sizeof step) != sizeof step) ::_exit(1);
      }
    }
    ::close(ends[1]);
    int64_t done = newest;
    // One round in four it dies in its first save.
    if (round % 4 != 0) {
      ASSERT_EQ(::read(ends[0], &done, sizeof done), ssize_t{sizeof done});
    }
    ASSERT_EQ(::read(ends[0], &done, sizeof done), ssize_t{sizeof done});  // else: in its first save
    std::this_thread::sleep_for(std::chrono::microseconds(rng.NextBelow(10'000)));
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
    while (::read(ends[0], &done, sizeof done) == sizeof done) {
    }
    ::close(ends[0]);
    std::string complaint;
    newest = Load(Path(), &complaint);
    EXPECT_EQ(complaint, "") << "round " << round;
    EXPECT_GE(newest, done) << "round " << round;  // what had been saved is not lost
    EXPECT_LE(newest, done + 1);
    EXPECT_EQ(Leftovers(Path()), "");
  }
  EXPECT_GE(newest, 9);
}

// System calls after which another state of the folder is on the disk.
bool ChangesTheFolder(uint64_t call) {
  switch (call) {
#ifdef SYS_rename  // where the C library has no use for the newer forms
    case SYS_rename:
    case SYS_unlink:
    case SYS_rmdir:
    case SYS_mkdir:
#endif
#ifdef SYS_renameat
    case SYS_renameat:
#endif
    case SYS_renameat2:
    case SYS_unlinkat:
    case SYS_mkdirat:
    case SYS_fsync:
    case SYS_ftruncate:
    case SYS_fallocate:
      return true;
    default:
      return false;
  }
}

// Runs f in a child and kills it where it is about to make its `calls`-th such call, every 32nd write of data counting
// as one. Returns the number of calls made, fewer than `calls` if f ended before. -1: tracing is refused.
template <class F>
int64_t KilledAtCall(int64_t calls, const F& f) {
  const pid_t child = ::fork();
  if (child == 0) {
    if (::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) != 0) ::_exit(9);
    ::raise(SIGSTOP);
    f();
    ::_exit(0);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  if (!WIFSTOPPED(status)) return -1;
  ::ptrace(PTRACE_SETOPTIONS, child, nullptr, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL);
  for (int64_t n = 0, writes = 0;;) {
    ::ptrace(PTRACE_SYSCALL, child, nullptr, nullptr);
    ::waitpid(child, &status, 0);
    if (!WIFSTOPPED(status)) return n;
    __ptrace_syscall_info info{};
    ::ptrace(PTRACE_GET_SYSCALL_INFO, child, sizeof info, &info);
    if (info.op != PTRACE_SYSCALL_INFO_ENTRY) continue;
    const bool data = info.entry.nr == SYS_pwrite64 && ++writes % 32 == 0;
    if (!data && !ChangesTheFolder(info.entry.nr)) continue;
    if (++n < calls) continue;
    ::kill(child, SIGKILL);
    ::waitpid(child, &status, 0);
    return n;
  }
}

TEST_F(RunStateCrashTest, KilledBeforeEachChangeOfTheFolder) {
  for (const int64_t step : {2, 1}) {  // a new one with the old one removed, and one that takes its own place
    const auto save = [&] { Save(Path(), step, 1); };
    Save(Path(), 1, 1);
    const int64_t all = KilledAtCall(1 << 20, save);
    if (all <= 0) GTEST_SKIP() << "this process may not trace its children";
    ASSERT_GT(all, 25);
    int64_t expected = 1, half_done = 0;
    for (int64_t call = 1; call <= all; ++call) {
      Save(Path(), 1, 1);
      ASSERT_EQ(KilledAtCall(call, save), call);
      half_done += !Leftovers(Path()).empty();
      std::string complaint;
      const int64_t newest = Load(Path(), &complaint);
      ASSERT_EQ(complaint, "") << call << " of " << all;
      ASSERT_TRUE(newest == step || newest == expected) << newest << " before call " << call << " of " << all;
      expected = newest;  // what is saved once is not lost by what follows
      ASSERT_EQ(Leftovers(Path()), "");
    }
    EXPECT_EQ(expected, step);
    EXPECT_GT(half_done, 15);
  }
}

// A limit of file size makes the writes of large files fail in their middle.
TEST_F(RunStateCrashTest, AFailedWriteLosesNothing) {
  Save(Path(), 1, 1);
  std::signal(SIGXFSZ, SIG_IGN);
  rlimit before{};
  getrlimit(RLIMIT_FSIZE, &before);
  for (const rlim_t limit : {0, 100, 8000, 40'000}) {
    rlimit small = before;
    small.rlim_cur = limit;
    setrlimit(RLIMIT_FSIZE, &small);
    const std::string message = checkpoint::ErrorOf([&] { Save(Path(), 2, 1); });
    setrlimit(RLIMIT_FSIZE, &before);
    EXPECT_THAT(message, AllOf(HasSubstr("the state of step 2 was not saved"), HasSubstr("step 1 is the last")));
    EXPECT_EQ(Leftovers(Path()), "");
    std::string complaint;
    EXPECT_EQ(Load(Path(), &complaint), 1);
    EXPECT_EQ(complaint, "");
  }
}

void WriteText(const char* path, const std::string& text) { std::ofstream(path) << text; }

// Mounts a small disk of its own over `folder` for this process alone; what refused it, or nothing.
std::string MountDisk(const std::string& folder, int64_t bytes) {
  const std::string uid = std::to_string(::getuid()), gid = std::to_string(::getgid());
  if (::unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) return std::string("unshare: ") + std::strerror(errno);
  WriteText("/proc/self/setgroups", "deny");
  WriteText("/proc/self/uid_map", "0 " + uid + " 1");
  WriteText("/proc/self/gid_map", "0 " + gid + " 1");
  const std::string options = "size=" + std::to_string(bytes);
  if (::mount("disk", folder.c_str(), "tmpfs", 0, options.c_str()) != 0)
    return std::string("mount: ") + std::strerror(errno);
  return "";
}

constexpr char kRefused[] = "refused: ";

TEST_F(RunStateCrashTest, AFullDiskLosesNothing) {
  const int64_t one = RunStateBytes(ParamStore(config_, kPolicy));
  std::string seen;
  // From too small for one checkpoint to room for two, page by page where the last files of one do not fit.
  std::vector<int64_t> sizes = {one / 2, one * 3 / 2, one * 5 / 2, one * 3};
  for (int64_t page = 0; page < 12; ++page) sizes.push_back(one + page * 4096);
  for (int64_t size : sizes) {
    const std::string text = InChild([&]() -> std::string {
      const std::string refused = MountDisk(Path(), size);
      if (!refused.empty()) return kRefused + refused;
      int64_t saved = 0;
      std::string message, complaint;
      while (saved < 5 && message.empty()) {
        try {
          Save(Path(), saved + 1, 10);
          ++saved;
        } catch (const Error& e) {
          message = e.what();
          if (e.hint().empty() || e.expected().empty()) complaint += "no hint or nothing expected; ";
        }
      }
      if (message.find(fmt::format("the state of step {} was not saved", saved + 1)) == std::string::npos)
        complaint += "said: " + message;
      if (Load(Path(), &complaint) != saved) complaint += "another step";
      complaint += Leftovers(Path());
      return complaint.empty() ? fmt::format("ok {}: {}", saved, message) : complaint;
    });
    if (text.rfind(kRefused, 0) == 0) GTEST_SKIP() << "this process may not mount a disk: " << text;
    ASSERT_EQ(text.rfind("ok ", 0), 0u) << size << ": " << text;
    seen += text + "\n";
  }
  EXPECT_THAT(seen, AllOf(HasSubstr("not enough space"), HasSubstr("No space left on device"), HasSubstr("ok 0"),
                          HasSubstr("ok 1"), HasSubstr("ok 2")));
}

TEST_F(RunStateCrashTest, AReadOnlyDiskIsReadAndNotWritten) {
  const std::string text = InChild([&]() -> std::string {
    const std::string refused = MountDisk(Path(), 100 << 20);
    if (!refused.empty()) return kRefused + refused;
    Save(Path(), 1, 1);
    fs::create_directories(Path("checkpoints/step-00000002.tmp-5"));
    if (::mount("disk", Path().c_str(), "tmpfs", MS_REMOUNT | MS_RDONLY, nullptr) != 0)
      return std::string(kRefused) + "remount: " + std::strerror(errno);
    std::string complaint;
    if (Load(Path(), &complaint) != 1) complaint += "not step 1";
    return complaint + checkpoint::ErrorOf([&] { Save(Path(), 2, 1); });
  });
  if (text.rfind(kRefused, 0) == 0) GTEST_SKIP() << "this process may not mount a disk: " << text;
  EXPECT_THAT(text, AllOf(HasSubstr("the state of step 2 was not saved"), HasSubstr("the file system is read-only"),
                          HasSubstr("step 1 is the last")));
}

}  // namespace
}  // namespace fathom::train
