// y = x w^T for a compact matrix (compact.h): what is read is three quarters of BF16. Codes become
// high bytes by look-up in a register, which are interleaved with the low ones: two instructions for 32 values, beside
// a product for each row of x. Whether rare values are among them is not asked of codes, in the units that the products
// fill (4 % of their time), but of the block's marks. A lane is a row of w, and sums are those of mul_bf16, to the bit.
#include "kernels/x86/compact_avx512bf16.h"

#include <immintrin.h>

#include "kernels/compact.h"
#include "kernels/x86/avx512_vec.h"

namespace fathom::kernels {
namespace {

using namespace avx512;  // NOLINT: this file's own vectors

constexpr int64_t kAhead = 6144;         // bytes along the memory: multiples of 4096 are 3 to 5 % slower
constexpr int kMostRows = kCompactPass;  // of x at a time: their sums and what a block is made of fit the registers
constexpr int kPieces = kCompactRows / kPieceRows, kPairs = kCompactCols / 2;
constexpr int kStepLines = kPieces * kPieceBytes / 64;
static_assert(kPieces == 2 && kPairs == 4 && kPieceRows == kLanes && kPieceBytes == 192);

// A piece as pairs of columns. `rare`: the high bytes that are left of the block, which are looked at if kRare.
template <bool kRare>
inline void Expand(__m512i table, const uint8_t* piece, const uint8_t** rare, __m512i (&pairs)[kPairs]) {
  const __m512i low4 = _mm512_set1_epi8(15), codes = _mm512_load_si512(piece);
  const __m512i first = _mm512_and_si512(codes, low4);
  const __m512i last = _mm512_and_si512(_mm512_srli_epi16(codes, 4), low4);
  __m512i high[2] = {_mm512_shuffle_epi8(table, first), _mm512_shuffle_epi8(table, last)};
  if constexpr (kRare) {
    const __mmask64 in_first = _mm512_testn_epi8_mask(first, first), in_last = _mm512_testn_epi8_mask(last, last);
    high[0] = _mm512_mask_expandloadu_epi8(high[0], in_first, *rare);
    *rare += __builtin_popcountll(in_first);
    high[1] = _mm512_mask_expandloadu_epi8(high[1], in_last, *rare);
    *rare += __builtin_popcountll(in_last);
  }
#pragma GCC unroll 2
  for (int half = 0; half < 2; ++half) {
    const __m512i low = _mm512_load_si512(piece + 64 + half * 64);
    pairs[2 * half] = _mm512_unpacklo_epi8(low, high[half]);
    pairs[2 * half + 1] = _mm512_unpackhi_epi8(low, high[half]);
  }
}

// A block of w with kM rows of x. kFirst: it may come from the memory, and so does what is kAhead bytes behind;
// otherwise it is in a cache. `next` is asked for meanwhile.
template <int kM, bool kFirst>
void Block(const Dot& d, const uint8_t* block, __m512i table, const Walk& walk, Asked next, int64_t first, float* y) {
  const uint16_t* x[kM];
#pragma GCC unroll 8
  for (int i = 0; i < kM; ++i) {
    x[i] = static_cast<const uint16_t*>(d.x) + (d.x_rows ? d.x_rows[first + i] : first + i) * d.ldx;
  }
  const auto* marks = reinterpret_cast<const uint64_t*>(block);
  const uint8_t *rare = block + CompactMarks(d.k), *p = block + CompactHead(d.k);
  int64_t asked = 0;  // rows of y
  for (int64_t begin = 0; begin < d.k; begin += kSumCutBf16) {
    const int64_t end = d.k - begin < kSumCutBf16 ? d.k : begin + kSumCutBf16;
    __m512 acc[kM][kPieces];
#pragma GCC unroll 8
    for (int i = 0; i < kM; ++i) acc[i][0] = acc[i][1] = _mm512_setzero_ps();
    for (int64_t k = begin; k < end; k += kCompactCols, p += kPieces * kPieceBytes) {
      const uint8_t* ahead = kFirst ? walk.Ahead(p, kAhead) : nullptr;
      next.Step();
      if (asked < kM) {
        __builtin_prefetch(y + asked * d.ldy, 1, 3);
        __builtin_prefetch(y + asked * d.ldy + kPieceRows, 1, 3);
        ++asked;
      }
      __m512i w[kPieces][kPairs];
      const int64_t step = k / kCompactCols;
      if (__builtin_expect(marks[step / 64] >> step % 64 & 1, 0)) {
        Expand<true>(table, p, &rare, w[0]);
        Expand<true>(table, p + kPieceBytes, &rare, w[1]);
      } else {
        Expand<false>(table, p, &rare, w[0]);
        Expand<false>(table, p + kPieceBytes, &rare, w[1]);
      }
#pragma GCC unroll 4
      for (int pair = 0; pair < kPairs; ++pair) {
        for (int line = pair * kStepLines / kPairs; kFirst && line < (pair + 1) * kStepLines / kPairs; ++line) {
          PrefetchFar(ahead + line * 64);
        }
#pragma GCC unroll 8
        for (int i = 0; i < kM; ++i) {
          const __m512i xv = BroadcastPair(x[i] + k + 2 * pair);
          acc[i][0] = DotPairs(acc[i][0], xv, w[0][pair]);
          acc[i][1] = DotPairs(acc[i][1], xv, w[1][pair]);
        }
      }
    }
#pragma GCC unroll 8
    for (int i = 0; i < kM; ++i) {
#pragma GCC unroll 2
      for (int piece = 0; piece < kPieces; ++piece) {
        float* to = y + i * d.ldy + piece * kPieceRows;
        _mm512_storeu_ps(to, begin == 0 ? acc[i][piece] : _mm512_add_ps(acc[i][piece], _mm512_loadu_ps(to)));
      }
    }
  }
}

template <bool kFirst>
constexpr void (*kBlocks[kMostRows])(const Dot&, const uint8_t*, __m512i, const Walk&, Asked, int64_t, float*) = {
    Block<1, kFirst>, Block<2, kFirst>, Block<3, kFirst>, Block<4, kFirst>,
    Block<5, kFirst>, Block<6, kFirst>, Block<7, kFirst>, Block<8, kFirst>};

}  // namespace

void DotCompact(const Dot& d) {
  const auto* block = static_cast<const uint8_t*>(d.w);
  const Walk walk = WalkTo(block + d.rows / kCompactRows * CompactBlock(d.k), d.next, d.w);
  const __m512i table = _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(d.high)));
  const int64_t groups = (d.m + kMostRows - 1) / kMostRows, group = (d.m + groups - 1) / groups;
  // The next block is asked for evenly while several groups of rows of x pass this one.
  const int lines = groups == 1 ? 0 : static_cast<int>((kStepLines + groups - 1) / groups);
  const int64_t asked = (d.k + kCompactCols - 1) / kCompactCols * lines * 64;  // bytes in a pass
  for (int64_t n = 0; n < d.rows; n += kCompactRows, block += CompactBlock(d.k)) {
    const uint8_t* next = walk.Ahead(block, CompactBlock(d.k));
    const uint8_t* end = next + CompactBlock(d.k);
    for (int64_t m = 0; m < d.m; m += group, next += asked) {
      const int64_t rows = d.m - m < group ? d.m - m : group;
      (m == 0 ? kBlocks<true> : kBlocks<false>)[rows - 1](d, block, table, walk, {next, next < end ? lines : 0}, m,
                                                          d.y + m * d.ldy + n);
    }
  }
}

}  // namespace fathom::kernels
