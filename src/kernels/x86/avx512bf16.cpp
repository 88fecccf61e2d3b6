// Primitives of tiles.h for AVX512-BF16 with VBMI: bf16 products by vdpbf16ps, E4M3 codes widened to bf16 by table
// look-up in registers. vdpbf16ps takes subnormal bf16 for zero and rounds to nearest even.
#include <immintrin.h>

#include "kernels/tiles.h"
#include "kernels/x86/avx512_vec.h"
#include "kernels/x86/compact_avx512bf16.h"
#include "kernels/x86/fp8_avx512bf16.h"
#include "kernels/x86/quads_avx512bf16.h"
#include "kernels/x86/stream_avx512bf16.h"

namespace fathom::kernels {
namespace {

using namespace avx512;  // NOLINT: this file's own vectors

inline void PrefetchToWrite(const void* p) { __builtin_prefetch(p, 1, 3); }

// ---- C = A B ----

// Pairs [first, first + kSumCutBf16 / 2) of k.
template <int kR, int kP>
inline void MulBlock(const MulBf16& m, int64_t row, int64_t panel, int64_t first) {
  // Row r of A is quad[r / 4] + (r % 4) * step: few registers for up to 16 rows.
  constexpr int kQuads = (kR + 3) / 4;
  const int64_t step = m.lda, step3 = 3 * m.lda;
  const uint16_t* quad[kQuads];
#pragma GCC unroll 4
  for (int q = 0; q < kQuads; ++q) quad[q] = m.a + (row + 4 * q) * m.lda + 2 * first;
  const uint16_t* b = m.b + panel * m.ldb + first * 2 * kLanes;
  const int64_t kpairs = m.kpairs - first < kSumCutBf16 / 2 ? m.kpairs - first : kSumCutBf16 / 2;
  const bool accumulate = m.accumulate || first > 0;
  __m512 acc[kR][kP];
#pragma GCC unroll 32
  for (int r = 0; r < kR; ++r) {
#pragma GCC unroll 32
    for (int p = 0; p < kP; ++p) acc[r][p] = _mm512_setzero_ps();
  }
  // The next rows of A are on their way while these are multiplied.
  const uint16_t* next = row + kR < m.rows ? m.a + (row + kR) * m.lda : m.a_next;
  constexpr int64_t kLinePairs = 16;
  for (int64_t line = 0; line < kpairs; line += kLinePairs) {
    const int64_t end = line + kLinePairs < kpairs ? line + kLinePairs : kpairs;
    if (m.a_next) {
      const uint16_t* ahead = next + 2 * (first + line);
      for (int r = 0; r < kR; ++r, ahead += step) Prefetch(ahead);
    }
    for (int64_t k = line; k < end; ++k) {
      __m512i bv[kP];
#pragma GCC unroll 32
      for (int p = 0; p < kP; ++p) bv[p] = _mm512_loadu_si512(b + p * m.ldb + k * 2 * kLanes);
#pragma GCC unroll 32
      for (int r = 0; r < kR; ++r) {
        const uint16_t* base = quad[r / 4] + 2 * k;
        const __m512i av = BroadcastPair(r % 4 == 3 ? base + step3 : base + r % 4 * step);
#pragma GCC unroll 32
        for (int p = 0; p < kP; ++p) acc[r][p] = DotPairs(acc[r][p], av, bv[p]);
      }
    }
  }
#pragma GCC unroll 32
  for (int p = 0; p < kP; ++p) {
    const int64_t lane = (panel + p) * kLanes;
    __m512 s = _mm512_set1_ps(m.scale);
    if (m.lane_scale) s = _mm512_mul_ps(s, _mm512_loadu_ps(m.lane_scale + lane));
    float* c = m.c + row * m.ldc + lane;
#pragma GCC unroll 32
    for (int r = 0; r < kR; ++r, c += m.ldc) {
      _mm512_storeu_ps(c, accumulate ? _mm512_fmadd_ps(acc[r][p], s, _mm512_loadu_ps(c)) : _mm512_mul_ps(acc[r][p], s));
    }
  }
}

// The same with A in panels (tiles.h): kR rows that begin at a multiple of kR are of one panel. They come from a cache,
// C mostly does not.
template <int kR, int kP>
inline void MulBlockOfPanels(const MulBf16& m, int64_t row, int64_t panel, int64_t first) {
  const uint16_t* a = m.a + row / kLanes * m.lda + row % kLanes * 2 + first * 2 * kLanes;
  const uint16_t* b = m.b + panel * m.ldb + first * 2 * kLanes;
  const int64_t kpairs = m.kpairs - first < kSumCutBf16 / 2 ? m.kpairs - first : kSumCutBf16 / 2;
  const bool accumulate = m.accumulate || first > 0;
  __m512 acc[kR][kP];
#pragma GCC unroll 32
  for (int r = 0; r < kR; ++r) {
#pragma GCC unroll 32
    for (int p = 0; p < kP; ++p) acc[r][p] = _mm512_setzero_ps();
  }
  for (int r = 0; r < kR; ++r) {
#pragma GCC unroll 32
    for (int p = 0; p < kP; ++p) PrefetchToWrite(m.c + (row + r) * m.ldc + (panel + p) * kLanes);
  }
  for (int64_t k = 0; k < kpairs; ++k) {
    __m512i bv[kP];
#pragma GCC unroll 32
    for (int p = 0; p < kP; ++p) bv[p] = _mm512_loadu_si512(b + p * m.ldb + k * 2 * kLanes);
#pragma GCC unroll 32
    for (int r = 0; r < kR; ++r) {
      const __m512i av = BroadcastPair(a + k * 2 * kLanes + 2 * r);
#pragma GCC unroll 32
      for (int p = 0; p < kP; ++p) acc[r][p] = DotPairs(acc[r][p], av, bv[p]);
    }
  }
#pragma GCC unroll 32
  for (int p = 0; p < kP; ++p) {
    const int64_t lane = (panel + p) * kLanes;
    __m512 s = _mm512_set1_ps(m.scale);
    if (m.lane_scale) s = _mm512_mul_ps(s, _mm512_loadu_ps(m.lane_scale + lane));
    float* c = m.c + row * m.ldc + lane;
#pragma GCC unroll 32
    for (int r = 0; r < kR; ++r, c += m.ldc) {
      _mm512_storeu_ps(c, accumulate ? _mm512_fmadd_ps(acc[r][p], s, _mm512_loadu_ps(c)) : _mm512_mul_ps(acc[r][p], s));
    }
  }
}

template <bool panels, int kR, int kP>
inline void MulRows(const MulBf16& m, int64_t row, int64_t panel) {
  for (; row + kR <= m.rows; row += kR) {
    for (int64_t k = 0; k < m.kpairs; k += kSumCutBf16 / 2) {
      if constexpr (panels) {
        MulBlockOfPanels<kR, kP>(m, row, panel, k);
      } else {
        MulBlock<kR, kP>(m, row, panel, k);
      }
    }
  }
  if constexpr (kR > 1) MulRows<panels, kR / 2, kP>(m, row, panel);
}

// Registers hold the C block: 16 or 24 of 32.
template <bool panels>
void MulPanels(const MulBf16& m) {
  int64_t panel = 0;
  for (; panel + 3 <= m.panels && m.panels - panel != 4; panel += 3) MulRows<panels, 8, 3>(m, 0, panel);
  for (; panel + 2 <= m.panels; panel += 2) MulRows<panels, 8, 2>(m, 0, panel);
  for (; panel < m.panels; ++panel) MulRows<panels, 16, 1>(m, 0, panel);
}

void Mul(const MulBf16& m) {
  if (m.a_panels) {
    MulPanels<true>(m);
  } else {
    MulPanels<false>(m);
  }
}

// ---- y = x w^T, few rows of x ----

// The sums of the lanes of acc[r][i] to y[i * ldy + r * step], four at a time.
template <int kR, int kM>
inline void StoreSums(const __m512 (&acc)[kR][kM], float* y, int64_t ldy, int64_t step) {
  constexpr int kSums = kR * kM;
  const __m512 zero = _mm512_setzero_ps();
#pragma GCC unroll 32
  for (int s = 0; s < kSums; s += 4) {
    const auto at = [&](int i) __attribute__((always_inline)) { return i < kSums ? acc[i % kR][i / kR] : zero; };
    float four[4];
    _mm_storeu_ps(four, _mm512_castps512_ps128(SumLanes4(at(s), at(s + 1), at(s + 2), at(s + 3))));
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
      if (s + j < kSums) y[(s + j) / kR * ldy + (s + j) % kR * step] = four[j];
    }
  }
}

// Rows of x from which arithmetic leaves the hardware's own prefetching too little of the time: then the code asks
// ahead.
constexpr int kPrefetchFrom = 3;

// How a group of rows of w is passed by. The rows that are summed together lie `step` apart: each is then the next row
// of a stream of its own that runs through consecutive rows, which is what the memory delivers fastest; or they are
// neighbours.
struct RowWalk : Walk {  // ends where the first stream does, or the neighbours
  int64_t step;
};

inline RowWalk WalkOf(const Dot& d, int64_t row, int64_t rows, int64_t groups, bool streams, int64_t row_bytes) {
  const uint8_t* end = static_cast<const uint8_t*>(d.w) + (row + (streams ? groups : rows)) * row_bytes;
  return {WalkTo(end, d.next, d.w), streams ? groups : 1};
}

template <int kR, int kM>
inline void DotBf16Block(const Dot& d, int64_t row, int64_t m, const RowWalk& walk) {
  const int64_t step = walk.step;
  const uint16_t* w = static_cast<const uint16_t*>(d.w) + row * d.k;
  const uint16_t* x = static_cast<const uint16_t*>(d.x) + m * d.ldx;
  __m512 acc[kR][kM];
#pragma GCC unroll 32
  for (int r = 0; r < kR; ++r) {
#pragma GCC unroll 32
    for (int i = 0; i < kM; ++i) acc[r][i] = _mm512_setzero_ps();
  }
  int64_t k = 0;
  // W's values wait in registers and x's pass: the other way round eight rows of x and their sums are more than fit.
  for (; k + 32 <= d.k; k += 32) {
    __m512i wv[kR];
    if constexpr (kM >= kPrefetchFrom) {
      const uint8_t* here = reinterpret_cast<const uint8_t*>(w + k);
      const uint8_t *ahead = walk.Ahead(here, kAheadBytes), *far = walk.Ahead(here, kFarAheadBytes);
#pragma GCC unroll 32
      for (int r = 0; r < kR; ++r) {
        PrefetchFar(far + r * step * d.k * 2);
        Prefetch(ahead + r * step * d.k * 2);
      }
    }
#pragma GCC unroll 32
    for (int r = 0; r < kR; ++r) wv[r] = _mm512_loadu_si512(w + r * step * d.k + k);
#pragma GCC unroll 32
    for (int i = 0; i < kM; ++i) {
      const __m512i xv = _mm512_loadu_si512(x + i * d.ldx + k);
#pragma GCC unroll 32
      for (int r = 0; r < kR; ++r) acc[r][i] = DotPairs(acc[r][i], wv[r], xv);
    }
  }
  if (k < d.k) {
    const __mmask32 tail = (uint32_t{1} << (d.k - k)) - 1;
#pragma GCC unroll 32
    for (int r = 0; r < kR; ++r) {
      const __m512i wv = _mm512_maskz_loadu_epi16(tail, w + r * step * d.k + k);
#pragma GCC unroll 32
      for (int i = 0; i < kM; ++i) acc[r][i] = DotPairs(acc[r][i], wv, _mm512_loadu_si512(x + i * d.ldx + k));
    }
  }
  StoreSums(acc, d.y + m * d.ldy + row, d.ldy, step);
}

// Widening takes time too: further ahead than rows of bf16. Four rows are neighbours and asked for along the memory,
// fewer are streams.
constexpr int64_t kCodesAheadBytes = 4096;
constexpr bool AreNeighbours(int rows) { return rows == 4; }

// acc += 64 codes of each of kR rows, `stride` apart, times x; only the valid ones are read. `passed`: of
// neighbours, the place in the memory until which all has been read.
template <int kR, int kM>
inline void AddCodes(const E4m3Table& table, const uint8_t* w, int64_t stride, const uint16_t* x, int64_t ldx,
                     __mmask64 valid, const uint8_t* passed, const Walk& walk, __m512 (&acc)[kR][kM]) {
  const uint8_t* ahead =
      AreNeighbours(kR) ? walk.Ahead(passed, kNeighboursAheadBytes) : walk.Ahead(w, kCodesAheadBytes);
#pragma GCC unroll 32
  for (int r = 0; r < kR; ++r) {
    const uint8_t* p = w + r * stride;
    Prefetch(ahead + r * (AreNeighbours(kR) ? 64 : stride));
    __m512i low, high;
    table.Widen(valid == ~__mmask64{0} ? _mm512_loadu_si512(p) : _mm512_maskz_loadu_epi8(valid, p), &low, &high);
#pragma GCC unroll 32
    for (int i = 0; i < kM; ++i) {
      acc[r][i] = DotPairs(acc[r][i], low, _mm512_loadu_si512(x + i * ldx));
      acc[r][i] = DotPairs(acc[r][i], high, _mm512_loadu_si512(x + i * ldx + 32));
    }
  }
}

// E4M3 rows: 64 codes become two vectors of bf16; float32 sums of 128 are scaled into a second set of sums.
template <int kR, int kM>
inline void DotE4m3Block(const Dot& d, int64_t row, int64_t m, const RowWalk& walk) {
  constexpr __mmask64 kAll = ~__mmask64{0};
  const E4m3Table table = E4m3Table::Make();
  const int64_t stride = walk.step * d.k, ldx = d.ldx;
  const uint8_t* w = static_cast<const uint8_t*>(d.w) + row * d.k;
  const uint16_t* x = static_cast<const uint16_t*>(d.x) + m * ldx;
  __m512 total[kR][kM];
#pragma GCC unroll 32
  for (int r = 0; r < kR; ++r) {
#pragma GCC unroll 32
    for (int i = 0; i < kM; ++i) total[r][i] = _mm512_setzero_ps();
  }
  const uint8_t* passed = w;
  for (int64_t begin = 0; begin < d.k; begin += kScaleBlock, passed += kR * kScaleBlock) {
    __m512 acc[kR][kM];
#pragma GCC unroll 32
    for (int r = 0; r < kR; ++r) {
#pragma GCC unroll 32
      for (int i = 0; i < kM; ++i) acc[r][i] = _mm512_setzero_ps();
    }
    if (begin + kScaleBlock <= d.k) {
      AddCodes<kR, kM>(table, w + begin, stride, x + begin, ldx, kAll, passed, walk, acc);
      AddCodes<kR, kM>(table, w + begin + 64, stride, x + begin + 64, ldx, kAll, passed + kR * 64, walk, acc);
    } else {
      for (int64_t k = begin; k < d.k; k += 64) {
        AddCodes<kR, kM>(table, w + k, stride, x + k, ldx, d.k - k >= 64 ? kAll : (uint64_t{1} << (d.k - k)) - 1,
                         passed + kR * (k - begin), walk, acc);
      }
    }
#pragma GCC unroll 32
    for (int i = 0; i < kM; ++i) {
      float s = d.w_scale[begin / kScaleBlock];
      if (d.x_scale) s *= d.x_scale[(m + i) * d.ldxs + begin / kScaleBlock];
      const __m512 sv = _mm512_set1_ps(s);
#pragma GCC unroll 32
      for (int r = 0; r < kR; ++r) total[r][i] = _mm512_fmadd_ps(acc[r][i], sv, total[r][i]);
    }
  }
  StoreSums(total, d.y + m * d.ldy + row, d.ldy, walk.step);
}

// Streams shorter than this are not worth their beginnings: there the kR rows are neighbours.
constexpr int64_t kStreamBytes = 1 << 13;

// kM rows of x with kR rows of w at a time; the last rows of w in smaller groups.
template <int kR, int kM>
inline void DotBf16Rows(const Dot& d, int64_t row, int64_t m) {
  const int64_t groups = (d.rows - row) / kR;
  const bool streams = groups * d.k * 2 >= kStreamBytes;
  const RowWalk walk = WalkOf(d, row, groups * kR, groups, streams, d.k * 2);
  for (int64_t g = 0; g < groups; ++g) DotBf16Block<kR, kM>(d, row + (streams ? g : g * kR), m, walk);
  if constexpr (kR > 1) DotBf16Rows<kR / 2, kM>(d, row + groups * kR, m);
}
template <int kR, int kM>
inline void DotE4m3Rows(const Dot& d, int64_t row, int64_t m) {
  const int64_t groups = (d.rows - row) / kR;
  const bool streams = !AreNeighbours(kR) && groups * d.k >= kStreamBytes;
  const RowWalk walk = WalkOf(d, row, groups * kR, groups, streams, d.k);
  for (int64_t g = 0; g < groups; ++g) DotE4m3Block<kR, kM>(d, row + (streams ? g : g * kR), m, walk);
  if constexpr (kR > 1) DotE4m3Rows<kR / 2, kM>(d, row + groups * kR, m);
}

// Sums in registers: at most 24 of 32.
void DotBf16(const Dot& d) {
  int64_t m = 0;
  for (; d.m - m > 8; m += 8) DotBf16Rows<3, 8>(d, 0, m);
  switch (d.m - m) {
    case 1:
      return DotBf16Rows<4, 1>(d, 0, m);
    case 2:
      return DotBf16Rows<4, 2>(d, 0, m);
    case 3:
      return DotBf16Rows<4, 3>(d, 0, m);
    case 4:
      return DotBf16Rows<4, 4>(d, 0, m);
    case 5:
      return DotBf16Rows<4, 5>(d, 0, m);
    case 6:
      return DotBf16Rows<4, 6>(d, 0, m);
    case 7:
      return DotBf16Rows<3, 7>(d, 0, m);
    case 8:
      return DotBf16Rows<3, 8>(d, 0, m);
    default:
      return;
  }
}

// Two sums an element and six registers of tables. More than four rows of x take another pass over the codes.
void DotE4m3(const Dot& d) {
  int64_t m = 0;
  for (; d.m - m > 4; m += 4) DotE4m3Rows<2, 4>(d, 0, m);
  switch (d.m - m) {
    case 1:
      return DotE4m3Rows<4, 1>(d, 0, m);
    case 2:
      return DotE4m3Rows<4, 2>(d, 0, m);
    case 3:
      return DotE4m3Rows<2, 3>(d, 0, m);
    case 4:
      return DotE4m3Rows<2, 4>(d, 0, m);
    default:
      return;
  }
}

// ---- Rows ----

void WidenE4m3(uint16_t* out, const void* in, int64_t n) {
  const E4m3Table table = E4m3Table::Make();
  const uint8_t* codes = static_cast<const uint8_t*>(in);
  __m512i first, second;
  int64_t i = 0;
  for (; i + 64 <= n; i += 64) {
    table.Widen(_mm512_loadu_si512(codes + i), &first, &second);
    _mm512_storeu_si512(out + i, first);
    _mm512_storeu_si512(out + i + 32, second);
  }
  if (i == n) return;
  const __mmask64 valid = (uint64_t{1} << (n - i)) - 1;
  table.Widen(_mm512_maskz_loadu_epi8(valid, codes + i), &first, &second);
  _mm512_mask_storeu_epi16(out + i, static_cast<__mmask32>(valid), first);
  _mm512_mask_storeu_epi16(out + i + 32, static_cast<__mmask32>(valid >> 32), second);
}

// 32 values of bf16 times a scale in float32, rounded: the even ones, then the odd ones.
inline __m512i Scaled(__m512i values, __m512 scale) {
  const __m512 even = _mm512_castsi512_ps(_mm512_slli_epi32(values, 16));
  const __m512 odd = _mm512_castsi512_ps(_mm512_and_si512(values, _mm512_set1_epi32(static_cast<int>(0xffff0000u))));
  return (__m512i)_mm512_cvtne2ps_pbh(_mm512_mul_ps(odd, scale), _mm512_mul_ps(even, scale));
}

void ScaleE4m3(uint16_t* out, const void* in, const void* scales, int64_t n) {
  alignas(64) static constexpr uint16_t kOrder[32] = {0, 16, 1, 17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
                                                      8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
  const E4m3Table table = E4m3Table::Make();
  const __m512i order = _mm512_load_si512(kOrder);
  const uint8_t* codes = static_cast<const uint8_t*>(in);
  const auto scale_at = [&](int64_t i) {
    float scale;
    __builtin_memcpy(&scale, static_cast<const uint8_t*>(scales) + i / kScaleBlock * 4, sizeof scale);
    return _mm512_set1_ps(scale);
  };
  __m512i first, second;
  int64_t i = 0;
  for (; i + 64 <= n; i += 64) {
    const __m512 scale = scale_at(i);
    table.Widen(_mm512_loadu_si512(codes + i), &first, &second);
    _mm512_storeu_si512(out + i, _mm512_permutexvar_epi16(order, Scaled(first, scale)));
    _mm512_storeu_si512(out + i + 32, _mm512_permutexvar_epi16(order, Scaled(second, scale)));
  }
  if (i == n) return;
  const __m512 scale = scale_at(i);
  const __mmask64 valid = (uint64_t{1} << (n - i)) - 1;
  table.Widen(_mm512_maskz_loadu_epi8(valid, codes + i), &first, &second);
  _mm512_mask_storeu_epi16(out + i, static_cast<__mmask32>(valid),
                           _mm512_permutexvar_epi16(order, Scaled(first, scale)));
  _mm512_mask_storeu_epi16(out + i + 32, static_cast<__mmask32>(valid >> 32),
                           _mm512_permutexvar_epi16(order, Scaled(second, scale)));
}

void RoundBf16(uint16_t* out, const float* in, int64_t n) {
  int64_t i = 0;
  for (; i + 32 <= n; i += 32) {  // masked stores cost several times a plain one
    const __m512bh rounded = _mm512_cvtne2ps_pbh(_mm512_loadu_ps(in + i + 16), _mm512_loadu_ps(in + i));
    _mm512_storeu_si512(out + i, (__m512i)rounded);
  }
  for (; i < n; i += 16) {
    const __mmask16 valid = FirstLanes(n - i);
    const __m256i rounded = (__m256i)_mm512_cvtneps_pbh(_mm512_maskz_loadu_ps(valid, in + i));
    _mm256_mask_storeu_epi16(out + i, valid, rounded);
  }
}

// 16 x 16. A function of its own: inlined into a loop each of the 32 addresses becomes a variable that lies in memory
// and is advanced there.
template <bool around>
__attribute__((noinline)) void Transpose16Rows(uint32_t* out, int64_t ldo, const uint32_t* in, int64_t ldi) {
  __m512i v[16];
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i, in += ldi) v[i] = _mm512_loadu_si512(in);
  Transpose16(v);
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i, out += ldo) StoreLine(out, v[i], around);
}

