// A test whether draws follow a distribution.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

namespace fathom::engine {

// Whether counts of n draws follow `expected`: X = sum (count - n p)^2 / (n p) over d cells is chi-squared with d - 1
// degrees of freedom for large n p; P(X >= f + 2 sqrt(f x) + 2 x) <= e^-x (Laurent and Massart 2000, lemma 1), here
// with x = ln 1e9. Cells of fewer than 10 expected draws are put together; a draw of probability 0 fails at once.
inline void ExpectFollows(const std::vector<int64_t>& counts, const std::vector<double>& expected,
                          const std::string& what) {
  double n = 0, x = 0, rest_count = 0, rest_expected = 0, cells = 0;
  for (int64_t c : counts) n += static_cast<double>(c);
  for (size_t i = 0; i < counts.size(); ++i) {
    const double np = n * expected[i], c = static_cast<double>(counts[i]);
    if (expected[i] == 0) {
      EXPECT_EQ(counts[i], 0) << what << ": token " << i << " may not be drawn";
    } else if (np < 10) {
      rest_count += c;
      rest_expected += np;
    } else {
      x += (c - np) * (c - np) / np;
      cells += 1;
    }
  }
  if (rest_expected >= 10) {
    x += (rest_count - rest_expected) * (rest_count - rest_expected) / rest_expected;
    cells += 1;
  }
  ASSERT_GE(cells, 2) << what;
  const double f = cells - 1, t = std::log(1e9);
  EXPECT_LE(x, f + 2 * std::sqrt(f * t) + 2 * t) << what << ", " << f << " degrees of freedom";
}

}  // namespace fathom::engine
