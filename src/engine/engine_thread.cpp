#include "engine/engine_thread.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <map>
#include <mutex>
#include <thread>
#include <vector>

#include "core/stopwatch.h"
#include "engine/returns.h"

namespace fathom::engine {

struct EngineThread::Shared {
  explicit Shared(Engine& e) : engine(e) {}

  struct New {
    RequestId id;
    Request request;
    Listener listener;
  };
  Engine& engine;
  mutable std::mutex mutex;
  std::condition_variable wake, idle;
  std::vector<New> added;
  std::vector<RequestId> cancelled;
  EngineStats stats;
  RequestId next = 1;
  int64_t open = 0;  // submitted and not finished
  bool draining = false, stopping = false;
  bool telling = false;  // a listener hears of its end
  Returns returns;
  const Stopwatch clock;  // of its times
  std::thread thread;

  // Of the thread alone: the engine's number for ours.
  std::map<RequestId, RequestId> numbers;

  void Work();
  void Start(New n);
};

void EngineThread::Shared::Start(New n) {
  const RequestId id = n.id;
  n.listener.on_finish = [this, id, on_finish = std::move(n.listener.on_finish)](const Answer& a) {
    {
      const std::lock_guard lock(mutex);
      stats = engine.stats();  // whoever has the answer finds it counted, and its place free
      --open;
      telling = true;
      returns.Ended(stats.steps, clock.Seconds());
    }
    if (on_finish) on_finish(a);
    numbers.erase(id);
    const std::lock_guard lock(mutex);
    telling = false;
  };
  numbers[id] = engine.Add(std::move(n.request), std::move(n.listener));
}

void EngineThread::Shared::Work() {
  double step_seconds = 0;
  for (bool worked = true;;) {
    std::vector<New> fresh;
    std::vector<RequestId> gone;
    bool stop = false;
    {
      std::unique_lock lock(mutex);
      stats = engine.stats();
      if (open == 0) idle.notify_all();
      if (!worked) {
        wake.wait(lock, [&] { return stopping || !added.empty() || !cancelled.empty(); });
      } else if (const double seconds = returns.Wait(step_seconds, stats.running); seconds > 0 && stats.waiting == 0) {
        wake.wait_for(lock, std::chrono::duration<double>(seconds),
                      [&] { return stopping || returns.missing() == 0 || !cancelled.empty(); });
      }
      if (stopping && open == 0) return;
      stop = stopping;
      fresh.swap(added);
      gone.swap(cancelled);
    }
    for (New& n : fresh) Start(std::move(n));
    if (stop) {
      for (const auto& [ours, number] : numbers) engine.Cancel(number);
    }
    for (RequestId id : gone) {
      const auto it = numbers.find(id);
      if (it != numbers.end()) engine.Cancel(it->second);
    }
    const double begin = clock.Seconds();
    worked = engine.Step();
    step_seconds = clock.Seconds() - begin;
  }
}

EngineThread::EngineThread(Engine& engine) : shared_(std::make_unique<Shared>(engine)) {
  shared_->stats = engine.stats();
  shared_->thread = std::thread([s = shared_.get()] { s->Work(); });
}

EngineThread::~EngineThread() { Stop(); }

std::optional<RequestId> EngineThread::Submit(Request request, Listener listener) {
  Shared& s = *shared_;
  s.engine.Check(request);
  const int64_t limit = s.engine.options().max_waiting;
  const std::lock_guard lock(s.mutex);
  if (s.draining || s.stopping) return std::nullopt;
  // The queue is counted here: the engine's own sees requests only between steps.
  if (limit > 0 && s.open >= limit + s.engine.options().max_running) return std::nullopt;
  const RequestId id = s.next++;
  ++s.open;
  s.added.push_back({id, std::move(request), std::move(listener)});
  s.returns.Came(s.clock.Seconds());
  s.wake.notify_one();
  return id;
}

void EngineThread::Cancel(RequestId id) {
  const std::lock_guard lock(shared_->mutex);
  shared_->cancelled.push_back(id);
  shared_->wake.notify_one();
}

EngineStats EngineThread::stats() const {
  const std::lock_guard lock(shared_->mutex);
  EngineStats stats = shared_->stats;
  stats.waiting = std::max<int64_t>(shared_->open - stats.running, 0);  // those on their way to the engine too
  return stats;
}

bool EngineThread::draining() const {
  const std::lock_guard lock(shared_->mutex);
  return shared_->draining;
}

bool EngineThread::Drain(double seconds) {
  Shared& s = *shared_;
  std::unique_lock lock(s.mutex);
  s.draining = true;
  return s.idle.wait_for(lock, std::chrono::duration<double>(seconds), [&] { return s.open == 0 && !s.telling; });
}

void EngineThread::Stop() {
  Shared& s = *shared_;
  {
    const std::lock_guard lock(s.mutex);
    if (s.stopping) return;
    s.stopping = true;
    s.wake.notify_one();
  }
  s.thread.join();
}

}  // namespace fathom::engine
