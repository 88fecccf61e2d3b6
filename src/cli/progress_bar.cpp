#include "cli/progress_bar.h"

#include <fmt/format.h>

#include <cstdio>

#include "io/file.h"

namespace fathom::cli {

using Clock = std::chrono::steady_clock;

ProgressBar::ProgressBar(std::string label, Unit unit)
    : label_(std::move(label)), unit_(unit), start_(Clock::now()), last_(start_) {}

ProgressBar::~ProgressBar() {
  if (shown_) std::fputs("\r\033[K", stderr);
}

double ProgressBar::Seconds() const { return std::chrono::duration<double>(Clock::now() - start_).count(); }

ProgressFn ProgressBar::Callback() {
  return [this](int64_t done, int64_t total) { Update(done, total); };
}

void ProgressBar::Update(int64_t done, int64_t total) {
  if (const int code = interrupt_.ExitCode()) throw Stopped{code};
  const Clock::time_point now = Clock::now();
  const double seconds = std::chrono::duration<double>(now - start_).count();
  if (!StderrIsTerminal() || seconds < 1.0 || now - last_ < std::chrono::milliseconds(100)) return;
  last_ = now;
  shown_ = true;
  constexpr int kWidth = 30;
  const double part = total > 0 ? static_cast<double>(done) / static_cast<double>(total) : 1.0;
  const int full = static_cast<int>(part * kWidth);
  const double rate = static_cast<double>(done) / seconds;
  const int64_t left = rate > 0 ? static_cast<int64_t>(static_cast<double>(total - done) / rate) : 0;
  auto amount = [&](int64_t n) { return unit_ == Unit::kBytes ? io::HumanBytes(n) : fmt::format("{}", n); };
  const std::string line = fmt::format("\r\033[K{} [{:=<{}}{:{}}] {:3.0f} %  {} of {}  {}/s  {}:{:02} left", label_, "",
                                       full, "", kWidth - full, part * 100, amount(done), amount(total),
                                       amount(static_cast<int64_t>(rate)), left / 60, left % 60);
  std::fputs(line.c_str(), stderr);
  std::fflush(stderr);
}

}  // namespace fathom::cli
