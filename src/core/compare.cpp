#include "core/compare.h"

#include <fmt/format.h>

#include <cmath>

#include "core/error.h"

namespace fathom {

Comparison Compare(std::span<const float> a, std::span<const float> b) {
  FATHOM_CHECK(a.size() == b.size());
  Comparison c;
  c.count = static_cast<int64_t>(a.size());
  double diff2 = 0, a2 = 0, b2 = 0, ab = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double x = a[i], y = b[i];
    if (!std::isfinite(x) || !std::isfinite(y)) {
      const bool same = (std::isnan(x) && std::isnan(y)) || x == y;
      c.special_mismatch += !same;
      continue;
    }
    const double d = std::fabs(x - y);
    if (c.worst < 0 || d > c.max_abs) {
      c.max_abs = d;
      c.worst = static_cast<int64_t>(i);
    }
    diff2 += d * d;
    a2 += x * x;
    b2 += y * y;
    ab += x * y;
  }
  c.rel_l2 = std::sqrt(b2 > 0 ? diff2 / b2 : diff2);
  c.cosine = a2 > 0 && b2 > 0 ? ab / std::sqrt(a2 * b2) : (a2 == b2 ? 1.0 : 0.0);
  return c;
}

std::string Comparison::ToString() const {
  return fmt::format("max |a-b| {:.3g} at {}, relative L2 {:.3g}, cosine {:.9f}, {} of {} NaN or infinite on one side",
                     max_abs, worst, rel_l2, cosine, special_mismatch, count);
}

}  // namespace fathom
