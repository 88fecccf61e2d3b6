#include "server/reasoning.h"

#include <algorithm>

namespace fathom::server {
namespace {

constexpr std::string_view kOpen = "<think>", kClose = "</think>", kBlank = " \t\r\n";

bool EndsWith(std::string_view text, std::string_view end) {
  return text.size() >= end.size() && text.substr(text.size() - end.size()) == end;
}

}  // namespace

ReasoningSplitter::Start ReasoningSplitter::StartOf(std::string_view prompt, bool may_think) {
  const size_t last = prompt.find_last_not_of(kBlank);
  prompt = prompt.substr(0, last == std::string_view::npos ? 0 : last + 1);
  if (may_think && EndsWith(prompt, kOpen)) return Start::kThinking;
  if (may_think && !EndsWith(prompt, kClose)) return Start::kMayThink;
  return Start::kAnswering;
}

ReasoningSplitter::ReasoningSplitter(Start start)
    : state_(start == Start::kThinking   ? State::kThinking
             : start == Start::kMayThink ? State::kUndecided
                                         : State::kAnswering),
      trim_(start == Start::kThinking),
      thought_(start == Start::kThinking) {}

void ReasoningSplitter::Begin(State state) {
  state_ = state;
  trim_ = true;
  thought_ = true;
}

void ReasoningSplitter::Emit(std::string_view text, std::string& out) {
  if (trim_) text.remove_prefix(std::min(text.find_first_not_of("\r\n"), text.size()));
  if (text.empty()) return;
  trim_ = false;
  out += text;
}

Parts ReasoningSplitter::Push(std::string_view text) {
  Parts parts;
  if (state_ == State::kAnswering) {
    Emit(text, parts.content);
    return parts;
  }
  waiting_ += text;
  if (state_ == State::kUndecided) {
    const size_t first = waiting_.find_first_not_of(kBlank);
    if (first == std::string::npos) return parts;
    const std::string_view begun = std::string_view(waiting_).substr(first);
    if (begun.size() < kOpen.size() && kOpen.substr(0, begun.size()) == begun) return parts;
    if (begun.substr(0, kOpen.size()) != kOpen) {
      state_ = State::kAnswering;
      Emit(waiting_, parts.content);
      waiting_.clear();
      return parts;
    }
    waiting_.erase(0, first + kOpen.size());
    Begin(State::kThinking);
  }
  const size_t at = waiting_.find(kClose);
  if (at != std::string::npos) {
    Emit(std::string_view(waiting_).substr(0, at), parts.reasoning);
    Begin(State::kAnswering);
    Emit(std::string_view(waiting_).substr(at + kClose.size()), parts.content);
    waiting_.clear();
    return parts;
  }
  size_t hold = std::min(kClose.size() - 1, waiting_.size());
  while (hold > 0 && !EndsWith(waiting_, kClose.substr(0, hold))) --hold;
  Emit(std::string_view(waiting_).substr(0, waiting_.size() - hold), parts.reasoning);
  waiting_.erase(0, waiting_.size() - hold);
  return parts;
}

Parts ReasoningSplitter::Finish() {
  Parts parts;
  Emit(waiting_, state_ == State::kThinking ? parts.reasoning : parts.content);
  waiting_.clear();
  return parts;
}

}  // namespace fathom::server
