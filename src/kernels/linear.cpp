// Linear, LinearTransposed and QuantizeTiles: choice of an implementation.
#include <algorithm>

#include "kernels/linear_tiles.h"
#include "kernels/reference/linear.h"
#include "kernels/registry.h"

namespace fathom::kernels {
namespace {

template <Isa isa>
void RunLinear(Context& ctx, Arena& scratch, const LinearArgs& args) {
  LinearWith(*TilesOf(isa), ctx, scratch, args);
}

struct TransposedArgs {
  std::span<const LinearTransposedJob> jobs;
  Compute compute;
};
template <Isa isa>
void RunTransposed(Context& ctx, Arena& scratch, const TransposedArgs& args) {
  LinearTransposedWith(*TilesOf(isa), ctx, scratch, args.jobs, args.compute);
}
void ReferenceTransposed(Context& ctx, Arena& scratch, const TransposedArgs& args) {
  reference::LinearTransposed(ctx, scratch, args.jobs, args.compute);
}

template <Isa isa>
void RunQuantize(Context& ctx, const QuantizeTilesArgs& args) {
  constexpr int64_t kValuesPerTask = 1 << 14;
  const Tiles& tiles = *TilesOf(isa);
  const int64_t grain = std::max<int64_t>(1, kValuesPerTask / std::max<int64_t>(args.n, 1));
  ctx.pool.ParallelFor(CeilDiv(args.rows, grain), [&](int64_t task, int) {
    for (int64_t i = task * grain; i < std::min((task + 1) * grain, args.rows); ++i) {
      tiles.quantize(args.codes + i * args.n, nullptr, args.scales + i * CeilDiv(args.n, kFp8Block),
                     args.x + i * args.ldx, args.n, args.ue8m0, kFp8AmaxFloor);
    }
  });
}

using LinearEntry = Entry<void (*)(Context&, Arena&, const LinearArgs&), LinearArgs>;
constexpr LinearEntry kLinear[] = {
    {"amx", Isa::kAmx, RunLinear<Isa::kAmx>},          {"avx512bf16", Isa::kAvx512Bf16, RunLinear<Isa::kAvx512Bf16>},
    {"avx512", Isa::kAvx512, RunLinear<Isa::kAvx512>}, {"avx2", Isa::kAvx2, RunLinear<Isa::kAvx2>},
    {"sse4", Isa::kSse4, RunLinear<Isa::kSse4>},       {"neon", Isa::kNeon, RunLinear<Isa::kNeon>},
    {"reference", Isa::kReference, reference::Linear},
};

using TransposedEntry = Entry<void (*)(Context&, Arena&, const TransposedArgs&), TransposedArgs>;
constexpr TransposedEntry kLinearTransposed[] = {
    {"amx", Isa::kAmx, RunTransposed<Isa::kAmx>},
    {"avx512bf16", Isa::kAvx512Bf16, RunTransposed<Isa::kAvx512Bf16>},
    {"avx512", Isa::kAvx512, RunTransposed<Isa::kAvx512>},
    {"avx2", Isa::kAvx2, RunTransposed<Isa::kAvx2>},
    {"sse4", Isa::kSse4, RunTransposed<Isa::kSse4>},
    {"neon", Isa::kNeon, RunTransposed<Isa::kNeon>},
    {"reference", Isa::kReference, ReferenceTransposed},
};

using QuantizeEntry = Entry<void (*)(Context&, const QuantizeTilesArgs&), QuantizeTilesArgs>;
constexpr QuantizeEntry kQuantizeTiles[] = {
    {"avx512", Isa::kAvx512, RunQuantize<Isa::kAvx512>},
    {"avx2", Isa::kAvx2, RunQuantize<Isa::kAvx2>},
    {"sse4", Isa::kSse4, RunQuantize<Isa::kSse4>},
    {"neon", Isa::kNeon, RunQuantize<Isa::kNeon>},
    {"reference", Isa::kReference, reference::QuantizeTiles},
};

}  // namespace

void Linear(Context& ctx, Arena& scratch, const LinearArgs& args) {
  Choose(ctx, "Linear", std::span<const LinearEntry>(kLinear), args).fn(ctx, scratch, args);
}

void LinearTransposed(Context& ctx, Arena& scratch, std::span<const LinearTransposedJob> jobs, Compute compute) {
  const TransposedArgs args{jobs, compute};
  Choose(ctx, "LinearTransposed", std::span<const TransposedEntry>(kLinearTransposed), args).fn(ctx, scratch, args);
}

void QuantizeTiles(Context& ctx, const QuantizeTilesArgs& args) {
  Choose(ctx, "QuantizeTiles", std::span<const QuantizeEntry>(kQuantizeTiles), args).fn(ctx, args);
}

void AppendLinearOps(std::vector<OpEntry>& ops) {
  AppendTable(ops, "Linear", kLinear);
  AppendTable(ops, "LinearTransposed", kLinearTransposed);
  AppendTable(ops, "QuantizeTiles", kQuantizeTiles);
}

}  // namespace fathom::kernels
