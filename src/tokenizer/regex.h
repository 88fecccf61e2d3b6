// Pre-tokenizer expressions, run by PCRE2. They are written for Oniguruma (Ruby syntax), the engine of Hugging Face
// tokenizers; the part of its language that means the same to PCRE2 is translated, the rest is refused by name:
//   \s \S \d \D \w   become the Unicode classes that Oniguruma takes them for; \p{L} and its like learn what is newer
//   than Unicode 14 ^ $ .            lines end at \n, as in Ruby
// refused: \h \R \X \G and other escapes of one engine, [a&&b], [a[b]], {,n}, x{n}+, (?<name>...), references,
// conditionals.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "core/error.h"

struct pcre2_real_code_8;
struct pcre2_real_match_context_8;
struct pcre2_real_match_data_8;
struct pcre2_real_jit_stack_8;

namespace fathom::tokenizer {

// What a match needs besides the expression: one per thread at a time.
class RegexScratch {
 public:
  RegexScratch();
  ~RegexScratch();
  RegexScratch(const RegexScratch&) = delete;
  RegexScratch& operator=(const RegexScratch&) = delete;

 private:
  friend class Regex;
  pcre2_real_match_data_8* data_;
  pcre2_real_match_context_8* context_;
  pcre2_real_jit_stack_8* stack_;
};

struct Match {
  size_t begin, end;
};

class Regex {
 public:
  static Result<Regex> Compile(std::string_view oniguruma);
  static Result<std::string> Translate(std::string_view oniguruma);  // to PCRE2's syntax
  static std::string Escape(std::string_view literal);               // an expression that matches this text

  // The first match at or after `from`, in valid UTF-8. False if there is none. The work of one match is bounded in
  // proportion to the text's length; an expression that exceeds it throws Error.
  bool Find(std::string_view text, size_t from, RegexScratch& scratch, Match* match) const;

 private:
  struct Free {
    void operator()(pcre2_real_code_8* code) const;
  };
  explicit Regex(pcre2_real_code_8* code) : code_(code) {}
  std::unique_ptr<pcre2_real_code_8, Free> code_;
};

}  // namespace fathom::tokenizer
