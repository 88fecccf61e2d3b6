// Gradients of causal attention: choice of an implementation, and the reference. A head of a sequence is a task; the
// heads' shares of the shared rotated key's gradient are summed afterwards, in the order of the heads.
#include <algorithm>

#include "kernels/attention_backward.h"
#include "kernels/reference/train.h"
#include "kernels/registry.h"
#include "kernels/simd/attention_backward.h"
#include "kernels/train_ops.h"

namespace fathom::kernels {
namespace {

using Sequences = std::span<const AttentionBackwardArgs>;

void Reference(Context& ctx, Arena& scratch, const Sequences& sequences) {
  for (const AttentionBackwardArgs& args : sequences) {
    ArenaScope scope(scratch);
    double* shares = scratch.Take<double>(args.heads * args.tokens * args.dr);
    double* rows = scratch.Take<double>(args.tokens * ctx.pool.size());
    if (scratch.planning()) continue;
    const int64_t share = args.tokens * args.dr;
    std::fill_n(shares, args.heads * share, 0.0);
    ctx.pool.ParallelFor(args.heads, [&](int64_t head, int thread) {
      reference::AttentionBackward(args, head, shares + head * share, rows + thread * args.tokens);
    });
    for (int64_t t = 0; t < args.tokens; ++t) {
      for (int64_t i = 0; i < args.dr; ++i) {
        double sum = args.dk_rope[t * args.lddk_rope + i];
        for (int64_t h = 0; h < args.heads; ++h) sum += shares[h * share + t * args.dr + i];
        args.dk_rope[t * args.lddk_rope + i] = static_cast<float>(sum);
      }
    }
  }
}

bool WantsBf16(const Sequences& sequences) { return !sequences.empty() && RoundsToBf16(sequences.front().compute); }

template <Isa isa>
void Tiled(Context& ctx, Arena& scratch, const Sequences& sequences) {
  BackwardKernels kernels{.flash = FlashKernelsOf(isa, WantsBf16(sequences))};
#if defined(__x86_64__)
  kernels.step = kernels.flash.bf16  ? BackwardStepBf16
                 : isa == Isa::kSse4 ? sse4::BackwardStep
                 : isa == Isa::kAvx2 ? avx2::BackwardStep
                                     : avx512::BackwardStep;
  kernels.row_dots = isa == Isa::kSse4 ? sse4::RowDots : isa == Isa::kAvx2 ? avx2::RowDots : avx512::RowDots;
#else
  kernels.step = neon::BackwardStep;
  kernels.row_dots = neon::RowDots;
#endif
  AttentionBackwardTiled(ctx, scratch, sequences, kernels);
}

using BackwardEntry = Entry<void (*)(Context&, Arena&, const Sequences&), Sequences>;
constexpr BackwardEntry kAttentionBackward[] = {
#if defined(__x86_64__)
    {"amx", Isa::kAmx, Tiled<Isa::kAmx>, WantsBf16},
    {"avx512bf16", Isa::kAvx512Bf16, Tiled<Isa::kAvx512Bf16>, WantsBf16},
    {"avx512", Isa::kAvx512, Tiled<Isa::kAvx512>},
    {"avx2", Isa::kAvx2, Tiled<Isa::kAvx2>},
    {"sse4", Isa::kSse4, Tiled<Isa::kSse4>},
#else
    {"neon", Isa::kNeon, Tiled<Isa::kNeon>},
#endif
    {"reference", Isa::kReference, Reference}};

}  // namespace

void AttentionBackward(Context& ctx, Arena& scratch, std::span<const AttentionBackwardArgs> sequences) {
  for (const AttentionBackwardArgs& a : sequences) {
    FATHOM_CHECK(a.kv_dtype == DType::kF32 || a.kv_dtype == DType::kBF16);
    FATHOM_CHECK(a.compute == sequences.front().compute);
    FATHOM_CHECK(a.ldq >= a.heads * (a.dn + a.dr) && a.ldkv >= a.heads * (a.dn + a.dv) && a.ldo >= a.heads * a.dv);
  }
  Choose(ctx, "AttentionBackward", std::span<const BackwardEntry>(kAttentionBackward), sequences)
      .fn(ctx, scratch, sequences);
}

void AppendAttentionBackwardOps(std::vector<OpEntry>& ops) {
  AppendTable(ops, "AttentionBackward", kAttentionBackward);
}

}  // namespace fathom::kernels
