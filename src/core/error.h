// Errors, three kinds of them.
//   FATHOM_CHECK(cond)      a programmer's error (shape, null, invariant): always on, aborts with file and line.
//   throw Error{...}        a user's or the environment's error (missing file, bad config): caught in cli and server
//   only. Result<T>               parsers of untrusted bytes return it; Value() of a failed one throws its Error.
#pragma once

#include <exception>
#include <optional>
#include <string>
#include <utility>
#include <variant>

namespace fathom {

// What went wrong, what was met, what would have been right, and what to do. Parts may be empty but `what`.
class Error : public std::exception {
 public:
  Error(std::string what, std::string got = "", std::string expected = "", std::string hint = "");

  const char* what() const noexcept override { return message_.c_str(); }  // all parts, one a line
  const std::string& summary() const { return what_; }
  const std::string& got() const { return got_; }
  const std::string& expected() const { return expected_; }
  const std::string& hint() const { return hint_; }

 private:
  std::string what_, got_, expected_, hint_, message_;
};

template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value) : state_(std::move(value)) {}      // NOLINT: implicit on purpose
  Result(Error error) : state_(std::move(error)) {}  // NOLINT: implicit on purpose
  bool ok() const { return std::holds_alternative<T>(state_); }
  explicit operator bool() const { return ok(); }
  const Error& error() const { return std::get<Error>(state_); }
  T& Value() & { return Check(), std::get<T>(state_); }
  const T& Value() const& { return Check(), std::get<T>(state_); }
  T&& Value() && { return Check(), std::get<T>(std::move(state_)); }

 private:
  void Check() const {
    if (!ok()) throw std::get<Error>(state_);
  }
  std::variant<T, Error> state_;
};

[[noreturn]] void CheckFailed(const char* file, int line, const char* condition, const std::string& note = "");

}  // namespace fathom

#define FATHOM_CHECK(cond, ...)                                                    \
  do {                                                                             \
    if (!(cond)) [[unlikely]]                                                      \
      ::fathom::CheckFailed(__FILE__, __LINE__, #cond __VA_OPT__(, ) __VA_ARGS__); \
  } while (0)

#ifdef NDEBUG
#define FATHOM_DCHECK(cond) ((void)0)
#else
#define FATHOM_DCHECK(cond) FATHOM_CHECK(cond)
#endif
