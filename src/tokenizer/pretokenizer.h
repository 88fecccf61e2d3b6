// Pre-tokenizer: text to the pieces within which merges happen, as tokenizer.json describes it (Sequence of Split,
// Digits and, last, ByteLevel). Pieces are in order; together they are the text, but for what add_prefix_space puts in
// and Split's "Removed" leaves out.
#pragma once

#include <deque>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "core/error.h"
#include "tokenizer/regex.h"

namespace fathom::tokenizer {

enum class SplitBehavior { kRemoved, kIsolated, kMergedWithPrevious, kMergedWithNext, kContiguous };

// The place for the results of one Split at a time; keeps its memory from call to call.
struct PreTokenizerScratch {
  RegexScratch regex;
  std::vector<std::string_view> pieces, next;
  std::deque<std::string> owned;  // pieces that were given a prefix space
  struct Span {
    size_t begin, end;
    bool match;
  };
  std::vector<Span> spans;
};

class PreTokenizer {
 public:
  static Result<PreTokenizer> FromJson(const nlohmann::json& pre_tokenizer);

  // True if the steps are textually the published ones of DeepSeek-V3, for which PublishedScanner may stand.
  bool IsPublished() const { return published_; }
  // Fills scratch.pieces with non-empty pieces of valid UTF-8. Throws Error if an expression exceeds its limits.
  void Run(std::string_view text, PreTokenizerScratch& scratch) const;

 private:
  struct Step {
    std::string expression;  // as written, empty for a prefix space
    Regex regex;
    SplitBehavior behavior;
    bool invert;
  };
  PreTokenizer() = default;
  std::optional<Error> Add(const nlohmann::json& node, int depth);
  std::optional<Error> AddSplit(const std::string& expression, SplitBehavior behavior, bool invert);
  static void Split(const Step& step, std::string_view piece, PreTokenizerScratch& scratch);

  std::vector<Step> steps_;
  // ByteLevel, the last step: its prefix space goes before its own expression.
  bool add_prefix_space_ = false;
  size_t steps_before_prefix_ = 0;
  bool byte_level_ = false;
  bool published_ = false;
};

}  // namespace fathom::tokenizer
