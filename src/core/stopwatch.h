#pragma once

#include <chrono>
#include <utility>

namespace fathom {

class Stopwatch {
 public:
  // Seconds since it was made or last asked.
  double Lap() {
    const auto now = std::chrono::steady_clock::now();
    return std::chrono::duration<double>(now - std::exchange(begin_, now)).count();
  }

 private:
  std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
};

}  // namespace fathom
