#include "grammar/thinking.h"

#include <string_view>

namespace fathom::grammar {
namespace {

constexpr std::string_view kOpenTag = "<think>", kCloseTag = "</think>";
constexpr int kLineEnds = 2;

// Parts: nothing; [kOpening, ..) characters of the opening tag; [kWithin, ..) of the closing one; [kBehind, ..) line
// ends behind it.
constexpr int32_t kOver = 0, kOpening = 1, kWithin = kOpening + static_cast<int32_t>(kOpenTag.size()),
                  kBehind = kWithin + static_cast<int32_t>(kCloseTag.size());

}  // namespace

ThinkingMachine::ThinkingMachine(std::unique_ptr<Machine> answer, Thinking thinking) : answer_(std::move(answer)) {
  const State begin = answer_->Start();
  switch (thinking) {
    case Thinking::kNone:
      start_ = Of(kOver, begin);
      break;
    case Thinking::kOpen:
      start_ = begin == kDead ? kDead : Of(kWithin, kDead);
      break;
    case Thinking::kMayOpen:
      start_ = begin == kDead ? kDead : Of(kOpening, begin);
      break;
  }
}

ThinkingMachine::Part ThinkingMachine::NextPart(Part part, uint8_t byte) const {
  const auto c = static_cast<char>(byte);
  const bool line_end = c == '\n' || c == '\r';
  if (part >= kBehind) return line_end && part < kBehind + kLineEnds ? part + 1 : kOver;
  if (part >= kWithin) {
    // The closing tag begins with a character that comes no second time in it.
    const auto met = static_cast<size_t>(part - kWithin);
    if (c == kCloseTag[met]) return met + 1 == kCloseTag.size() ? kBehind : part + 1;
    return c == kCloseTag.front() ? kWithin + 1 : kWithin;
  }
  if (part == kOver) return kOver;
  const auto met = static_cast<size_t>(part - kOpening);
  if (met == 0 && (line_end || c == ' ' || c == '\t')) return part;
  if (c != kOpenTag[met]) return kOver;
  return met + 1 == kOpenTag.size() ? kWithin : part + 1;
}

Machine::State ThinkingMachine::Of(Part part, State answer) {
  if (part == kOver && answer == kDead) return kDead;
  const uint64_t key = static_cast<uint64_t>(part) << 32 | static_cast<uint32_t>(answer);
  const auto [at, fresh] = ids_.try_emplace(key, static_cast<State>(states_.size()));
  if (fresh) states_.push_back({part, answer});
  return at->second;
}

Machine::State ThinkingMachine::Next(State state, uint8_t byte) {
  if (state == kDead) return kDead;
  const Pair from = states_[static_cast<size_t>(state)];
  const Part part = NextPart(from.part, byte);
  State answer = answer_->Next(from.answer, byte);
  // The grammar may begin behind the tag and behind each line end that follows it. Where its own first line end is
  // meant the two agree: it is read by either.
  if (part >= kBehind && answer == kDead) answer = answer_->Start();
  return Of(part, answer);
}

bool ThinkingMachine::Accepts(State state) const {
  if (state == kDead) return false;
  const State answer = states_[static_cast<size_t>(state)].answer;
  return answer != kDead && answer_->Accepts(answer);
}

Machine::Loop ThinkingMachine::LoopOf(State state) {
  const Pair pair = states_[static_cast<size_t>(state)];
  if (pair.part != kOver) return Machine::LoopOf(state);
  Loop loop = answer_->LoopOf(pair.answer);
  if (loop.next != kDead) loop.next = Of(kOver, loop.next);
  return loop;
}

std::vector<LoopBytes> ThinkingMachine::LikelyLoops(size_t most) {
  std::vector<LoopBytes> loops = answer_->LikelyLoops(most - 1);
  if (start_ != kDead) loops.push_back(Machine::LoopOf(Of(kWithin, kDead)).bytes);
  return loops;
}

std::unique_ptr<Machine> AfterThinking(std::unique_ptr<Machine> answer, Thinking thinking) {
  if (thinking == Thinking::kNone) return answer;
  return std::make_unique<ThinkingMachine>(std::move(answer), thinking);
}

}  // namespace fathom::grammar
