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
    int8_t* codes = to.codes + i * to.width;
    const Coded c = CodeRow(rounded, cols, codes);
    std::fill(codes + cols, codes + to.width, int8_t{0});
    to.scales[i] = c.scale;
    to.norms[i] = static_cast<float>(c.coded_norm * kUp);
    to.rests[i] = static_cast<float>((c.rest_norm + terms * unit * c.norm + kSubnormals) * kUp);
  });
}

template <void (*run)(const BoundsTask&)>
void Run(Context& ctx, const UpperBoundsArgs& args, const CodedRows& x) {
  static_assert(kMaximaOf % kCodedRows == 0);
  const int64_t rows = std::clamp<int64_t>(kTaskBytes / args.w.cols / kMaximaOf, 1, 8) * kMaximaOf;
  const int64_t tasks = CeilDiv(args.w.rows, rows);
  const auto first = [&](int64_t task) { return std::min(task * rows, args.w.rows); };
  ctx.pool.ParallelFor(tasks, [&](int64_t task, int) {
    run({&args.w, &x, first(task), first(task + 1), first(task + ctx.pool.size()), args.y, args.ldy, args.maxima});
  });
}

#if defined(__x86_64__)
void RunShifted(Context& ctx, const UpperBoundsArgs& args, const CodedRows& x) {
  ctx.pool.ParallelFor(x.m, [&](int64_t i, int) {
    const int8_t* codes = x.codes + i * x.width;
    std::transform(codes, codes + x.width, x.shifted + i * x.width,
                   [](int8_t code) { return static_cast<uint8_t>(code + 128); });
  });
  Run<BoundsAvx512Bf16>(ctx, args, x);
}
#endif

using BoundsEntry = Entry<void (*)(Context&, const UpperBoundsArgs&, const CodedRows&), UpperBoundsArgs>;
constexpr BoundsEntry kUpperBounds[] = {
#if defined(__x86_64__)
    {"avx512bf16", Isa::kAvx512Bf16, RunShifted},
#endif
    {"reference", Isa::kReference, Run<reference::UpperBounds>}};

}  // namespace

int64_t CodedBytes(int64_t rows, int64_t cols) {
  return RoundUp(rows, kCodedRows) * (CodedWidth(cols) + static_cast<int64_t>(sizeof(int32_t) + 3 * sizeof(float)));
}

CodedMatrix CodedMatrixIn(std::byte* memory, int64_t rows, int64_t cols) {
  const int64_t padded = RoundUp(rows, kCodedRows);
  auto* floats = reinterpret_cast<float*>(memory + padded * CodedWidth(cols));
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
  const int64_t width = CodedWidth(w.cols);
  ctx.pool.ParallelFor(CeilDiv(w.rows, kCodedRows), [&](int64_t task, int) {
    std::vector<float> values(static_cast<size_t>(w.cols));
    std::vector<int8_t> codes(static_cast<size_t>(width));
    for (int64_t n = task * kCodedRows; n < (task + 1) * kCodedRows; ++n) {
      if (n < w.rows)
        Widen(w, n, values.data());
      else
        std::fill(values.begin(), values.end(), 0.0f);
      const Coded c = CodeRow(values.data(), w.cols, codes.data());
      int8_t* to_row = to.codes + CodeAt(width, n, 0);
      for (int64_t k = 0; k < width; k += kCodedCols)
        std::copy_n(&codes[static_cast<size_t>(k)], kCodedCols, to_row + k * kCodedRows);
      to.sums[n] = std::accumulate(codes.begin(), codes.end(), 0);
      to.scales[n] = c.scale;
      to.norms[n] = static_cast<float>(c.norm * kUp);
      to.rests[n] = static_cast<float>(c.rest_norm * kUp);
    }
  });
}

bool FastUpperBounds(const Context& ctx, int64_t m) {
  // AMX multiplies bf16 faster than vectors do codes: there bounds spare bytes only. Not measured.
  constexpr int64_t kRowsBesideAmx = 32;
  if (Allows(ctx.isa, Isa::kAmx) && MachineHas(Isa::kAmx) && m > kRowsBesideAmx) return false;
  return Choose(ctx, "UpperBounds", std::span<const BoundsEntry>(kUpperBounds), UpperBoundsArgs{}).isa !=
         Isa::kReference;
}

void UpperBounds(Context& ctx, Arena& scratch, const UpperBoundsArgs& args) {
  const int64_t cols = args.w.cols;
  FATHOM_CHECK(args.ldx >= cols && args.ldy >= args.w.rows && args.m >= 0);
  const ArenaScope scope(scratch);
  CodedRows x{.m = args.m, .width = CodedWidth(cols)};
  x.codes = scratch.Take<int8_t>(args.m * x.width);
  x.shifted = scratch.Take<uint8_t>(args.m * x.width);
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
