// A line on the terminal that says how far something long has come: shown after a second, on standard error, and only
// where that is a terminal; wiped when the work ends.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "cli/terminal.h"
#include "core/progress.h"

namespace fathom::cli {

class ProgressBar {
 public:
  enum class Unit { kBytes, kCount };
  explicit ProgressBar(std::string label, Unit unit = Unit::kBytes);
  ~ProgressBar();
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  // Throws Stopped when Ctrl-C or SIGTERM came, so that the work can clean up behind itself.
  ProgressFn Callback();
  double Seconds() const;

  struct Stopped {
    int exit_code;
  };

 private:
  void Update(int64_t done, int64_t total);
  std::string label_;
  Unit unit_;
  GracefulInterrupt interrupt_;
  std::chrono::steady_clock::time_point start_, last_;
  bool shown_ = false;
};

}  // namespace fathom::cli
