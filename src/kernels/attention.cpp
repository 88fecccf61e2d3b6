// Causal attention in the full form: choice of an implementation, and the tiled one (flash.h) with a head and up to 64
// queries a task. A task copies its tiles of keys [k_nope, rotated key] and values into its thread's scratch: they
// serve 64 queries there, and the key's two parts become one row.
#include <algorithm>
#include <cmath>

#include "kernels/flash.h"
#include "kernels/ops.h"
#include "kernels/reference/attention.h"
#include "kernels/registry.h"

namespace fathom::kernels {
namespace {

constexpr int64_t kTasksPerThread = 8;

using AttentionEntry = Entry<void (*)(Context&, Arena&, const AttentionArgs&), AttentionArgs>;

void AttentionReference(Context& ctx, Arena& scratch, const AttentionArgs& args) {
  ArenaScope scope(scratch);
  double* sums = scratch.Take<double>(args.dv * ctx.pool.size());
  if (scratch.planning()) return;
  ctx.pool.ParallelFor(args.tokens * args.heads, [&](int64_t task, int thread) {
    reference::Attention(args, task / args.heads, task % args.heads, sums + thread * args.dv);
  });
}

void FillTiles(const Flash& flash, const AttentionArgs& args, int64_t head, int64_t first, int64_t keys) {
  const int64_t size = SizeOf(args.kv_dtype), element = flash.element();
  for (int64_t j = 0; j < keys; ++j) {
    const int64_t t = first + j;
    const auto* row = static_cast<const std::byte*>(args.kv) + (t * args.ldkv + head * (args.dn + args.dv)) * size;
    std::byte* key = flash.key_tile() + j * flash.ldk() * element;
    flash.Convert(key, row, args.kv_dtype, args.dn);
    flash.Convert(key + args.dn * element, args.cache.RopeRow(t, args.dr), args.cache.rope_dtype(), args.dr);
    if ((args.dn + args.dr) % 2) std::fill_n(key + (args.dn + args.dr) * element, element, std::byte{0});
    flash.Convert(flash.value_tile() + j * flash.ldv() * element, row + args.dn * size, args.kv_dtype, args.dv);
  }
}

template <Isa isa>
void AttentionOf(Context& ctx, Arena& scratch, const AttentionArgs& args) {
  AttentionTiled(ctx, scratch, args, FlashKernelsOf(isa, RoundsToBf16(args.compute)));
}

#if defined(__x86_64__)
bool WantsBf16(const AttentionArgs& args) { return RoundsToBf16(args.compute); }
#endif

constexpr AttentionEntry kAttention[] = {
#if defined(__x86_64__)
    {"amx", Isa::kAmx, AttentionOf<Isa::kAmx>, WantsBf16},
    {"avx512bf16", Isa::kAvx512Bf16, AttentionOf<Isa::kAvx512Bf16>, WantsBf16},
    {"avx512", Isa::kAvx512, AttentionOf<Isa::kAvx512>},
    {"avx2", Isa::kAvx2, AttentionOf<Isa::kAvx2>},
    {"sse4", Isa::kSse4, AttentionOf<Isa::kSse4>},
#else
    {"neon", Isa::kNeon, AttentionOf<Isa::kNeon>},
#endif
    {"reference", Isa::kReference, AttentionReference}};

}  // namespace

void AttentionTiled(Context& ctx, Arena& scratch, const AttentionArgs& args, const FlashKernels& kernels) {
  const int64_t k = args.dn + args.dr;
  const int64_t all = (args.tokens + kFlashLanes - 1) / kFlashLanes;
  const int64_t shared = all * args.heads / (kTasksPerThread * ctx.pool.size());
  const int64_t blocks = std::clamp<int64_t>(shared, 1, std::min(kFlashBlocks, std::max<int64_t>(all, 1)));
  const int64_t bytes = Flash::Bytes(kernels, k, args.dv, blocks);
  ArenaScope scope(scratch);
  std::byte* memory = scratch.Take<std::byte>(bytes * ctx.pool.size());
  if (scratch.planning()) return;
  const int64_t groups = (all + blocks - 1) / blocks;
  ctx.pool.ParallelFor(groups * args.heads, [&](int64_t task, int thread) {
    const int64_t head = task % args.heads;
    const int64_t first = (groups - 1 - task / args.heads) * blocks * kFlashLanes;  // the last see most: they begin
    const int64_t end = std::min(first + blocks * kFlashLanes, args.tokens);
    Flash flash(kernels, k, args.dv, blocks, memory + thread * bytes);
    const auto begin_of = [&](int64_t block) { return first + block * kFlashLanes; };
    const auto end_of = [&](int64_t block) { return std::min(begin_of(block) + kFlashLanes, end); };
    const int64_t used = (end - first + kFlashLanes - 1) / kFlashLanes;
    for (int64_t b = 0; b < used; ++b) {
      flash.Begin(b, args.q + begin_of(b) * args.ldq + head * k, args.ldq, end_of(b) - begin_of(b), args.scale);
    }
    for (int64_t t = 0; t < args.begin + end; t += kFlashKeys) {
      const int64_t count = std::min(kFlashKeys, args.begin + end - t);
      FillTiles(flash, args, head, t, count);
      flash.TakeValues(flash.value_tile(), flash.ldv(), count);
      for (int64_t b = 0; b < used; ++b) {
        const int64_t seen = args.begin + end_of(b) - t;  // keys of this tile that anyone in the block sees
        if (seen <= 0) continue;
        flash.Step(b, flash.key_tile(), flash.ldk(), count, args.begin + begin_of(b) + 1 - t);
      }
    }
    for (int64_t b = 0; b < used; ++b) {
      flash.Finish(b, args.out + begin_of(b) * args.ldo + head * args.dv, args.ldo);
      for (int64_t i = begin_of(b); args.lse && i < end_of(b); ++i) {
        const int64_t lane = i - begin_of(b);
        args.lse[i * args.ld_lse + head] = flash.max(b)[lane] + std::log(flash.sum(b)[lane]);
      }
    }
  });
}

void Attention(Context& ctx, Arena& scratch, const AttentionArgs& args) {
  FATHOM_CHECK(args.kv_dtype == DType::kF32 || args.kv_dtype == DType::kBF16);
  FATHOM_CHECK(args.cache.Valid() && (args.cache.dtype != DType::kF8E4M3 || args.cache.rope == args.dr));
  FATHOM_CHECK(args.dn >= 0 && args.dr >= 0 && args.dn + args.dr > 0 && args.dv > 0 && args.dr <= args.cache.width);
  Choose(ctx, "Attention", std::span<const AttentionEntry>(kAttention), args).fn(ctx, scratch, args);
}

void AppendAttentionOps(std::vector<OpEntry>& ops) { AppendTable(ops, "Attention", kAttention); }

}  // namespace fathom::kernels
