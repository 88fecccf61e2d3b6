// What each key has used, by day (UTC) and model, in an SQLite file. Add counts in memory; a thread of its own writes
// the sums every now and then in one transaction, in write-ahead mode, so that neither a slow disk delays an answer nor
// the end of the process by force damages the file: what the last second counted is then missing, no more.
//
// Accounting never stops the server: where the file cannot be opened or written (a full disk, damage) a warning is
// given once, /metrics says so, the sums wait in memory, and it is tried again.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <tuple>
#include <vector>

#include "core/error.h"

namespace fathom::server {

struct UsageSums {
  int64_t requests = 0, errors = 0, prompt_tokens = 0, cached_tokens = 0, completion_tokens = 0;
  void Add(const UsageSums& more);
};

struct UsageRow {
  std::string day, key, model;  // day: 2026-01-31
  UsageSums sums;
};

struct UsageLedgerOptions {
  std::string path;                                   // empty: sums are kept in memory only
  double write_seconds = 1;                           // between writes
  double retry_seconds = 30;                          // after one that failed
  std::function<void(const std::string&)> warn = {};  // any thread
};

class UsageLedger {
 public:
  explicit UsageLedger(UsageLedgerOptions options);
  ~UsageLedger();  // writes what waits
  UsageLedger(const UsageLedger&) = delete;
  UsageLedger& operator=(const UsageLedger&) = delete;

  // `time`: Unix, of the request's arrival. Thread-safe, does not wait for the disk.
  void Add(double time, const std::string& key, const std::string& model, const UsageSums& sums);
  // Closes the file and opens it again: after it was moved away, mended or replaced.
  void Reopen();
  void Flush();  // returns when what was added before has been written, or could not be

  struct State {
    bool kept = false;                  // a file was named
    bool up = true;                     // its last write went well
    int64_t failures = 0, waiting = 0;  // writes that failed; rows of sums not yet written
    std::string error;                  // of the last one
  };
  State Look() const;
  // Since this process began, by key and model: what the admin page shows.
  std::vector<UsageRow> Since() const;

  struct Database;

 private:
  using Key = std::tuple<std::string, std::string, std::string>;

  void Run();
  void WriteAll(std::unique_lock<std::mutex>& lock);

  const UsageLedgerOptions options_;
  mutable std::mutex mutex_;
  std::condition_variable wake_, done_;
  std::map<Key, UsageSums> waiting_;
  std::map<Key, UsageSums> since_;  // day empty
  State state_;
  bool stop_ = false, reopen_ = false;
  uint64_t wanted_ = 0, flushed_ = 0;
  std::unique_ptr<Database> database_;  // of the thread alone
  std::thread thread_;
};

// Rows of a ledger's file, by day, key and model; days before `from` are left out ("" is all). Reads while a server
// writes. Throws Error.
std::vector<UsageRow> ReadUsage(const std::string& path, const std::string& from = "");

std::string DayOf(double unix_time);

}  // namespace fathom::server
