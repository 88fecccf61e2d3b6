#include "core/error.h"

#include <cstdio>
#include <cstdlib>

namespace fathom {

Error::Error(std::string what, std::string got, std::string expected, std::string hint)
    : what_(std::move(what)), got_(std::move(got)), expected_(std::move(expected)), hint_(std::move(hint)) {
  message_ = what_;
  if (!got_.empty()) message_ += "\n  got:      " + got_;
  if (!expected_.empty()) message_ += "\n  expected: " + expected_;
  if (!hint_.empty()) message_ += "\n  hint:     " + hint_;
}

void CheckFailed(const char* file, int line, const char* condition, const std::string& note) {
  // The one place of the library that writes to stderr: the process ends here.
  std::fprintf(stderr, "fathom: internal error: %s:%d: %s is false%s%s\n", file, line, condition,
               note.empty() ? "" : ": ", note.c_str());
  std::abort();
}

}  // namespace fathom
