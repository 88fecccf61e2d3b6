// An answer's text in content and calls of tools, as it comes: the format's marks (tokenizer/tool_text.h) begin and end
// calls, what stands between a name and the end of its call are the arguments, given out in pieces.
//
// A call counts once its name is whole, known, and followed by the mark before the arguments. What opens a list of
// calls and goes on otherwise is content, as it was written. Arguments are not judged: text that breaks off within them
// (the answer's length, a stop string) ends there.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/tool_text.h"

namespace fathom::server {

// What a piece of text adds to one call.
struct CallDelta {
  size_t index = 0;     // of the answer's calls
  std::string id = {};  // with the name, in the first one
  std::string name = {};
  std::string arguments = {};
};

struct CallOptions {
  tokenizer::ToolFormat format = tokenizer::ToolFormat::kNone;  // none: all text is content
  std::vector<std::string> names = {};
  bool parallel = true;  // else the first call is the last
};

class CallParser {
 public:
  explicit CallParser(CallOptions options);

  // Adds to both. What may be the beginning of a mark waits.
  void Push(std::string_view text, std::string& content, std::vector<CallDelta>& calls);
  void Finish(std::string& content, std::vector<CallDelta>& calls);  // what waits, when no more comes

  size_t calls() const { return count_; }
  // All calls are there: nothing that belongs to the answer comes behind.
  bool complete() const { return state_ == State::kDone; }

 private:
  enum class State : uint8_t { kContent, kCall, kName, kArguments, kBehind, kDone };
  bool Step(std::string& content, std::vector<CallDelta>& calls);
  bool StepName(std::vector<CallDelta>& calls);
  bool Expect(std::string_view mark, State next);
  size_t Held(std::string_view mark) const;  // bytes at the end of what waits that may begin a mark
  void Malformed(std::string& content);
  void AddArguments(std::string_view text, std::vector<CallDelta>& calls) const;

  const CallOptions options_;
  const tokenizer::CallMarks* marks_ = nullptr;
  State state_ = State::kContent;
  std::string waiting_;  // not given out yet
  std::string opened_;   // what has been read since the list, or the last call in it: content if it is no call
  size_t count_ = 0;
};

}  // namespace fathom::server
