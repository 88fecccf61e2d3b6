// Bounds of numbers on the command line, which a message states as one would say them.
#pragma once

#include <CLI/CLI.hpp>
#include <cmath>
#include <string>

namespace fathom::cli {

// Refuses the rest, and what is no number: "got 0, expected a number above 0".
inline CLI::Validator NumberFrom(bool zero_too) {
  const auto check = [zero_too](std::string& text) -> std::string {
    double value = 0;
    const bool number = CLI::detail::lexical_cast(text, value) && !std::isnan(value);
    if (number && (zero_too ? value >= 0 : value > 0)) return {};
    return "got " + text + ", expected a number " + (zero_too ? "that is not below 0" : "above 0");
  };
  return CLI::Validator(check, zero_too ? "NONNEGATIVE" : "POSITIVE");
}
inline const CLI::Validator kPositive = NumberFrom(false), kNonNegative = NumberFrom(true);

}  // namespace fathom::cli
