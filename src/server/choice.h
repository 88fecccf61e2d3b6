// One answer on its way from token ids to what its client sees: text up to a stop string, cut in reasoning and content,
// and the log-probabilities of the tokens whose text was given out.
#pragma once

#include <string>
#include <vector>

#include "engine/request.h"
#include "server/call_parser.h"
#include "server/reasoning.h"
#include "server/served_model.h"
#include "tokenizer/text_session.h"

namespace fathom::server {

// A token and where it begins, in characters of the text (legacy completions).
struct ShownToken {
  engine::Token token;
  int64_t offset = 0;
  bool reasoning = false;  // it is of the part that is thought
};

struct Delta {
  std::string reasoning, content;
  std::vector<CallDelta> calls = {};
  std::vector<ShownToken> tokens = {};  // only where log-probabilities are wanted
  bool empty() const { return reasoning.empty() && content.empty() && calls.empty() && tokens.empty(); }
};

struct ChoiceOptions {
  std::vector<std::string> stop = {};
  bool skip_special = true;
  bool keep_tokens = false;
  ReasoningSplitter::Start start = ReasoningSplitter::Start::kAnswering;
  int64_t offset = 0;  // of the first token: behind an echoed prompt
  CallOptions calls = {};
};

class Choice {
 public:
  Choice(const ServedModel& model, const ChoiceOptions& options);

  Delta Push(const engine::Token& token);
  Delta Finish();
  bool stopped() const { return session_.stopped(); }                        // a stop string was met
  const std::string& stop_string() const { return session_.stop_string(); }  // this one
  bool called() const { return calls_.calls() > 0; }                         // a tool
  bool calls_complete() const { return calls_.complete(); }                  // the answer ends there
  int64_t tokens() const { return tokens_; }
  int64_t reasoning_tokens() const { return splitter_.thought() ? reasoning_tokens_ : 0; }

 private:
  void Release(const std::string& text, bool all, Delta& delta);

  const ServedModel& model_;
  tokenizer::TextSession session_;
  ReasoningSplitter splitter_;
  CallParser calls_;
  bool skip_special_, keep_tokens_;
  std::vector<ShownToken> waiting_;  // tokens whose text is not given out yet
  std::vector<int64_t> begins_;      // of them, in bytes
  int64_t offset_, bytes_ = 0, released_ = 0;
  int64_t tokens_ = 0, reasoning_tokens_ = 0;
};

// Characters that begin in `bytes`.
int64_t CountCharacters(std::string_view bytes);

}  // namespace fathom::server
