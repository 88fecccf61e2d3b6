// One JSON line for each request that was answered. Lines are written by a thread of its own, so that a full disk or a
// pipe that nobody reads delays no answer; what it cannot keep up with is dropped and counted.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <cstdio>
#include <deque>
#include <mutex>
#include <string>
#include <thread>

namespace fathom::server {

struct AccessEntry {
  double time = 0;  // Unix, of arrival
  std::string peer, method, path, id;
  std::string key;  // its name
  int status = 0;
  int64_t prompt_tokens = -1, cached_tokens = -1, completion_tokens = -1;  // of an answer; -1: it was none
  double first_token_seconds = -1, seconds = 0;
  std::string finish_reason;
};
std::string ToJsonLine(const AccessEntry& entry);

class AccessLog {
 public:
  // Appends to a file; empty: standard error. Throws Error.
  explicit AccessLog(const std::string& path);
  ~AccessLog();  // writes what waits
  AccessLog(const AccessLog&) = delete;
  AccessLog& operator=(const AccessLog&) = delete;

  void Add(const AccessEntry& entry);
  // Opens the file by its name again, for whoever rotates it; what was open goes on where that fails.
  void Reopen();

 private:
  void Run();

  const std::string path_;
  std::FILE* file_;  // of the thread, once it runs
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::string> lines_;
  int64_t dropped_ = 0;
  bool stop_ = false, reopen_ = false;
  std::thread thread_;
};

}  // namespace fathom::server
