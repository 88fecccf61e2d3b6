#include "server/usage_ledger.h"

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <sqlite3.h>

#include <algorithm>
#include <chrono>
#include <ctime>
#include <filesystem>
#include <utility>

namespace fathom::server {
namespace {

constexpr int kBusyMilliseconds = 2000;      // while a reader, or a copy, holds the file
constexpr size_t kMaxRowsWaiting = 100'000;  // sums in memory, where the file cannot be written

const char* const kUsageSchema =
    "CREATE TABLE IF NOT EXISTS usage (day TEXT NOT NULL, key TEXT NOT NULL, model TEXT NOT NULL,"
    " requests INTEGER NOT NULL, errors INTEGER NOT NULL, prompt_tokens INTEGER NOT NULL,"
    " cached_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL, PRIMARY KEY (day, key, model)) WITHOUT ROWID";
const char* const kUsageUpsert =
    "INSERT INTO usage VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT (day, key, model) DO UPDATE SET"
    " requests = requests + ?4, errors = errors + ?5, prompt_tokens = prompt_tokens + ?6,"
    " cached_tokens = cached_tokens + ?7, completion_tokens = completion_tokens + ?8";
const char* const kUsageSelect =
    "SELECT day, key, model, requests, errors, prompt_tokens, cached_tokens, completion_tokens FROM usage"
    " WHERE day >= ?1 ORDER BY day, key, model";

}  // namespace

// A connection to the file; every call throws Error where SQLite does not say that all is well.
struct UsageLedger::Database {
  Database(const std::string& file, int flags) : path(file) {
    const int code = sqlite3_open_v2(path.c_str(), &handle, flags, nullptr);
    try {
      Check(code, "open");
    } catch (const Error&) {
      sqlite3_close_v2(handle);  // there is one even so
      throw;
    }
    sqlite3_busy_timeout(handle, kBusyMilliseconds);
  }
  ~Database() { sqlite3_close_v2(handle); }
  Database(const Database&) = delete;
  Database& operator=(const Database&) = delete;

  void Check(int code, std::string_view doing) const {
    if (code == SQLITE_OK || code == SQLITE_DONE || code == SQLITE_ROW) return;
    throw Error(fmt::format("cannot {} the usage database", doing),
                fmt::format("{}: {}", path, handle ? sqlite3_errmsg(handle) : sqlite3_errstr(code)), "",
                "a damaged file can be moved away: a new one is begun");
  }
  void Execute(const char* sql) const { Check(sqlite3_exec(handle, sql, nullptr, nullptr, nullptr), "write"); }

  struct Statement {
    Statement(const Database& d, const char* sql) : database(d) {
      d.Check(sqlite3_prepare_v2(d.handle, sql, -1, &statement, nullptr), "read");
    }
    ~Statement() { sqlite3_finalize(statement); }
    Statement(const Statement&) = delete;
    Statement& operator=(const Statement&) = delete;
    void Bind(int at, const std::string& text) {
      database.Check(sqlite3_bind_text(statement, at, text.data(), static_cast<int>(text.size()), SQLITE_TRANSIENT),
                     "write");
    }
    void Bind(int at, int64_t number) { database.Check(sqlite3_bind_int64(statement, at, number), "write"); }
    bool Step(std::string_view doing) {
      const int code = sqlite3_step(statement);
      database.Check(code, doing);
      return code == SQLITE_ROW;
    }
    std::string Text(int column) {
      const auto* text = reinterpret_cast<const char*>(sqlite3_column_text(statement, column));
      return text ? std::string(text, static_cast<size_t>(sqlite3_column_bytes(statement, column))) : "";
    }
    const Database& database;
    sqlite3_stmt* statement = nullptr;
  };

  void Prepare() const {
    Execute("PRAGMA journal_mode = WAL");
    Execute("PRAGMA synchronous = NORMAL");
    Execute(kUsageSchema);
  }
  void Write(const std::map<std::tuple<std::string, std::string, std::string>, UsageSums>& rows) const {
    Execute("BEGIN IMMEDIATE");
    try {
      Statement upsert(*this, kUsageUpsert);
      for (const auto& [key, s] : rows) {
        upsert.Bind(1, std::get<0>(key));
        upsert.Bind(2, std::get<1>(key));
        upsert.Bind(3, std::get<2>(key));
        int at = 4;
        for (int64_t v : {s.requests, s.errors, s.prompt_tokens, s.cached_tokens, s.completion_tokens})
          upsert.Bind(at++, v);
        upsert.Step("write");
        sqlite3_reset(upsert.statement);
      }
      Execute("COMMIT");
    } catch (const Error&) {
      sqlite3_exec(handle, "ROLLBACK", nullptr, nullptr, nullptr);
      throw;
    }
  }

