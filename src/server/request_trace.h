// What becomes of each request, span by span, as a file that chrome://tracing and ui.perfetto.dev show (the array form
// of the Trace Event Format, which may end anywhere: what a killed process has written is still read).
//
// A row for each engine's steps, and one for each request: read (its body, until it is in the queue), queue, prefill
// (each chunk), decode (each step, with the drafts it verified), draft, detokenise, write. Lines are written by a
// thread of its own; what it cannot keep up with, and what is beyond the limit of the file, is left out and counted.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <cstdio>
#include <map>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>

#include "engine/request.h"

namespace fathom::server {

class RequestTrace {
 public:
  using Time = std::chrono::steady_clock::time_point;
  // Replaces the file. Throws Error.
  explicit RequestTrace(const std::string& path, int64_t max_bytes = int64_t{1} << 30);
  ~RequestTrace();  // writes what waits, and the end of the array
  RequestTrace(const RequestTrace&) = delete;
  RequestTrace& operator=(const RequestTrace&) = delete;

  int64_t NewTrack() { return ++tracks_; }
  void NameTrack(int64_t track, std::string_view name);
  // `args`: members of a JSON object, without its braces.
  void Span(int64_t track, std::string_view name, Time begin, Time end, std::string_view args = "");
  // The span of a sequence, and once for all sequences of a step that of the engine, which has a track too.
  void Step(int64_t engine_track, int64_t track, const engine::StepPart& part);
  int64_t dropped() const { return dropped_; }

 private:
  void Add(std::string line);
  void Run();

  std::FILE* file_;
  const int64_t max_bytes_;
  const Time start_ = std::chrono::steady_clock::now();
  std::atomic<int64_t> tracks_{0}, dropped_{0};
  std::mutex mutex_;
  std::condition_variable wake_;
  std::string waiting_;
  std::map<int64_t, Time> last_steps_;  // of engines
  int64_t bytes_ = 0;
  bool stop_ = false;
  std::thread thread_;
};

// A span from here to the end of the scope; nothing where there is no trace.
class TraceScope {
 public:
  TraceScope(RequestTrace* trace, int64_t track, std::string_view name) : trace_(trace), track_(track), name_(name) {
    if (trace_) begin_ = std::chrono::steady_clock::now();
  }
  ~TraceScope() {
    if (trace_) trace_->Span(track_, name_, begin_, std::chrono::steady_clock::now());
  }
  TraceScope(const TraceScope&) = delete;
  TraceScope& operator=(const TraceScope&) = delete;

 private:
  RequestTrace* const trace_;
  const int64_t track_;
  const std::string_view name_;
  RequestTrace::Time begin_{};
};

}  // namespace fathom::server