// A block of fewer rows or columns, likewise: its addresses would be made ready for whole blocks too.
__attribute__((noinline)) void TransposePart(uint32_t* out, int64_t ldo, const uint32_t* in, int64_t ldi,
                                             int64_t height, int64_t width) {
  const __mmask16 row_mask = FirstLanes(height), col_mask = FirstLanes(width);
  __m512i v[16];
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) {
    v[i] = i < height ? _mm512_maskz_loadu_epi32(col_mask, in + i * ldi) : _mm512_setzero_si512();
  }
  Transpose16(v);
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) {
    if (i < width) _mm512_mask_storeu_epi32(out + i * ldo, row_mask, v[i]);
  }
}

void Transpose32(void* out_bytes, int64_t ldo, const void* in_bytes, int64_t ldi, int64_t rows, int64_t cols) {
  uint32_t* out = static_cast<uint32_t*>(out_bytes);
  const uint32_t* in = static_cast<const uint32_t*>(in_bytes);
  const bool around = StoredAround(out, ldo);
  const auto whole = around ? Transpose16Rows<true> : Transpose16Rows<false>;
  for (int64_t r = 0; r < rows; r += 16) {
    for (int64_t c = 0; c < cols; c += 16) {
      if (r + 16 <= rows && c + 16 <= cols) {  // nearly all blocks; masked stores cost several times a plain one
        whole(out + c * ldo + r, ldo, in + r * ldi + c, ldi);
      } else {
        TransposePart(out + c * ldo + r, ldo, in + r * ldi + c, ldi, rows - r, cols - c);
      }
    }
  }
  if (around) StoresDone();
}