  const std::string path;
  sqlite3* handle = nullptr;
};

void UsageSums::Add(const UsageSums& more) {
  requests += more.requests;
  errors += more.errors;
  prompt_tokens += more.prompt_tokens;
  cached_tokens += more.cached_tokens;
  completion_tokens += more.completion_tokens;
}

std::string DayOf(double unix_time) {
  const auto whole = static_cast<std::time_t>(std::clamp(unix_time, 0.0, 2.5e11));  // years that have four digits
  std::tm utc{};
  gmtime_r(&whole, &utc);
  return fmt::format("{:%Y-%m-%d}", utc);
}

UsageLedger::UsageLedger(UsageLedgerOptions options) : options_(std::move(options)) {
  state_.kept = !options_.path.empty();
  if (state_.kept) thread_ = std::thread([this] { Run(); });
}

UsageLedger::~UsageLedger() {
  if (!thread_.joinable()) return;
  {
    const std::scoped_lock lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  thread_.join();
}

void UsageLedger::Add(double time, const std::string& key, const std::string& model, const UsageSums& sums) {
  const std::scoped_lock lock(mutex_);
  since_[{"", key, model}].Add(sums);
  if (!state_.kept) return;
  Key row{DayOf(time), key, model};
  if (waiting_.size() >= kMaxRowsWaiting && waiting_.find(row) == waiting_.end()) return;
  waiting_[std::move(row)].Add(sums);
  state_.waiting = static_cast<int64_t>(waiting_.size());
}

void UsageLedger::Reopen() {
  {
    const std::scoped_lock lock(mutex_);
    reopen_ = true;
  }
  Flush();
}

void UsageLedger::Flush() {
  if (!thread_.joinable()) return;
  std::unique_lock lock(mutex_);
  const uint64_t mine = ++wanted_;
  wake_.notify_all();
  done_.wait(lock, [&] { return flushed_ >= mine; });
}

UsageLedger::State UsageLedger::Look() const {
  const std::scoped_lock lock(mutex_);
  return state_;
}

std::vector<UsageRow> UsageLedger::Since() const {
  const std::scoped_lock lock(mutex_);
  std::vector<UsageRow> rows;
  for (const auto& [key, sums] : since_) rows.push_back({"", std::get<1>(key), std::get<2>(key), sums});
  return rows;
}

void UsageLedger::WriteAll(std::unique_lock<std::mutex>& lock) {
  if (std::exchange(reopen_, false)) database_.reset();
  std::map<Key, UsageSums> rows = std::exchange(waiting_, {});
  const bool was_up = state_.up;
  lock.unlock();
  std::string error;
  try {
    // A file that was moved away is not written to where nobody looks for it.
    std::error_code ignored;
    if (database_ && !std::filesystem::exists(options_.path, ignored)) database_.reset();
    if (!database_) {
      auto fresh =
          std::make_unique<Database>(options_.path, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_FULLMUTEX);
      fresh->Prepare();
      database_ = std::move(fresh);
    }
    if (!rows.empty()) database_->Write(rows);
  } catch (const Error& e) {
    error = e.got().empty() ? e.summary() : fmt::format("{}: {}", e.summary(), e.got());
    database_.reset();
  }
  if (was_up && !error.empty() && options_.warn) options_.warn(error + "; usage is counted in memory until that works");
  lock.lock();
  state_.up = error.empty();
  if (!error.empty()) {
    ++state_.failures;
    state_.error = error;
    for (const auto& [key, sums] : rows) waiting_[key].Add(sums);
  }
  state_.waiting = static_cast<int64_t>(waiting_.size());
}

void UsageLedger::Run() {
  std::unique_lock lock(mutex_);
  while (true) {
    const uint64_t flush = wanted_;
    WriteAll(lock);
    flushed_ = flush;
    done_.notify_all();
    if (stop_ && waiting_.empty()) return;
    if (stop_ && !state_.up) return;  // what could not be written is lost
    const double pause = state_.up ? options_.write_seconds : options_.retry_seconds;
    wake_.wait_for(lock, std::chrono::duration<double>(pause), [&] { return stop_ || wanted_ > flushed_; });
  }
}

std::vector<UsageRow> ReadUsage(const std::string& path, const std::string& from) {
  // Opened for writing, because a reader of a file in write-ahead mode may have to recover it; never created.
  std::vector<UsageRow> rows;
  const UsageLedger::Database database(path, SQLITE_OPEN_READWRITE);
  UsageLedger::Database::Statement select(database, kUsageSelect);
  select.Bind(1, from);
  while (select.Step("read")) {
    UsageSums sums;
    int column = 3;
    for (int64_t* v : {&sums.requests, &sums.errors, &sums.prompt_tokens, &sums.cached_tokens, &sums.completion_tokens})
      *v = sqlite3_column_int64(select.statement, column++);
    rows.push_back({select.Text(0), select.Text(1), select.Text(2), sums});
  }
  return rows;
}

}  // namespace fathom::server
