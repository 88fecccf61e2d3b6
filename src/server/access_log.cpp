#include "server/access_log.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <cerrno>
#include <cmath>
#include <cstring>
#include <ctime>
#include <utility>

#include "core/error.h"
#include "server/json_text.h"

namespace fathom::server {
namespace {

constexpr size_t kMaxWaiting = 10'000;

std::string TimeText(double unix_seconds) {
  const auto whole = static_cast<std::time_t>(unix_seconds);
  std::tm utc{};
  gmtime_r(&whole, &utc);
  return fmt::format("{:%Y-%m-%dT%H:%M:%S}.{:03d}Z", utc,
                     static_cast<int>((unix_seconds - std::floor(unix_seconds)) * 1000));
}

}  // namespace

std::string ToJsonLine(const AccessEntry& e) {
  std::string line =
      fmt::format(R"({{"time":"{}","peer":{},"method":{},"path":{},"status":{},"seconds":{:.6f})", TimeText(e.time),
                  Quoted(e.peer), Quoted(e.method), Quoted(e.path), e.status, e.seconds);
  if (!e.key.empty()) line += ",\"key\":" + Quoted(e.key);
  if (!e.id.empty()) line += ",\"id\":" + Quoted(e.id);
  if (e.prompt_tokens >= 0) line += fmt::format(R"(,"prompt_tokens":{})", e.prompt_tokens);
  if (e.cached_tokens >= 0) line += fmt::format(R"(,"cached_tokens":{})", e.cached_tokens);
  if (e.completion_tokens >= 0) line += fmt::format(R"(,"completion_tokens":{})", e.completion_tokens);
  if (e.first_token_seconds >= 0) line += fmt::format(R"(,"first_token_seconds":{:.6f})", e.first_token_seconds);
  if (!e.finish_reason.empty()) line += ",\"finish_reason\":" + Quoted(e.finish_reason);
  return line + "}\n";
}

AccessLog::AccessLog(const std::string& path)
    : path_(path), file_(path.empty() ? stderr : std::fopen(path.c_str(), "ae")) {
  if (!file_)
    throw Error("cannot write the access log", path + ": " + std::strerror(errno), "", "choose another --log-file");
  thread_ = std::thread([this] { Run(); });
}

AccessLog::~AccessLog() {
  {
    const std::scoped_lock lock(mutex_);
    stop_ = true;
  }
  wake_.notify_one();
  thread_.join();
  if (file_ != stderr) std::fclose(file_);
}

void AccessLog::Add(const AccessEntry& entry) {
  std::string line = ToJsonLine(entry);
  {
    const std::scoped_lock lock(mutex_);
    if (lines_.size() >= kMaxWaiting) {
      ++dropped_;
      return;
    }
    lines_.push_back(std::move(line));
  }
  wake_.notify_one();
}

void AccessLog::Reopen() {
  {
    const std::scoped_lock lock(mutex_);
    reopen_ = true;
  }
  wake_.notify_one();
}

void AccessLog::Run() {
  std::unique_lock lock(mutex_);
  while (true) {
    wake_.wait(lock, [this] { return stop_ || reopen_ || !lines_.empty(); });
    if (std::exchange(reopen_, false) && file_ != stderr) {
      if (std::FILE* fresh = std::fopen(path_.c_str(), "ae")) {
        std::fclose(file_);
        file_ = fresh;
      }
    }
    if (lines_.empty() && stop_) return;
    std::deque<std::string> lines = std::exchange(lines_, {});
    if (dropped_ > 0) lines.push_back(fmt::format("{{\"dropped_lines\":{}}}\n", std::exchange(dropped_, 0)));
    lock.unlock();
    for (const std::string& line : lines) std::fwrite(line.data(), 1, line.size(), file_);
    std::fflush(file_);
    lock.lock();
  }
}

}  // namespace fathom::server
