#include "server/heartbeat.h"

#include <algorithm>
#include <chrono>
#include <iterator>

namespace fathom::server {

Heartbeat::Heartbeat(const HeartbeatOptions& options) : options_(options) {
  if (options_.quiet_seconds > 0 || options_.wait_seconds > 0) thread_ = std::thread([this] { Run(); });
}

Heartbeat::~Heartbeat() {
  {
    const std::scoped_lock lock(mutex_);
    stop_ = true;
  }
  wake_.notify_one();
  if (thread_.joinable()) thread_.join();
}

void Heartbeat::Watch(const std::shared_ptr<Reply>& reply) {
  if (!thread_.joinable()) return;
  const std::scoped_lock lock(mutex_);
  replies_.push_back(reply);
}

void Heartbeat::Run() {
  constexpr double kOften = 0.05, kSeldom = 1;
  double shortest = kSeldom * 4;
  for (double seconds : {options_.quiet_seconds, options_.wait_seconds}) {
    if (seconds > 0) shortest = std::min(shortest, seconds);
  }
  const auto pause = std::chrono::duration<double>(std::max(shortest / 4, kOften));
  std::vector<std::weak_ptr<Reply>> mine;  // visited without the lock
  std::unique_lock lock(mutex_);
  while (!wake_.wait_for(lock, pause, [this] { return stop_; })) {
    mine.insert(mine.end(), std::make_move_iterator(replies_.begin()), std::make_move_iterator(replies_.end()));
    replies_.clear();
    lock.unlock();
    const auto done = [this](const std::weak_ptr<Reply>& weak) {
      const auto reply = weak.lock();
      return !reply || !reply->Beat(options_.quiet_seconds, options_.wait_seconds);
    };
    mine.erase(std::remove_if(mine.begin(), mine.end(), done), mine.end());
    lock.lock();
  }
}

}  // namespace fathom::server
