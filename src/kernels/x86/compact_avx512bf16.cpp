// y = x w^T for few rows of x and a compact matrix (compact.h): codes become high bytes by look-up in a register, which
// are interleaved with the low ones. That takes two instructions for 32 values, beside a product for each row of x;
// what is read is three quarters of BF16.
//
// The order of a sum: of each 64 values the first and the last 32 in turn, by pairs, in 16 sums along k.
#include "kernels/x86/compact_avx512bf16.h"

#include <immintrin.h>

#include "kernels/compact.h"
#include "kernels/x86/avx512_vec.h"

namespace fathom::kernels {
namespace {

using namespace avx512;  // NOLINT: this file's own vectors

constexpr int64_t kAhead = 8192;  // bytes along the memory
constexpr int kMostRows = 8;      // of x at a time

// The high bytes of a piece's values, first and last 64. `rare`: of what is left of the row.
struct HighBytes {
  __m512i half[2];
};
inline HighBytes HighBytesOf(__m512i table, __m512i codes, const uint8_t** rare) {
  const __m512i low4 = _mm512_set1_epi8(15);
  const __m512i first = _mm512_and_si512(codes, low4);
  const __m512i last = _mm512_and_si512(_mm512_srli_epi16(codes, 4), low4);
  HighBytes high{{_mm512_shuffle_epi8(table, first), _mm512_shuffle_epi8(table, last)}};
  const __mmask64 in_first = _mm512_testn_epi8_mask(first, first), in_last = _mm512_testn_epi8_mask(last, last);
  if (__builtin_expect(!_kortestz_mask64_u8(in_first, in_last), 0)) {
    high.half[0] = _mm512_mask_expandloadu_epi8(high.half[0], in_first, *rare);
    *rare += __builtin_popcountll(in_first);
    high.half[1] = _mm512_mask_expandloadu_epi8(high.half[1], in_last, *rare);
    *rare += __builtin_popcountll(in_last);
  }
  return high;
}

inline __m512 AddNeighbours(__m512 a, __m512 b) {
  return _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
}

// The sums of the lanes of two rows of w with kM rows of x, to y[i * kLanes].
template <int kM>
inline void StorePairs(const __m512 (&acc)[kM][2], float* y) {
#pragma GCC unroll 4
  for (int i = 0; i < kM; i += 2) {
    const int j = i + 1 < kM ? i + 1 : i;
    const __m512d a = _mm512_castps_pd(AddNeighbours(acc[i][0], acc[i][1]));
    const __m512d b = _mm512_castps_pd(AddNeighbours(acc[j][0], acc[j][1]));
    const __m512 quarters =
        _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(a, b)), _mm512_castpd_ps(_mm512_unpackhi_pd(a, b)));
    const __m256 halves = _mm256_add_ps(_mm512_castps512_ps256(quarters), _mm512_extractf32x8_ps(quarters, 1));
    const __m128 sums = _mm_add_ps(_mm256_castps256_ps128(halves), _mm256_extractf128_ps(halves, 1));
    _mm_storel_pi(reinterpret_cast<__m64*>(y + i * kLanes), sums);
    if (j > i) _mm_storeh_pi(reinterpret_cast<__m64*>(y + j * kLanes), sums);
  }
}

// kM rows of x, from `first` on, with all of w.
template <int kM>
void Rows(const Dot& d, int64_t first) {
  const auto* x = static_cast<const uint16_t*>(d.x) + first * d.ldx;
  const int64_t row = CompactRow(d.k), head = CompactHead(d.k);
  const auto* block = static_cast<const uint8_t*>(d.w);
  const Walk walk = WalkTo(block + d.rows / kCompactRows * CompactBlock(d.k), d.next, d.w);
  const __m512i table = _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(d.high)));
  for (int64_t n = 0; n < d.rows; n += kCompactRows, block += CompactBlock(d.k)) {
    alignas(64) float sums[kM][kLanes];
    const auto* places = reinterpret_cast<const uint16_t*>(block);
    const uint8_t* w = block + head;
    for (int64_t r = 0; r < kCompactRows; r += 2, w += 2 * row) {
      const uint8_t* rare[2] = {block + kCompactPlaces + places[r], block + kCompactPlaces + places[r + 1]};
      __m512 acc[kM][2];
#pragma GCC unroll 8
      for (int i = 0; i < kM; ++i) acc[i][0] = acc[i][1] = _mm512_setzero_ps();
      const uint8_t* p = w;
      for (int64_t k = 0; k < d.k; k += kCompactCols, p += 2 * kCompactPiece) {
        const uint8_t* ahead = walk.Ahead(p, kAhead);
#pragma GCC unroll 6
        for (int line = 0; line < 6; ++line) PrefetchFar(ahead + line * 64);
        const HighBytes high[2] = {HighBytesOf(table, _mm512_load_si512(p), &rare[0]),
                                   HighBytesOf(table, _mm512_load_si512(p + kCompactPiece), &rare[1])};
#pragma GCC unroll 2
        for (int half = 0; half < 2; ++half) {
          __m512i values[2][2];
#pragma GCC unroll 2
          for (int j = 0; j < 2; ++j) {
            const __m512i low = _mm512_load_si512(p + j * kCompactPiece + 64 + half * 64);
            values[j][0] = _mm512_unpacklo_epi8(low, high[j].half[half]);
            values[j][1] = _mm512_unpackhi_epi8(low, high[j].half[half]);
          }
          const uint16_t* xp = x + k + half * 64;
#pragma GCC unroll 8
          for (int i = 0; i < kM; ++i, xp += d.ldx) {
            const __m512i x0 = _mm512_loadu_si512(xp), x1 = _mm512_loadu_si512(xp + 32);
#pragma GCC unroll 2
            for (int j = 0; j < 2; ++j) {
              acc[i][j] = DotPairs(acc[i][j], values[j][0], x0);
              acc[i][j] = DotPairs(acc[i][j], values[j][1], x1);
            }
          }
        }
      }
      StorePairs<kM>(acc, &sums[0][r]);
    }
    float* y = d.y + first * d.ldy + n;
#pragma GCC unroll 8
    for (int i = 0; i < kM; ++i, y += d.ldy) _mm512_storeu_ps(y, _mm512_load_ps(sums[i]));
  }
}

}  // namespace

void DotCompact(const Dot& d) {
  constexpr void (*kRowsOf[kMostRows])(const Dot&, int64_t) = {Rows<1>, Rows<2>, Rows<3>, Rows<4>,
                                                               Rows<5>, Rows<6>, Rows<7>, Rows<8>};
  for (int64_t m = 0; m < d.m; m += kMostRows) kRowsOf[(d.m - m < kMostRows ? d.m - m : kMostRows) - 1](d, m);
}

}  // namespace fathom::kernels
