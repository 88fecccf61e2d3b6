#include "kernels/reference/upper_bounds.h"

#include <cmath>

namespace fathom::kernels::reference {

void UpperBounds(const BoundsTask& task) {
  const CodedMatrix& w = *task.w;
  const CodedRows& x = *task.x;
  for (int64_t n = task.begin; n < task.end; ++n) {
    for (int64_t i = 0; i < x.m; ++i) {
      int32_t sum = 0;
      for (int64_t k = 0; k < w.cols; ++k) sum += int32_t{x.codes[i * x.width + k]} * w.codes[CodeAt(x.width, n, k)];
      const float coded = static_cast<float>(sum) * (w.scales[n] * x.scales[i]);
      const float y = std::fma(w.norms[n], x.rests[i], std::fma(w.rests[n], x.norms[i], coded));
      task.y[i * task.ldy + n] = y;
      if (!task.maxima) continue;
      float& top = task.maxima[i * MaximaCount(w.rows) + n / kMaximaOf];
      top = n % kMaximaOf == 0 ? y : std::fmax(top, y);
    }
  }
}

}  // namespace fathom::kernels::reference
