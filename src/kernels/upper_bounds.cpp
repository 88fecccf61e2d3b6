// UpperBounds and CodeMatrix: choice of an implementation, codes, tasks.
//
// With x = s q + dx and w = t c + dw (q, c codes; s, t scales) a product is x w = s t (q c) + s q dw + dx w, of which
// the last two are at most |s q| |dw| and |dx| |w| (Cauchy and Schwarz). Linear's float32 sums of K products are off by
// K u |x| |w| at most, u = 2^-24, whatever their order (Higham, Accuracy and Stability of Numerical Algorithms, 3.1),
// the bounds' own few operations by less than another K u |x| |w| where K is at least 64; both are added to the rest of
// x.
#include "kernels/upper_bounds.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <vector>

#include "kernels/linear_tiles.h"
#include "kernels/reference/upper_bounds.h"
#include "kernels/registry.h"

namespace fathom::kernels {
namespace {

constexpr int64_t kTaskBytes = 1 << 17;
constexpr float kCode = 127;
constexpr float kWhole = 12582912;     // 1.5 * 2^23: adding it rounds to a whole number, the nearest even
constexpr double kUp = 1 + 1e-6;       // beyond the roundings of a norm
constexpr double kSubnormals = 1e-30;  // products that a unit takes for zero
constexpr int64_t kLeastTerms = 64;    // K that the bounds' own roundings are counted as

// f(k, k % kParts) for k < n: sums in parts, so that the compiler may take several at once.
constexpr int kParts = 8;
template <class F>
inline void InParts(int64_t n, const F& f) {
  int64_t k = 0;
  for (; k + kParts <= n; k += kParts) {
    for (int part = 0; part < kParts; ++part) f(k + part, part);
  }
  for (int part = 0; k + part < n; ++part) f(k + part, part);
}

// Codes of n values; norms of what they stand for and of the rest. Infinite norms where a value is not finite.
struct Coded {
  float scale;
  double norm, coded_norm, rest_norm;
};
Coded CodeRow(const float* x, int64_t n, int8_t* codes) {
  float tops[kParts] = {};
  double alls[kParts] = {}, codeds[kParts] = {}, rests[kParts] = {};
  InParts(n, [&](int64_t k, int part) {
    tops[part] = std::fabs(x[k]) > tops[part] ? std::fabs(x[k]) : tops[part];
    alls[part] += static_cast<double>(x[k]) * x[k];
  });
  const float top = *std::max_element(tops, tops + kParts);
  const double all = std::accumulate(alls, alls + kParts, 0.0);
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  const float scale = top / kCode;
  if (!std::isfinite(all) || !std::isnormal(scale)) {  // nothing is known, or so little that it does not matter
    std::fill_n(codes, n, int8_t{0});
    const double norm = std::isfinite(all) ? std::sqrt(all) : kInfinity;
    return {0, norm, 0, norm};
  }
  const float inverse = 1 / scale;
  InParts(n, [&](int64_t k, int part) {
    const float code = (x[k] * inverse + kWhole) - kWhole;  // 127 at most: three roundings do not make it 127.5
    codes[k] = static_cast<int8_t>(code);
    const double value = static_cast<double>(scale) * code, left = x[k] - value;
    codeds[part] += value * value;
    rests[part] += left * left;
  });
  const double coded = std::accumulate(codeds, codeds + kParts, 0.0);
  const double rest = std::accumulate(rests, rests + kParts, 0.0);
  return {scale, std::sqrt(all), std::sqrt(coded), std::sqrt(rest)};
}

void Widen(const Weight& w, int64_t row, float* to) {
  const std::byte* from = w.RowData(row);
  const auto* halves = reinterpret_cast<const uint16_t*>(from);
  if (w.dtype == DType::kF32)
    std::memcpy(to, from, static_cast<size_t>(w.cols) * sizeof(float));
  else if (w.dtype == DType::kBF16)
    std::transform(halves, halves + w.cols, to, Bf16ToF32);
  else
    std::transform(halves, halves + w.cols, to, F16ToF32);
}

void CodeX(Context& ctx, const UpperBoundsArgs& args, const CodedRows& to, float* values) {
  const int64_t cols = args.w.cols;
  const double unit = std::ldexp(1.0, -24), terms = static_cast<double>(cols + std::max(cols, kLeastTerms));
  ctx.pool.ParallelFor(args.m, [&](int64_t i, int thread) {
    const float* x = args.x + i * args.ldx;
    float* rounded = values + thread * cols;
    for (int64_t k = 0; k < cols; ++k) rounded[k] = args.round ? RoundToBf16(x[k]) : x[k];
    const Coded c = CodeRow(rounded, cols, to.codes + i * cols);
    to.scales[i] = c.scale;
    to.norms[i] = static_cast<float>(c.coded_norm * kUp);
    to.rests[i] = static_cast<float>((c.rest_norm + terms * unit * c.norm + kSubnormals) * kUp);
  });
}

template <void (*run)(const BoundsTask&)>
void Run(Context& ctx, const UpperBoundsArgs& args, const CodedRows& x) {
  static_assert(kMaximaOf % kCodedRows == 0);
  const int64_t rows = std::clamp<int64_t>(kTaskBytes / args.w.cols / kMaximaOf, 1, 8) * kMaximaOf;
  ctx.pool.ParallelFor(CeilDiv(args.w.rows, rows), [&](int64_t task, int) {
    run({&args.w, &x, task * rows, std::min((task + 1) * rows, args.w.rows), args.y, args.ldy, args.maxima});
  });
}

#if defined(__x86_64__)
void ToQuads(Context& ctx, int64_t cols, const CodedRows& x) {
  constexpr int64_t kQuad = 4, kValues = 16;
  const int64_t group = QuadGroup(x.m);
  ctx.pool.ParallelFor(CeilDiv(x.m, kQuad), [&](int64_t quad, int) {
    const int64_t first = quad * kQuad / group * group, rows = std::min(group, RoundUp(x.m - first, kQuad));
    uint8_t* to = x.quads + first * cols + (quad * kQuad - first) * kValues;
    for (int64_t i = 0; i < kQuad; ++i, to += kValues) {
      const int64_t row = quad * kQuad + i;
      for (int64_t k = 0; k < cols; ++k) {
        const int code = row < x.m ? x.codes[row * cols + k] : 0;
        to[k / kValues * rows * kValues + k % kValues] = static_cast<uint8_t>(code + 128);
      }
    }
  });
}
void RunQuads(Context& ctx, const UpperBoundsArgs& args, const CodedRows& x) {
  ToQuads(ctx, args.w.cols, x);
  Run<BoundsAvx512Bf16>(ctx, args, x);
}
#endif

using BoundsEntry = Entry<void (*)(Context&, const UpperBoundsArgs&, const CodedRows&), UpperBoundsArgs>;
constexpr BoundsEntry kUpperBounds[] = {
#if defined(__x86_64__)
    {"avx512bf16", Isa::kAvx512Bf16, RunQuads, [](const UpperBoundsArgs& args) { return args.w.cols % 64 == 0; }},
#endif
    {"reference", Isa::kReference, Run<reference::UpperBounds>}};

}  // namespace

int64_t CodedBytes(int64_t rows, int64_t cols) {
  return RoundUp(rows, kCodedRows) * (cols + static_cast<int64_t>(sizeof(int32_t) + 3 * sizeof(float)));
}

CodedMatrix CodedMatrixIn(std::byte* memory, int64_t rows, int64_t cols) {
  const int64_t padded = RoundUp(rows, kCodedRows);
  auto* floats = reinterpret_cast<float*>(memory + padded * cols);
  return {.rows = rows,
          .cols = cols,
          .codes = reinterpret_cast<int8_t*>(memory),
          .sums = reinterpret_cast<int32_t*>(floats + 3 * padded),
          .scales = floats,
          .norms = floats + padded,
          .rests = floats + 2 * padded};
}

void CodeMatrix(Context& ctx, const Weight& w, const CodedMatrix& to) {
  FATHOM_CHECK(to.rows == w.rows && to.cols == w.cols && w.dtype != DType::kF8E4M3);
  ctx.pool.ParallelFor(CeilDiv(w.rows, kCodedRows), [&](int64_t task, int) {
    std::vector<float> values(static_cast<size_t>(w.cols));
    for (int64_t n = task * kCodedRows; n < (task + 1) * kCodedRows; ++n) {
      int8_t* codes = to.codes + n * w.cols;
      if (n < w.rows)
        Widen(w, n, values.data());
      else
        std::fill(values.begin(), values.end(), 0.0f);
      const Coded c = CodeRow(values.data(), w.cols, codes);
      int32_t sum = 0;
      for (int64_t k = 0; k < w.cols; ++k) sum += codes[k];
      to.sums[n] = sum;
      to.scales[n] = c.scale;
      to.norms[n] = static_cast<float>(c.norm * kUp);
      to.rests[n] = static_cast<float>(c.rest_norm * kUp);
    }
  });
}

bool FastUpperBounds(const Context& ctx, int64_t cols, int64_t m) {
  // AMX multiplies bf16 faster than vectors do codes: there bounds spare bytes only. Not measured.
  constexpr int64_t kRowsBesideAmx = 32;
  if (Allows(ctx.isa, Isa::kAmx) && MachineHas(Isa::kAmx) && m > kRowsBesideAmx) return false;
  UpperBoundsArgs args;
  args.w.cols = cols;
  return Choose(ctx, "UpperBounds", std::span<const BoundsEntry>(kUpperBounds), args).isa != Isa::kReference;
}

void UpperBounds(Context& ctx, Arena& scratch, const UpperBoundsArgs& args) {
  const int64_t cols = args.w.cols;
  FATHOM_CHECK(args.ldx >= cols && args.ldy >= args.w.rows && args.m >= 0);
  const ArenaScope scope(scratch);
  CodedRows x{.m = args.m};
  x.codes = scratch.Take<int8_t>(args.m * cols);
  x.quads = scratch.Take<uint8_t>(RoundUp(args.m, 4) * cols);
  x.scales = scratch.Take<float>(args.m);
  x.norms = scratch.Take<float>(args.m);
  x.rests = scratch.Take<float>(args.m);
  float* values = scratch.Take<float>(cols * ctx.pool.size());
  if (scratch.planning() || args.m == 0) return;
  CodeX(ctx, args, x, values);
  Choose(ctx, "UpperBounds", std::span<const BoundsEntry>(kUpperBounds), args).fn(ctx, args, x);
}

void AppendUpperBoundsOps(std::vector<OpEntry>& ops) { AppendTable(ops, "UpperBounds", kUpperBounds); }

}  // namespace fathom::kernels
