// y = x w^T for few rows of x, with sums in the order of mul_bf16, to the bit: rows of w are turned, so that 16 of them
// stand in lanes, and multiplied by pairs of x. What turning costs is mostly hidden behind the memory.
//
// Most of w is taken 16 rows and a cache line of each at a time. What is left, the last rows of w and rows that are not
// whole lines, goes by in strips of kStripRows rows and kStrip values, which become panels in the first cache.
#include "kernels/x86/stream_avx512bf16.h"

#include <immintrin.h>

#include "kernels/x86/avx512_vec.h"

namespace fathom::kernels {
namespace {

using namespace avx512;  // NOLINT: this file's own vectors

// ---- Strips ----

constexpr int64_t kStrip = 128;  // values of k
constexpr int kStripPanels = 4;
constexpr int64_t kStripRows = kStripPanels * kLanes;
constexpr int64_t kMostRows = 16;  // of x at a time

struct alignas(64) StripSpace {
  uint16_t panels[kStripPanels][kStrip * kLanes];
  float sums[kMostRows][kStripRows];  // of a piece of k
  float total[kMostRows][kStripRows];
};

// 16 words of up to 16 rows, `bytes` of them valid: word j of every row in v[j]. Others are zero.
inline void TurnWords(const uint8_t* p, int64_t step, int64_t rows, int64_t bytes, __m512i v[16]) {
  if (rows >= 16 && bytes >= 64) {
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i) v[i] = _mm512_loadu_si512(p + i * step);
  } else {
    const __mmask64 valid = bytes >= 64 ? ~uint64_t{0} : (uint64_t{1} << bytes) - 1;
    for (int i = 0; i < 16; ++i)
      v[i] = i < rows ? _mm512_maskz_loadu_epi8(valid, p + i * step) : _mm512_setzero_si512();
  }
  Transpose16(v);
}

// Of the four codes of each word the first two and the last two, where unpacking takes each for a lane's pair.
inline __m512i CodePairs() {
  return _mm512_broadcast_i32x4(_mm_setr_epi8(0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15));
}

// `bytes` of up to 16 rows as a panel.
template <bool kCodes>
inline void TurnPanel(const E4m3Table& table, const uint8_t* p, int64_t step, int64_t rows, int64_t bytes,
                      uint16_t* panel) {
  const __m512i order = CodePairs();
  for (int64_t at = 0; at < bytes; at += 64) {
    __m512i v[16];
    TurnWords(p + at, step, rows, bytes - at, v);
#pragma GCC unroll 16
    for (int j = 0; j < 16; ++j) {
      if constexpr (kCodes) {
        __m512i first, second;
        table.WidenInOrder(_mm512_shuffle_epi8(v[j], order), &first, &second);
        _mm512_store_si512(panel, first);
        _mm512_store_si512(panel + 2 * kLanes, second);
        panel += 4 * kLanes;
      } else {
        _mm512_store_si512(panel, v[j]);
        panel += 2 * kLanes;
      }
    }
  }
}

// sums (kM rows of x, kP panels) = or += the products over `pairs`.
template <int kM, int kP>
inline void MulStrip(StripSpace* space, int64_t row, int64_t panel, const uint16_t* x, int64_t ldx, int64_t pairs,
                     bool fresh) {
  __m512 acc[kM][kP];
#pragma GCC unroll 8
  for (int i = 0; i < kM; ++i) {
#pragma GCC unroll 4
    for (int p = 0; p < kP; ++p) {
      acc[i][p] = fresh ? _mm512_setzero_ps() : _mm512_load_ps(space->sums[row + i] + (panel + p) * kLanes);
    }
  }
  for (int64_t k = 0; k < pairs; ++k) {
    __m512i w[kP];
#pragma GCC unroll 4
    for (int p = 0; p < kP; ++p) w[p] = _mm512_load_si512(space->panels[panel + p] + k * 2 * kLanes);
#pragma GCC unroll 8
    for (int i = 0; i < kM; ++i) {
      const __m512i xv = BroadcastPair(x + (row + i) * ldx + 2 * k);
#pragma GCC unroll 4
      for (int p = 0; p < kP; ++p) acc[i][p] = DotPairs(acc[i][p], xv, w[p]);
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < kM; ++i) {
#pragma GCC unroll 4
    for (int p = 0; p < kP; ++p) _mm512_store_ps(space->sums[row + i] + (panel + p) * kLanes, acc[i][p]);
  }
}

void MulStrips(StripSpace* space, int64_t m, const uint16_t* x, int64_t ldx, int64_t pairs, bool fresh) {
  int64_t row = 0;
  for (; row + 8 <= m; row += 8) {
    for (int64_t p = 0; p < kStripPanels; p += 2) MulStrip<8, 2>(space, row, p, x, ldx, pairs, fresh);
  }
  if (m & 4) {
    MulStrip<4, 4>(space, row, 0, x, ldx, pairs, fresh);
    row += 4;
  }
  if (m & 2) {
    MulStrip<2, 4>(space, row, 0, x, ldx, pairs, fresh);
    row += 2;
  }
  if (m & 1) MulStrip<1, 4>(space, row, 0, x, ldx, pairs, fresh);
}

// total = or += sums * scale.
inline void AddPiece(StripSpace* space, int64_t row, float scale, bool first) {
  const __m512 s = _mm512_set1_ps(scale);
  for (int64_t i = 0; i < kStripRows; i += kLanes) {
    float* t = space->total[row] + i;
    const __m512 sum = _mm512_load_ps(space->sums[row] + i);
    _mm512_store_ps(t, first ? _mm512_mul_ps(sum, s) : _mm512_fmadd_ps(sum, s, _mm512_load_ps(t)));
  }
}

// Rows [row, row + rows) of w with m rows of x from `first` on.
template <bool kCodes>
void StripProduct(const Dot& d, StripSpace* space, int64_t row, int64_t rows, int64_t first, int64_t m) {
  constexpr int64_t kSize = kCodes ? 1 : 2, kCut = kCodes ? kScaleBlock : kSumCutBf16;
  const E4m3Table table = E4m3Table::Make();
  const int64_t step = d.k * kSize;
  const uint8_t* w = static_cast<const uint8_t*>(d.w) + row * step;
  const uint16_t* x = static_cast<const uint16_t*>(d.x) + first * d.ldx;
  for (int64_t k = 0; k < d.k; k += kStrip) {
    const int64_t n = d.k - k < kStrip ? d.k - k : kStrip;
    for (int64_t p = 0; p < kStripPanels; ++p) {
      TurnPanel<kCodes>(table, w + p * kLanes * step + k * kSize, step, rows - p * kLanes, n * kSize, space->panels[p]);
    }
    MulStrips(space, m, x + k, d.ldx, (n + 1) / 2, k % kCut == 0);
    if ((k + n) % kCut != 0 && k + n < d.k) continue;
    for (int64_t i = 0; i < m; ++i) {
      const int64_t tile = k / kScaleBlock;
      float scale = kCodes ? d.w_scale[tile] : 1.0f;
      if (kCodes && d.x_scale) scale *= d.x_scale[(first + i) * d.ldxs + tile];
      AddPiece(space, i, scale, k < kCut);
    }
  }
  for (int64_t i = 0; i < m; ++i) {
    float* y = d.y + (first + i) * d.ldy + row;
    for (int64_t c = 0; c < rows; c += kLanes) {
      const __m512 t = _mm512_load_ps(space->total[i] + c);
      if (rows - c >= kLanes) {
        _mm512_storeu_ps(y + c, t);
      } else {
        _mm512_mask_storeu_ps(y + c, FirstLanes(rows - c), t);
      }
    }
  }
}

// ---- Whole lines: turned by loads and in registers, and multiplied at once ----

// 16 bytes of 16 rows: word j of every row in v[j].
inline void TurnPieces(const uint8_t* p, int64_t step, __m512i v[4]) {
  const auto load = [&](int64_t i) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p + i * step)); };
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    v[i] = _mm512_castsi128_si512(load(i));
    v[i] = _mm512_mask_broadcast_i32x4(v[i], 0x00f0, load(i + 4));
    v[i] = _mm512_mask_broadcast_i32x4(v[i], 0x0f00, load(i + 8));
    v[i] = _mm512_mask_broadcast_i32x4(v[i], 0xf000, load(i + 12));
  }
  const __m512i a = _mm512_unpacklo_epi32(v[0], v[1]), b = _mm512_unpackhi_epi32(v[0], v[1]);
  const __m512i e = _mm512_unpacklo_epi32(v[2], v[3]), f = _mm512_unpackhi_epi32(v[2], v[3]);
  v[0] = _mm512_unpacklo_epi64(a, e);
  v[1] = _mm512_unpackhi_epi64(a, e);
  v[2] = _mm512_unpacklo_epi64(b, f);
  v[3] = _mm512_unpackhi_epi64(b, f);
}

