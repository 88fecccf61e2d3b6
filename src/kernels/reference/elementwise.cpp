#include "kernels/reference/elementwise.h"

#include <cmath>
#include <cstring>

#include "kernels/reference/linear.h"

namespace fathom::kernels::reference {

void RmsNorm(const RmsNormArgs& args, int64_t begin, int64_t end) {
  const auto* weight = static_cast<const std::byte*>(args.weight);
  for (int64_t row = begin; row < end; ++row) {
    const float* x = args.x + row * args.ldx;
    float* y = args.y + row * args.ldy;
    double squares = 0;
    for (int64_t i = 0; i < args.n; ++i) squares += static_cast<double>(x[i]) * x[i];
    const double inverse = 1 / std::sqrt(squares / static_cast<double>(args.n) + args.eps);
    for (int64_t i = 0; i < args.n; ++i) {
      y[i] = static_cast<float>(x[i] * inverse * Decode(weight, i, args.weight_dtype));
    }
  }
}

void Rope(const RopeArgs& args, int64_t begin, int64_t end) {
  const int64_t pairs = args.dim / 2;
  for (int64_t row = begin; row < end; ++row) {
    const float* cos = args.cos + args.positions[row] * pairs;
    const float* sin = args.sin + args.positions[row] * pairs;
    for (int64_t head = 0; head < args.heads; ++head) {
      float* x = args.x + row * args.row_stride + head * args.head_stride;
      for (int64_t i = 0; i < pairs; ++i) {
        const double a = x[2 * i], b = x[2 * i + 1];
        const double s = args.inverse ? -sin[i] : sin[i];
        x[2 * i] = static_cast<float>(a * cos[i] - b * s);
        x[2 * i + 1] = static_cast<float>(b * cos[i] + a * s);
      }
    }
  }
}

void Swiglu(const SwigluArgs& args, int64_t begin, int64_t end) {
  for (int64_t row = begin; row < end; ++row) {
    const float* gate = args.gate + row * args.ldx;
    const float* up = args.up + row * args.ldx;
    float* y = args.y + row * args.ldy;
    for (int64_t i = 0; i < args.n; ++i) {
      const double silu = gate[i] / (1 + std::exp(-static_cast<double>(gate[i])));
      y[i] = static_cast<float>(silu * up[i]);
    }
  }
}

void Combine(const CombineArgs& args, int64_t begin, int64_t end) {
  for (int64_t t = begin; t < end; ++t) {
    float* y = args.y + t * args.ldy;
    for (int64_t i = 0; i < args.n; ++i) {
      double sum = y[i];
      for (int64_t k = 0; k < args.top_k; ++k) {
        const int64_t row = args.row_of[t * args.top_k + k];
        const double weight = args.weights ? args.weights[t * args.top_k + k] : 1.0;
        if (row >= 0) sum += weight * args.x[row * args.ldx + i];
      }
      y[i] = static_cast<float>(sum);
    }
  }
}

void Embed(const EmbedArgs& args, int64_t begin, int64_t end) {
  const auto* table = static_cast<const std::byte*>(args.table);
  for (int64_t row = begin; row < end; ++row) {
    const std::byte* from = table + args.ids[row] * args.n * SizeOf(args.table_dtype);
    for (int64_t i = 0; i < args.n; ++i) args.y[row * args.ldy + i] = Decode(from, i, args.table_dtype);
  }
}

void CacheWrite(const CacheWriteArgs& args, int64_t begin, int64_t end) {
  for (int64_t row = begin; row < end; ++row) {
    const float* x = args.x + row * args.ldx;
    std::byte* to = args.cache.Row(args.position + row);
    for (int64_t i = 0; i < args.cache.width; ++i) {
      if (args.cache.dtype == DType::kBF16) {
        reinterpret_cast<uint16_t*>(to)[i] = F32ToBf16(x[i]);
      } else {
        reinterpret_cast<float*>(to)[i] = x[i];
      }
    }
  }
}

void CacheRead(const CacheReadArgs& args, int64_t begin, int64_t end) {
  for (int64_t row = begin; row < end; ++row) {
    const std::byte* from = args.cache.Row(args.begin + row);
    for (int64_t i = 0; i < args.n; ++i) {
      args.y[row * args.ldy + i] = Decode(from, args.column + i, args.cache.dtype);
    }
  }
}

int64_t FirstNonFinite(const float* x, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    if (!std::isfinite(x[i])) return i;
  }
  return -1;
}

}  // namespace fathom::kernels::reference
