// Clients that ask again as soon as they are answered (an evaluation, workers of a fixed number) would begin one step
// late each time: a step begins when the answers of the one before are told. Requests that come soon after answers show
// whether there are such clients; where there are, the next step waits for them a moment.
#pragma once

#include <algorithm>
#include <cstdint>

namespace fathom::engine {

// Times are seconds of any clock.
class Returns {
 public:
  // An answer ended with step number `step`. Steps are told in their order.
  void Ended(int64_t step, double now) {
    if (step != step_ && ended_ > 0) {
      const double share = static_cast<double>(came_) / static_cast<double>(ended_);
      share_ += kNewest * (share - share_);
      ended_ = came_ = 0;
    }
    step_ = step;
    at_ = now;
    ++ended_;
  }
  // A request came.
  void Came(double now) {
    if (came_ < ended_ && now - at_ <= kSoon) ++came_;
  }
  // Of the clients answered last, those that have not come again.
  int64_t missing() const { return ended_ - came_; }
  // How long the next step may wait for them: half of what it gains, which is a step of each of them beside a wait of
  // all that run.
  double Wait(double step_seconds, int64_t running) const {
    if (share_ < kWorthIt || missing() == 0) return 0;
    const double others = static_cast<double>(std::max<int64_t>(running, 1));
    return std::min(kSoon, 0.5 * step_seconds * static_cast<double>(missing()) / others);
  }

 private:
  static constexpr double kSoon = 0.01, kNewest = 0.25, kWorthIt = 0.5;
  int64_t step_ = -1, ended_ = 0, came_ = 0;
  double at_ = 0;
  double share_ = kWorthIt;  // of clients answered lately, those that came again soon; at first it is tried
};

}  // namespace fathom::engine