// acc += 64 bytes of 16 rows times x.
template <bool kCodes, int kM>
inline void MulLine(const E4m3Table& table, const uint8_t* p, int64_t step, const uint16_t* x, int64_t ldx,
                    __m512 (&acc)[kM]) {
  const __m512i order = CodePairs();
  for (int c = 0; c < 4; ++c, p += 16) {
    __m512i v[4];
    TurnPieces(p, step, v);
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
      if constexpr (kCodes) {
        __m512i w[2];
        table.WidenInOrder(_mm512_shuffle_epi8(v[j], order), &w[0], &w[1]);
#pragma GCC unroll 8
        for (int i = 0; i < kM; ++i) {
          acc[i] = DotPairs(acc[i], BroadcastPair(x + i * ldx), w[0]);
          acc[i] = DotPairs(acc[i], BroadcastPair(x + i * ldx + 2), w[1]);
        }
        x += 4;
      } else {
#pragma GCC unroll 8
        for (int i = 0; i < kM; ++i) acc[i] = DotPairs(acc[i], BroadcastPair(x + i * ldx), v[j]);
        x += 2;
      }
    }
  }
}

constexpr int64_t kLinesAhead = 8;
constexpr int64_t kStreamRows = 8;  // of x at a time

// 16 rows of w with kM rows of x; k is whole lines.
template <bool kCodes, int kM>
void StreamProduct(const Dot& d, int64_t row, int64_t first) {
  constexpr int64_t kSize = kCodes ? 1 : 2, kStep = 64 / kSize, kCut = kCodes ? kScaleBlock : kSumCutBf16;
  const E4m3Table table = E4m3Table::Make();
  const int64_t step = d.k * kSize;
  const uint8_t* w = static_cast<const uint8_t*>(d.w) + row * step;
  const uint16_t* x = static_cast<const uint16_t*>(d.x) + first * d.ldx;
  alignas(64) float total[kM][kLanes];
  for (int64_t begin = 0; begin < d.k; begin += kCut) {
    const int64_t end = begin + kCut < d.k ? begin + kCut : d.k;
    __m512 acc[kM];
#pragma GCC unroll 8
    for (int i = 0; i < kM; ++i) acc[i] = _mm512_setzero_ps();
    for (int64_t k = begin; k < end; k += kStep) {
      // The line of each row some way on; behind a row's end, of the row that is 16 rows on.
      const int64_t at = k * kSize + kLinesAhead * 64;
      const uint8_t* ahead = w + (at < step ? at : at + (kLanes - 1) * step);
      for (int i = 0; i < 16; ++i, ahead += step) PrefetchFar(ahead);
      MulLine<kCodes, kM>(table, w + k * kSize, step, x + k, d.ldx, acc);
    }
#pragma GCC unroll 8
    for (int i = 0; i < kM; ++i) {
      float scale = kCodes ? d.w_scale[begin / kScaleBlock] : 1.0f;
      if (kCodes && d.x_scale) scale *= d.x_scale[(first + i) * d.ldxs + begin / kScaleBlock];
      const __m512 s = _mm512_set1_ps(scale);
      float* t = total[i];
      _mm512_store_ps(t, begin == 0 ? _mm512_mul_ps(acc[i], s) : _mm512_fmadd_ps(acc[i], s, _mm512_load_ps(t)));
    }
  }
  for (int i = 0; i < kM; ++i) _mm512_storeu_ps(d.y + (first + i) * d.ldy + row, _mm512_load_ps(total[i]));
}

