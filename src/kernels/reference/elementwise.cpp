#include "kernels/reference/elementwise.h"

#include <algorithm>
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

namespace {

void WriteFp8Row(const LatentCache& cache, std::byte* row, const float* x) {
  const int64_t r = cache.latents();
  for (int64_t i = r; i < cache.scales_at(); ++i) row[i] = std::byte{0};
  for (int64_t c = 0; c < r; c += kFp8Block) {
    float scale;
    QuantizeRow(reinterpret_cast<uint8_t*>(row) + c, &scale, x + c, std::min(kFp8Block, r - c), false, kFp8AmaxFloor);
    std::memcpy(row + cache.scales_at() + c / kFp8Block * 4, &scale, sizeof scale);
  }
  for (int64_t i = 0; i < cache.rope; ++i) {
    const uint16_t bits = F32ToBf16(x[r + i]);
    std::memcpy(row + cache.rope_at() + 2 * i, &bits, sizeof bits);
  }
}

}  // namespace

float CacheValue(const LatentCache& cache, int64_t position, int64_t column) {
  const std::byte* row = cache.Row(position);
  if (cache.dtype != DType::kF8E4M3) return Decode(row, column, cache.dtype);
  if (column >= cache.latents()) return Decode(row + cache.rope_at(), column - cache.latents(), DType::kBF16);
  float scale;
  std::memcpy(&scale, row + cache.scales_at() + column / kFp8Block * 4, sizeof scale);
  return Decode(row, column, cache.dtype) * scale;
}

void CacheWrite(const CacheWriteArgs& args, int64_t begin, int64_t end) {
  for (int64_t row = begin; row < end; ++row) {
    const float* x = args.x + row * args.ldx;
    std::byte* to = args.cache.Row(args.position + row);
    if (args.cache.dtype == DType::kF8E4M3) {
      WriteFp8Row(args.cache, to, x);
      continue;
    }
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
    for (int64_t i = 0; i < args.n; ++i) {
      args.y[row * args.ldy + i] = CacheValue(args.cache, args.begin + row, args.column + i);
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
