#include "server/request_trace.h"

#include <fmt/format.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "core/error.h"
#include "server/json_text.h"

namespace fathom::server {
namespace {

constexpr size_t kMaxWaitingBytes = 16 << 20;
constexpr auto kPause = std::chrono::milliseconds(200);

double Microseconds(RequestTrace::Time from, RequestTrace::Time to) {
  return std::chrono::duration<double, std::micro>(to - from).count();
}

}  // namespace

RequestTrace::RequestTrace(const std::string& path, int64_t max_bytes)
    : file_(std::fopen(path.c_str(), "we")), max_bytes_(max_bytes) {
  if (!file_) throw Error("cannot write the trace", path + ": " + std::strerror(errno), "", "choose another --trace");
  waiting_ = "[\n";
  thread_ = std::thread([this] { Run(); });
}

RequestTrace::~RequestTrace() {
  {
    const std::scoped_lock lock(mutex_);
    stop_ = true;
  }
  wake_.notify_one();
  thread_.join();
  std::fclose(file_);
}

void RequestTrace::Add(std::string line) {
  const std::scoped_lock lock(mutex_);
  if (waiting_.size() + line.size() > kMaxWaitingBytes || bytes_ + static_cast<int64_t>(line.size()) > max_bytes_) {
    ++dropped_;
    return;
  }
  bytes_ += static_cast<int64_t>(line.size());
  waiting_ += line;
}

void RequestTrace::NameTrack(int64_t track, std::string_view name) {
  Add(fmt::format(R"({{"ph":"M","name":"thread_name","pid":1,"tid":{},"args":{{"name":{}}}}},)"
                  "\n",
                  track, Quoted(name)));
}

void RequestTrace::Span(int64_t track, std::string_view name, Time begin, Time end, std::string_view args) {
  Add(fmt::format(R"({{"ph":"X","name":"{}","pid":1,"tid":{},"ts":{:.1f},"dur":{:.1f},"args":{{{}}}}},)"
                  "\n",
                  name, track, Microseconds(start_, begin), Microseconds(begin, end), args));
}

void RequestTrace::Step(int64_t engine_track, int64_t track, const engine::StepPart& p) {
  using Kind = engine::StepPart::Kind;
  if (p.kind == Kind::kDraft) {
    return Span(track, "draft", p.begin, p.end, fmt::format(R"("drafts":{})", p.drafts));
  }
  bool fresh = false;
  {
    const std::scoped_lock lock(mutex_);
    fresh = std::exchange(last_steps_[engine_track], p.begin) != p.begin;
  }
  if (fresh) Span(engine_track, "step", p.begin, p.end, fmt::format(R"("rows":{})", p.rows));
  Span(track, p.kind == Kind::kPrompt ? "prefill" : "decode", p.begin, p.end,
       fmt::format(R"("position":{},"tokens":{},"drafts":{},"kept":{})", p.position, p.tokens, p.drafts, p.kept));
}

void RequestTrace::Run() {
  std::unique_lock lock(mutex_);
  while (true) {
    wake_.wait_for(lock, kPause, [this] { return stop_; });
    std::string text = std::exchange(waiting_, {});
    const bool last = stop_;
    // An event behind the last comma, so that the whole is JSON.
    if (last)
      text += fmt::format(R"({{"ph":"M","name":"dropped_events","pid":1,"args":{{"count":{}}}}}]
)",
                          dropped_.load());
    lock.unlock();
    std::fwrite(text.data(), 1, text.size(), file_);
    std::fflush(file_);
    lock.lock();
    if (last) return;
  }
}

}  // namespace fathom::server
