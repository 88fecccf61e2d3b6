// An answer's text in two: what the model thinks, up to </think>, and what it says.
#pragma once

#include <string>
#include <string_view>

namespace fathom::server {

struct Parts {
  std::string reasoning, content;
};

class ReasoningSplitter {
 public:
  // Where an answer begins: the prompt has opened <think>; the model may open it itself; it does not think.
  enum class Start { kThinking, kMayThink, kAnswering };
  // For a prompt that ends so. `may_think`: of the template.
  static Start StartOf(std::string_view prompt, bool may_think);

  explicit ReasoningSplitter(Start start);

  // What `text` adds to either part. The beginning of a tag waits, and so do line ends at the beginning of a part,
  // which are left out.
  Parts Push(std::string_view text);
  Parts Finish();                                                // what waits, when no more comes
  bool thinking() const { return state_ != State::kAnswering; }  // or undecided
  bool thought() const { return thought_; }                      // there was such a part

 private:
  enum class State { kUndecided, kThinking, kAnswering };
  void Begin(State state);
  void Emit(std::string_view text, std::string& out);

  State state_;
  bool trim_;  // nothing of this part was given out yet, and it follows a tag
  bool thought_;
  std::string waiting_;
};

}  // namespace fathom::server
