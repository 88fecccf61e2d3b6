#include "server/call_parser.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/utf8.h"
#include "server/generation_fields.h"

namespace fathom::server {
namespace {

constexpr std::string_view kCallBlanks = " \t\r\n";
constexpr size_t kMaxName = 64;

bool Begins(std::string_view text, std::string_view mark) {
  const size_t n = std::min(text.size(), mark.size());
  return text.substr(0, n) == mark.substr(0, n);
}

}  // namespace

CallParser::CallParser(CallOptions options) : options_(std::move(options)) {
  if (options_.format != tokenizer::ToolFormat::kNone) marks_ = &tokenizer::MarksOf(options_.format);
}

void CallParser::Push(std::string_view text, std::string& content, std::vector<CallDelta>& calls) {
  if (!marks_) {
    content += text;
    return;
  }
  waiting_ += text;
  while (Step(content, calls)) {
  }
}

size_t CallParser::Held(std::string_view mark) const {
  size_t n = std::min(mark.size() - 1, waiting_.size());
  while (n > 0 && std::string_view(waiting_).substr(waiting_.size() - n) != mark.substr(0, n)) --n;
  return n;
}

// What was no call after all; later lists are looked for.
void CallParser::Malformed(std::string& content) {
  content += opened_;
  opened_.clear();
  state_ = State::kContent;
}

void CallParser::AddArguments(std::string_view text, std::vector<CallDelta>& calls) const {
  if (text.empty()) return;
  if (!calls.empty() && calls.back().index == count_ - 1) {
    calls.back().arguments += text;
  } else {
    calls.push_back({.index = count_ - 1, .arguments = std::string(text)});
  }
}

// Takes a mark from the front of what waits, behind white space. False: it is not whole yet, or not there (malformed).
bool CallParser::Expect(std::string_view mark, State next) {
  const size_t blanks = std::min(waiting_.find_first_not_of(kCallBlanks), waiting_.size());
  const std::string_view rest = std::string_view(waiting_).substr(blanks);
  if (!Begins(rest, mark) || rest.size() < mark.size()) return false;
  opened_.append(waiting_, 0, blanks + mark.size());
  waiting_.erase(0, blanks + mark.size());
  state_ = next;
  return true;
}

bool CallParser::StepName(std::vector<CallDelta>& calls) {
  const size_t at = waiting_.find(marks_->before_arguments);
  if (at == std::string::npos) return false;
  std::string name = waiting_.substr(0, at);
  if (std::find(options_.names.begin(), options_.names.end(), name) == options_.names.end()) return false;
  waiting_.erase(0, at + marks_->before_arguments.size());
  opened_.clear();
  calls.push_back(
      {.index = count_++, .id = fmt::format("call_{:016x}{:016x}", RandomU64(), RandomU64()), .name = std::move(name)});
  state_ = State::kArguments;
  return true;
}

// False: nothing more can be done with what waits.
bool CallParser::Step(std::string& content, std::vector<CallDelta>& calls) {
  const auto may_become = [&](std::string_view mark) {
    std::string_view rest = waiting_;
    rest.remove_prefix(std::min(rest.find_first_not_of(kCallBlanks), rest.size()));
    // The answer may have ended within a character.
    if (rest.ends_with(kReplacement)) rest.remove_suffix(kReplacement.size());
    return Begins(rest, mark);
  };
  switch (state_) {
    case State::kContent: {
      const size_t at = waiting_.find(marks_->calls_begin);
      if (at != std::string::npos) {
        content.append(waiting_, 0, at);
        waiting_.erase(0, at);
        return Expect(marks_->calls_begin, State::kCall);
      }
      const size_t given = waiting_.size() - Held(marks_->calls_begin);
      content.append(waiting_, 0, given);
      waiting_.erase(0, given);
      return false;
    }
    case State::kCall:
      if (Expect(marks_->before_name, State::kName)) return true;
      if (may_become(marks_->before_name)) return false;
      Malformed(content);
      return true;
    case State::kName: {
      if (StepName(calls)) return true;
      const size_t end = waiting_.find(marks_->before_arguments);
      if (end == std::string::npos && waiting_.size() <= kMaxName + marks_->before_arguments.size()) return false;
      Malformed(content);
      return true;
    }
    case State::kArguments: {
      const size_t at = waiting_.find(marks_->after_arguments);
      const size_t given = at != std::string::npos ? at : waiting_.size() - Held(marks_->after_arguments);
      AddArguments(std::string_view(waiting_).substr(0, given), calls);
      waiting_.erase(0, given);
      if (at == std::string::npos) return false;
      waiting_.erase(0, marks_->after_arguments.size());
      state_ = State::kBehind;
      return true;
    }
    case State::kBehind:  // another call, or the end of the list
      if (Expect(marks_->calls_end, State::kDone)) return true;
      if (Expect(marks_->before_name, options_.parallel ? State::kName : State::kDone)) return true;
      if (may_become(marks_->calls_end) || may_become(marks_->before_name)) return false;
      Malformed(content);
      return true;
    case State::kDone:
      waiting_.clear();
      return false;
  }
  return false;
}

void CallParser::Finish(std::string& content, std::vector<CallDelta>& calls) {
  if (state_ == State::kArguments) {
    AddArguments(waiting_, calls);
  } else if (state_ != State::kDone && state_ != State::kBehind) {
    content += opened_;
    content += waiting_;
  }
  waiting_.clear();
  opened_.clear();
}

}  // namespace fathom::server
