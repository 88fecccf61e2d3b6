// Test helpers: stores filled with known bits, and work in a child process.
#pragma once

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <string>

#include "checkpoint/test_folder.h"
#include "core/rng.h"
#include "train/run_state.h"
#include "train/run_state_arrays.h"

namespace fathom::train {

// A folder in memory where the machine has one: saving waits for the disk, and these tests save hundreds of times.
class RunFolderTest : public checkpoint::FolderTest {
 protected:
  RunFolderTest() {
    std::error_code error;
    const std::filesystem::path memory = "/dev/shm" / folder_.filename();
    std::filesystem::remove_all(memory, error);
    if (!std::filesystem::create_directory(memory, error)) return;
    std::filesystem::remove_all(folder_);
    folder_ = memory;
  }
};

inline Context TestContext(ThreadPool& pool) { return Context{pool, Isa::kReference, {}}; }

// Random bits, NaN among them.
inline void FillRandom(ParamStore& store, uint64_t seed) {
  uint64_t stream = 0;
  for (const StateArrays& a : ArraysOf(store)) {
    for (size_t i = 0; i < a.specs.size(); ++i) {
      Rng rng(seed, ++stream);
      auto* words = static_cast<uint16_t*>(a.data[i]);
      for (int64_t w = 0; w < a.specs[i].bytes() / 2; ++w) words[w] = static_cast<uint16_t>(rng.NextU32());
    }
  }
}

// Every 32 bits are the step's number.
inline void FillStep(ParamStore& store, int64_t step) {
  const auto word = static_cast<uint32_t>(step);
  for (const StateArrays& a : ArraysOf(store)) {
    for (size_t i = 0; i < a.specs.size(); ++i) {
      auto* words = static_cast<uint16_t*>(a.data[i]);
      for (int64_t at = 0; at < a.specs[i].bytes() / 2; ++at)
        words[at] = static_cast<uint16_t>(word >> (16 * (at % 2)));
    }
  }
}

// The name of the first tensor whose bytes differ between two stores; empty: none.
inline std::string FirstDifference(const ParamStore& a, const ParamStore& b) {
  const std::vector<StateArrays> x = ArraysOf(a), y = ArraysOf(b);
  if (x.size() != y.size()) return "another number of arrays";
  for (size_t f = 0; f < x.size(); ++f) {
    for (size_t i = 0; i < x[f].specs.size(); ++i) {
      if (std::memcmp(x[f].data[i], y[f].data[i], static_cast<size_t>(x[f].specs[i].bytes())) != 0)
        return x[f].name + ": " + x[f].specs[i].name;
    }
  }
  return "";
}

// Runs f in a child process; what it returns (empty: nothing to complain of), or how the child ended.
template <class F>
std::string InChild(const F& f) {
  int ends[2];
  if (::pipe(ends) != 0) return "no pipe";
  const pid_t child = ::fork();
  if (child == 0) {
    std::string text;
    try {
      text = f();
    } catch (const std::exception& e) {
      text = std::string("thrown: ") + e.what();
    }
    const ssize_t written = ::write(ends[1], text.data(), text.size());
    ::_exit(written == static_cast<ssize_t>(text.size()) ? 0 : 1);
  }
  ::close(ends[1]);
  std::string text(1 << 14, '\0');
  size_t n = 0;
  for (ssize_t got = 1; got > 0 && n < text.size(); n += static_cast<size_t>(std::max<ssize_t>(got, 0)))
    got = ::read(ends[0], text.data() + n, text.size() - n);
  ::close(ends[0]);
  int status = 0;
  ::waitpid(child, &status, 0);
  text.resize(n);
  return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? text : text + " (the child died)";
}

}  // namespace fathom::train