// Two panels at a time: the words of an even and an odd row interleaved.
void PairRows(uint16_t* b, int64_t ldb, const uint16_t* w, int64_t ldw, int64_t k, int64_t n) {
  alignas(64) static constexpr uint16_t kFirst[32] = {0, 32, 1, 33, 2,  34, 3,  35, 4,  36, 5,  37, 6,  38, 7,  39,
                                                      8, 40, 9, 41, 10, 42, 11, 43, 12, 44, 13, 45, 14, 46, 15, 47};
  const __m512i first = _mm512_load_si512(kFirst);
  const __m512i second = _mm512_add_epi16(first, _mm512_set1_epi16(16));
  for (int64_t r = 0; r < k; r += 2, b += 2 * kLanes) {
    const uint16_t* even = w + r * ldw;
    const uint16_t* odd = even + ldw;
    const bool paired = r + 1 < k;
    constexpr int64_t kAhead = 16;  // rows are short pieces of memory, which no hardware fetches ahead
    for (int64_t c = 0; c < n && r + kAhead + 1 < k; c += 2 * kLanes) {
      PrefetchFar(even + kAhead * ldw + c);
      PrefetchFar(odd + kAhead * ldw + c);
    }
    for (int64_t c = 0; c < n; c += 2 * kLanes) {
      const __mmask32 valid = n - c >= 32 ? ~uint32_t{0} : (uint32_t{1} << (n - c)) - 1;
      const __m512i e = _mm512_maskz_loadu_epi16(valid, even + c);
      const __m512i o = paired ? _mm512_maskz_loadu_epi16(valid, odd + c) : _mm512_setzero_si512();
      uint16_t* to = b + c / kLanes * ldb;
      _mm512_storeu_si512(to, _mm512_permutex2var_epi16(e, first, o));
      if (n - c > kLanes) _mm512_storeu_si512(to + ldb, _mm512_permutex2var_epi16(e, second, o));
    }
  }
}