template <bool kCodes>
void Run(const Dot& d) {
  constexpr void (*kProducts[kStreamRows])(const Dot&, int64_t, int64_t) = {
      StreamProduct<kCodes, 1>, StreamProduct<kCodes, 2>, StreamProduct<kCodes, 3>, StreamProduct<kCodes, 4>,
      StreamProduct<kCodes, 5>, StreamProduct<kCodes, 6>, StreamProduct<kCodes, 7>, StreamProduct<kCodes, 8>};
  int64_t row = 0;
  for (; d.k * (kCodes ? 1 : 2) % 64 == 0 && row + kLanes <= d.rows; row += kLanes) {
    for (int64_t m = 0; m < d.m; m += kStreamRows) {
      kProducts[(d.m - m < kStreamRows ? d.m - m : kStreamRows) - 1](d, row, m);
    }
  }
  StripSpace space;
  for (; row < d.rows; row += kStripRows) {
    const int64_t rows = d.rows - row < kStripRows ? d.rows - row : kStripRows;
    for (int64_t m = 0; m < d.m; m += kMostRows) {
      StripProduct<kCodes>(d, &space, row, rows, m, d.m - m < kMostRows ? d.m - m : kMostRows);
    }
  }
}

}  // namespace

void StreamBf16(const Dot& d) { Run<false>(d); }
void StreamE4m3(const Dot& d) { Run<true>(d); }

void TurnCodes(uint16_t* panel, const uint8_t* codes, int64_t ld, int64_t rows, int64_t n) {
  TurnPanel<true>(E4m3Table::Make(), codes, ld, rows, n, panel);
}

}  // namespace fathom::kernels
