// UpperBounds for AVX512-VNNI, which every processor with AVX512-BF16 has. A lane is a row of w: four columns of 16
// rows are multiplied by four codes of a row of x at a time, and there is nothing to add up at the end. vpdpbusd takes
// unsigned codes on one side: those of x plus 128, so that 128 times the sum of w's codes is taken off again.
#include <immintrin.h>

#include "kernels/tiles.h"
#include "kernels/upper_bounds.h"
#include "kernels/x86/avx512_vec.h"

namespace fathom::kernels {
namespace {

using namespace avx512;  // NOLINT: this file's own vectors

constexpr int kMostRows = 8;  // of x at a time: 11 or 12, for which there are registers too, are 5 % slower
constexpr int kHalves = kCodedRows / kLanes;
constexpr int kSteps = kCodedStep / kCodedCols;
constexpr int kStepLines = kCodedStep * kCodedRows / 64;
constexpr int64_t kAhead = 6144;  // bytes along the memory
static_assert(kHalves == 2 && kCodedCols == 4 && kMaximaOf % kCodedRows == 0);

inline __m512i BroadcastCodes(const uint8_t* p) {
  int codes;
  __builtin_memcpy(&codes, p, sizeof codes);
  return _mm512_set1_epi32(codes);
}

// Rows [first, first + kM) of x with rows [n, n + kMaximaOf) of w, as far as the task goes. kFirst: these may come from
// the memory, and so does what is kAhead bytes behind; otherwise they are in a cache. `next` is asked for meanwhile.
template <int kM, bool kFirst>
void Rows(const BoundsTask& t, const Walk& walk, Asked next, int64_t first, int64_t n) {
  const CodedMatrix& w = *t.w;
  const int64_t width = t.x->width;
  const bool around = StoredAround(t.y + first * t.ldy + n, t.ldy);
  const int64_t end = n + kMaximaOf < t.end ? n + kMaximaOf : t.end;
  __m512 tops[kM];
#pragma GCC unroll 8
  for (int i = 0; i < kM; ++i) tops[i] = _mm512_set1_ps(-__builtin_inff());
  const auto* p = reinterpret_cast<const uint8_t*>(w.codes + n * width);
  for (int64_t block = n; block < end; block += kCodedRows) {
    const uint8_t* x = t.x->shifted + first * width;
    __m512i sums[kM][kHalves];
#pragma GCC unroll 8
    for (int i = 0; i < kM; ++i) sums[i][0] = sums[i][1] = _mm512_setzero_si512();
    for (int64_t k = 0; k < width; k += kCodedStep, x += kCodedStep) {
      const uint8_t* ahead = kFirst ? walk.Ahead(p, kAhead) : nullptr;
      next.Step();
#pragma GCC unroll 4
      for (int step = 0; step < kSteps; ++step, p += 64 * kHalves) {
        for (int line = 0; kFirst && line < kStepLines / kSteps; ++line, ahead += 64) PrefetchFar(ahead);
        const __m512i w0 = _mm512_load_si512(p), w1 = _mm512_load_si512(p + 64);
#pragma GCC unroll 8
        for (int i = 0; i < kM; ++i) {
          const __m512i xv = BroadcastCodes(x + i * width + step * kCodedCols);
          sums[i][0] = _mm512_dpbusd_epi32(sums[i][0], xv, w0);
          sums[i][1] = _mm512_dpbusd_epi32(sums[i][1], xv, w1);
        }
      }
    }
#pragma GCC unroll 2
    for (int half = 0; half < kHalves; ++half) {
      const int64_t row = block + half * kLanes;
      const __mmask16 lanes = row < end ? FirstLanes(end - row) : 0;
      const __m512i offset = _mm512_slli_epi32(_mm512_loadu_si512(w.sums + row), 7);
      const __m512 scale = _mm512_loadu_ps(w.scales + row), norm = _mm512_loadu_ps(w.norms + row);
      const __m512 rest = _mm512_loadu_ps(w.rests + row);
#pragma GCC unroll 8
      for (int i = 0; i < kM; ++i) {
        const int64_t to = first + i;
        const __m512 sum = _mm512_cvtepi32_ps(_mm512_sub_epi32(sums[i][half], offset));
        const __m512 coded = _mm512_mul_ps(sum, _mm512_mul_ps(scale, _mm512_set1_ps(t.x->scales[to])));
        const __m512 y = _mm512_fmadd_ps(norm, _mm512_set1_ps(t.x->rests[to]),
                                         _mm512_fmadd_ps(rest, _mm512_set1_ps(t.x->norms[to]), coded));
        if (lanes == 0xffff) {
          StoreLine(t.y + to * t.ldy + row, _mm512_castps_si512(y), around);
        } else {
          _mm512_mask_storeu_ps(t.y + to * t.ldy + row, lanes, y);
        }
        tops[i] = _mm512_mask_max_ps(tops[i], lanes, tops[i], y);
      }
    }
  }
  if (!t.maxima) return;
  const int64_t blocks = MaximaCount(w.rows);
#pragma GCC unroll 8
  for (int i = 0; i < kM; ++i) t.maxima[(first + i) * blocks + n / kMaximaOf] = _mm512_reduce_max_ps(tops[i]);
}

template <bool kFirst>
constexpr void (*kRows[kMostRows])(const BoundsTask&, const Walk&, Asked, int64_t, int64_t) = {
    Rows<1, kFirst>, Rows<2, kFirst>, Rows<3, kFirst>, Rows<4, kFirst>,
    Rows<5, kFirst>, Rows<6, kFirst>, Rows<7, kFirst>, Rows<8, kFirst>};

}  // namespace

void BoundsAvx512Bf16(const BoundsTask& t) {
  const int64_t m = t.x->m, groups = (m + kMostRows - 1) / kMostRows, group = (m + groups - 1) / groups;
  const int64_t block = kMaximaOf * t.x->width;
  const auto* codes = reinterpret_cast<const uint8_t*>(t.w->codes);
  const Walk walk =
      WalkTo(codes + t.end * t.x->width, codes + (t.next < t.w->rows ? t.next : t.begin) * t.x->width, codes);
  // The next rows of w are asked for evenly while several groups of rows of x pass these.
  const int lines = groups == 1 ? 0 : static_cast<int>((kStepLines + groups - 1) / groups);
  const int64_t asked = kMaximaOf / kCodedRows * t.x->width / kCodedStep * lines * 64;  // bytes in a pass
  for (int64_t n = t.begin; n < t.end; n += kMaximaOf) {
    const uint8_t *next = walk.Ahead(codes + n * t.x->width, block), *end = next + block;
    for (int64_t first = 0; first < m; first += group, next += asked) {
      const int64_t rows = m - first < group ? m - first : group;
      (first == 0 ? kRows<true> : kRows<false>)[rows - 1](t, walk, {next, next < end ? lines : 0}, first, n);
    }
  }
  if (StoredAround(t.y + t.begin, t.ldy)) StoresDone();
}

}  // namespace fathom::kernels