void PairRounded(uint16_t* b, int64_t ldb, const float* even, const float* odd, int64_t n) {
  // Of vcvtne2ps2bf16's result: the even row's 16 values, then the odd row's.
  alignas(64) static constexpr uint16_t kOrder[32] = {0, 16, 1, 17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
                                                      8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
  const __m512i order = _mm512_load_si512(kOrder);
  for (int64_t c = 0; c < n; c += kLanes, b += ldb) {
    const __mmask16 valid = FirstLanes(n - c);
    const __m512 e = _mm512_maskz_loadu_ps(valid, even + c);
    const __m512 o = odd ? _mm512_maskz_loadu_ps(valid, odd + c) : _mm512_setzero_ps();
    _mm512_storeu_si512(b, _mm512_permutexvar_epi16(order, (__m512i)_mm512_cvtne2ps_pbh(o, e)));
  }
}

}  // namespace

bool AddAvx512Bf16(Tiles* tiles) {
  tiles->mul_bf16 = Mul;
  tiles->a_panels = true;
  tiles->dot_bf16_bf16 = DotBf16;
  tiles->dot_bf16_e4m3 = DotE4m3;
  tiles->dot_compact = DotCompact;
  tiles->stream_bf16 = StreamBf16;
  tiles->stream_e4m3 = StreamE4m3;
  tiles->quads_bf16 = QuadsBf16;
  tiles->quads_e4m3 = QuadsE4m3;
  tiles->widen_e4m3_bf16 = WidenE4m3;
  tiles->scale_e4m3_bf16 = ScaleE4m3;
  tiles->round_bf16 = RoundBf16;
  tiles->transpose32 = Transpose32;
  tiles->pair_rows = PairRows;
  tiles->pair_rounded = PairRounded;
  tiles->quantize_rows_bf16 = QuantizeRowsBf16;
  tiles->mul_scaled_bf16 = MulScaledBf16;
  tiles->column_tile_bf16 = ColumnTileBf16;
  tiles->pair_codes = PairCodes;
  tiles->turn_codes = TurnCodes;
  return true;
}

}  // namespace fathom::kernels
