// Attention in the absorbed form: choice of an implementation, splits of positions dealt out to the threads, partial
// results merged. Two ways to do a split:
//   tiled  (flash.h) heads in lanes, on the matrix primitives: for AMX, with heads enough;
//   rows   (attention_tiles.h) heads in groups of 8: no lane is empty with few heads, and rows are read from memory
//   once.
// Rows of F8_E4M3 are widened a tile at a time, for all heads of a task, into a tile that stays in the first or second
// cache.
// A split's partial result is its unnormalised output with its maximum and sum; a query's partials are folded from the
// first to the last, so the result does not depend on which of them are there at a time (a wave holds no more than
// kWaveBytes of them) nor on the threads. The only split of a short query is its result.
#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/flash.h"
#include "kernels/latent_row.h"
#include "kernels/ops.h"
#include "kernels/reference/attention.h"
#include "kernels/registry.h"
#include "kernels/simd/attention.h"

namespace fathom::kernels {
namespace {

using LatentEntry = Entry<void (*)(Context&, Arena&, const LatentAttentionArgs&), LatentAttentionArgs>;
constexpr int64_t kWaveBytes = 32 << 20;
constexpr int64_t kTasksPerThread = 4;
constexpr int64_t kAmxHeads = 16;  // from here on tiles of 16 heads are full enough
constexpr float kNone = -std::numeric_limits<float>::infinity();

void LatentReference(Context& ctx, Arena& scratch, const LatentAttentionArgs& args) {
  ArenaScope scope(scratch);
  double* sums = scratch.Take<double>(args.r * ctx.pool.size());
  if (scratch.planning()) return;
  const auto queries = static_cast<int64_t>(args.lengths.size());
  ctx.pool.ParallelFor(queries * args.heads, [&](int64_t task, int thread) {
    reference::LatentAttention(args, task / args.heads, task % args.heads, sums + thread * args.r);
  });
}

// A split of one query for some of its heads, and where its partial result goes.
struct Part {
  int64_t query, head, heads;
  int64_t begin, end;  // positions
  bool whole;          // of the query's positions
  float* out;          // (heads, r)
  float* max;          // (heads,)
  float* sum;
};

// Position ranges of a task's cache rows are cut at the cache's blocks; rows of a tile that lie in one block are
// contiguous.
bool OneBlock(const LatentCache& cache, int64_t begin, int64_t end) {
  return begin / cache.block_tokens == (end - 1) / cache.block_tokens;
}

bool HasRows(const LatentAttentionArgs& args, DType dtype) {
  return !args.caches.empty() && args.caches[0].dtype == dtype;
}
bool WantsBf16(const LatentAttentionArgs& args) {
  return RoundsToBf16(args.compute) && (HasRows(args, DType::kBF16) || HasRows(args, DType::kF8E4M3));
}

class Tiled {
 public:
  Tiled(const FlashKernels& kernels, const LatentAttentionArgs& args) : args_(args), kernels_(kernels) {}
  static constexpr int64_t kHeadUnit = kLanes;  // tasks take multiples of it, up to kMaxHeads
  static constexpr int64_t kMaxHeads = kFlashLanes;
  int64_t Bytes() const { return Flash::Bytes(kernels_, args_.r + args_.dr, args_.r, 1); }

  void Run(const Part& part, const Part*, std::byte* scratch) const {
    const LatentCache& cache = args_.caches[static_cast<size_t>(part.query)];
    const int64_t width = args_.r + args_.dr, size = SizeOf(cache.dtype);
    Flash flash(kernels_, width, args_.r, 1, scratch);
    flash.Begin(0, args_.q + (part.query * args_.heads + part.head) * width, width, part.heads, args_.scale);
    // Rows are used where they lie if they are what the products take.
    const bool as_is = flash.element() == size && !(kernels_.bf16 && width % 2);
    for (int64_t t = part.begin; t < part.end; t += kFlashKeys) {
      const int64_t keys = std::min(kFlashKeys, part.end - t);
      const std::byte* rows = cache.Row(t);
      int64_t ld = width;
      if (!as_is || !OneBlock(cache, t, t + keys)) {
        ld = flash.ldk();
        rows = flash.key_tile();
        for (int64_t j = 0; j < keys; ++j) {
          std::byte* row = flash.key_tile() + j * ld * flash.element();
          if (cache.dtype != DType::kF8E4M3) {
            flash.Convert(row, cache.Row(t + j), cache.dtype, width);
          } else if (kernels_.bf16) {
            ReadLatentRow(*kernels_.tiles, cache, cache.Row(t + j), reinterpret_cast<uint16_t*>(row));
          } else {
            float* values = reinterpret_cast<float*>(row);
            ReadLatentRow(*kernels_.tiles, cache, cache.Row(t + j), 0, width, values);
            if (kernels_.round) kernels_.tiles->round_f32(values, values, width);
          }
          if (width % 2) std::fill_n(row + width * flash.element(), flash.element(), std::byte{0});
        }
      }
      flash.TakeValues(rows, ld, keys);
      flash.Step(0, rows, ld, keys, kAllVisible);
    }
    for (int64_t h = 0; h < part.heads; ++h) std::copy_n(flash.out_row(0, h), args_.r, part.out + h * args_.r);
    std::copy_n(flash.max(0), part.heads, part.max);
    std::copy_n(flash.sum(0), part.heads, part.sum);
  }

 private:
  const LatentAttentionArgs& args_;
  FlashKernels kernels_;
};

// What a group of heads needs of an instruction set.
struct RowKernels {
  void (*step)(const LatentTile&);
  void (*store)(float* to, const float* out, int64_t n);  // null: the columns are in order
  void (*take_query)(void* to, const float* from, int64_t n);
  int64_t query_element;
};

void CopyQuery(void* to, const float* from, int64_t n) { std::copy_n(from, n, static_cast<float*>(to)); }

RowKernels RowKernelsOf(Isa isa, bool bf16_rows, bool round) {
  const Tiles& tiles = *TilesOf(isa);
  RowKernels k{nullptr, nullptr, CopyQuery, sizeof(float)};
  if (round) {
    k.take_query = [](void* to, const float* from, int64_t n) {
      for (int64_t i = 0; i < n; ++i) static_cast<float*>(to)[i] = RoundToBf16(from[i]);
    };
  }
#if defined(__x86_64__)
  if (tiles.mul_bf16) {
    k = {LatentStepBf16, LatentStoreBf16,
         [](void* to, const float* from, int64_t n) {
           TilesOf(Isa::kAvx512Bf16)->round_bf16(static_cast<uint16_t*>(to), from, n);
         },
         sizeof(uint16_t)};
  } else if (isa == Isa::kSse4) {
    k.step = bf16_rows ? sse4::LatentStepBf16Rows : sse4::LatentStepF32Rows;
  } else if (isa == Isa::kAvx2) {
    k.step = bf16_rows ? avx2::LatentStepBf16Rows : avx2::LatentStepF32Rows;
  } else {
    k.step = bf16_rows ? avx512::LatentStepBf16Rows : avx512::LatentStepF32Rows;
  }
#else
  (void)tiles;
  k.step = bf16_rows ? neon::LatentStepBf16Rows : neon::LatentStepF32Rows;
#endif
  return k;
}

class Rows {
 public:
  Rows(Isa isa, const LatentAttentionArgs& args)
      : args_(args),
        tiles_(*TilesOf(isa)),
        round_(WantsBf16(args)),
        widen_(HasRows(args, DType::kF8E4M3)),
        bf16_rows_(round_ || HasRows(args, DType::kBF16)),
        kernels_(RowKernelsOf(isa, bf16_rows_, round_)),
        ldq_(Flash::RoundUp(args.r + args.dr, 32)),
        ldo_(Flash::RoundUp(args.r, 32)) {}
  static constexpr int64_t kHeadUnit = kLatentHeads;  // tasks take multiples of it, up to kMaxHeads
  static constexpr int64_t kMaxHeads = 64;
  // Room for a tile of widened rows whatever the cache: a plan is made before its type is known.
  int64_t Bytes() const {
    return kMaxHeads * (kernels_.query_element * ldq_ + 4 * ldo_) + (kLatentRows + 1) * 4 * ldq_;
  }

  void Run(const Part& part, const Part* following, std::byte* scratch) const {
    const int64_t width = args_.r + args_.dr, row_bytes = kernels_.query_element * ldq_;
    const int64_t groups = (part.heads + kLatentHeads - 1) / kLatentHeads;
    std::byte* q = scratch;
    std::byte* zeros = q + kMaxHeads * row_bytes;
    std::byte* widened = zeros + 4 * ldq_;  // kLatentRows rows, ldq_ elements apart
    auto* out = reinterpret_cast<float*>(widened + kLatentRows * 4 * ldq_);
    std::fill_n(q, groups * kLatentHeads * row_bytes, std::byte{0});
    std::fill_n(zeros, 4 * ldq_, std::byte{0});
    std::fill_n(out, groups * kLatentHeads * ldo_, 0.0f);
    const float* from = args_.q + (part.query * args_.heads + part.head) * width;
    for (int64_t h = 0; h < part.heads; ++h) kernels_.take_query(q + h * row_bytes, from + h * width, width);
    float max[kMaxHeads], sum[kMaxHeads] = {};
    std::fill_n(max, kMaxHeads, kNone);
    const void* rows[2 * (kLatentRows + 1)];
    const void* tile[kLatentRows + 1];
    const void* pieces[kLatentRows];
    const void** now = rows;
    const void** next = rows + kLatentRows + 1;
    int64_t count = List(part, part.begin, zeros, now);
    for (int64_t t = part.begin; t < part.end; t += kLatentRows) {
      const int64_t next_count = List(part, t + kLatentRows, zeros, next);
      int64_t ahead = next_count;
      if (next_count == 0 && following) ahead = List(*following, following->begin, zeros, next);
      if (widen_) {
        Widen(part, now, count, zeros, widened, tile);
        ahead = Pieces(next, ahead, pieces);
      }
      for (int64_t g = 0; g < groups; ++g) {
        const int64_t h = g * kLatentHeads;
        kernels_.step({widen_ ? tile : now, count, widen_ ? pieces : next, g == 0 ? ahead : 0, width, args_.r,
                       q + h * row_bytes, ldq_, args_.scale, round_, max + h, sum + h, out + h * ldo_, ldo_});
      }
      std::swap(now, next);
      count = next_count;
    }
    for (int64_t h = 0; h < part.heads; ++h) {
      if (kernels_.store) {
        kernels_.store(part.out + h * args_.r, out + h * ldo_, args_.r);
      } else {
        std::copy_n(out + h * ldo_, args_.r, part.out + h * args_.r);
      }
    }
    std::copy_n(max, part.heads, part.max);
    std::copy_n(sum, part.heads, part.sum);
  }

 private:
  // The part's rows from `begin` on, as many as a step takes; an odd number is followed by zeros.
  int64_t List(const Part& part, int64_t begin, const void* zeros, const void** to) const {
    const LatentCache& cache = args_.caches[static_cast<size_t>(part.query)];
    const int64_t n = std::clamp<int64_t>(part.end - begin, 0, kLatentRows);
    for (int64_t j = 0; j < n; ++j) to[j] = cache.Row(begin + j);
    if (n % 2) to[n] = zeros;
    return n;
  }
  // `count` rows of F8_E4M3 as the step takes them, listed in `tile`.
  void Widen(const Part& part, const void* const* rows, int64_t count, const std::byte* zeros, std::byte* widened,
             const void** tile) const {
    const LatentCache& cache = args_.caches[static_cast<size_t>(part.query)];
    for (int64_t j = 0; j < count; ++j) {
      std::byte* to = widened + j * ldq_ * (bf16_rows_ ? 2 : 4);
      if (bf16_rows_) {
        ReadLatentRow(tiles_, cache, static_cast<const std::byte*>(rows[j]), reinterpret_cast<uint16_t*>(to));
      } else {
        ReadLatentRow(tiles_, cache, static_cast<const std::byte*>(rows[j]), 0, cache.width,
                      reinterpret_cast<float*>(to));
      }
      tile[j] = to;
    }
    if (count % 2) tile[count] = zeros;
  }
  // The step asks memory for `width` elements of its own type from each row of `next`: neighbouring rows of F8_E4M3 are
  // listed as fewer, longer ones.
  int64_t Pieces(const void* const* rows, int64_t count, const void** pieces) const {
    const int64_t row_bytes = args_.caches[0].row_bytes(), piece = (args_.r + args_.dr) * (bf16_rows_ ? 2 : 4);
    int64_t listed = 0;
    for (int64_t j = 0; j < count;) {
      const auto* first = static_cast<const std::byte*>(rows[j]);
      int64_t n = 1;
      while (j + n < count && rows[j + n] == first + n * row_bytes) ++n;
      for (int64_t at = 0; at < n * row_bytes && listed < j + n; at += piece) pieces[listed++] = first + at;
      j += n;
    }
    return listed;
  }
  const LatentAttentionArgs& args_;
  const Tiles& tiles_;
  bool round_, widen_, bf16_rows_;
  RowKernels kernels_;
  int64_t ldq_, ldo_;
};

using ScaleAddFn = void (*)(float* y, float a, const float* x, float b, int64_t n, bool fresh);
ScaleAddFn ScaleAddOf(Isa isa) {
#if defined(__x86_64__)
  return isa == Isa::kSse4 ? sse4::ScaleAdd : isa == Isa::kAvx2 ? avx2::ScaleAdd : avx512::ScaleAdd;
#else
  return (void)isa, neon::ScaleAdd;
#endif
}

// Folds one part into the state (max, sum, out).
void Fold(float* max, float* sum, float* out, const Part& part, int64_t head, int64_t r, bool fresh,
          ScaleAddFn scale_add) {
  const float part_max = part.max[head];
  const float top = fresh || !(*max > part_max) ? part_max : *max;  // of a NaN the other's scale is as good
  const float base = top == kNone ? 0.0f : top;
  const float a = fresh ? 0.0f : std::exp(*max - base), b = std::exp(part_max - base);
  scale_add(out, a, part.out + head * r, b, r, fresh);
  *sum = (fresh ? 0.0f : *sum * a) + part.sum[head] * b;
  *max = top;
}

template <class Way>
void LatentSplits(Context& ctx, Arena& scratch, const LatentAttentionArgs& args, const Way& way, ScaleAddFn scale_add) {
  const auto queries = static_cast<int64_t>(args.lengths.size());
  const int64_t heads = args.heads, r = args.r, part_floats = heads * (r + 2);
  int64_t splits = 0;
  for (int64_t length : args.lengths) splits += (length + kDecodeSplit - 1) / kDecodeSplit;
  // A task is a run of splits for a block of heads. Heads are divided only if there are few splits: rows are read again
  // for each block of them.
  const int64_t wanted = kTasksPerThread * ctx.pool.size();
  int64_t block = Way::kMaxHeads;
  while (block > Way::kHeadUnit && splits * ((heads + block - 1) / block) < wanted) block /= 2;
  const int64_t head_blocks = (heads + block - 1) / block;
  const int64_t wave = std::min(splits, std::max<int64_t>(kWaveBytes / (4 * part_floats), 1));
  const int64_t bytes = Flash::RoundUp(way.Bytes(), 64);

  ArenaScope scope(scratch);
  std::byte* memory = scratch.Take<std::byte>(bytes * ctx.pool.size());
  float* partials = scratch.Take<float>(wave * part_floats);
  float* state = scratch.Take<float>(2 * queries * heads);  // maximum and sum of each query and head
  int64_t* first_split = scratch.Take<int64_t>(queries + 1);
  int32_t* query_of = scratch.Take<int32_t>(splits);
  if (scratch.planning()) return;
  first_split[0] = 0;
  for (int64_t i = 0; i < queries; ++i) {
    const int64_t n = (args.lengths[static_cast<size_t>(i)] + kDecodeSplit - 1) / kDecodeSplit;
    first_split[i + 1] = first_split[i] + n;
    std::fill_n(query_of + first_split[i], n, static_cast<int32_t>(i));
  }
  const auto fits = [](int64_t length) { return length <= kDecodeSplit; };
  const auto whole = [&](int64_t query) { return fits(args.lengths[static_cast<size_t>(query)]); };
  const bool all_whole = std::all_of(args.lengths.begin(), args.lengths.end(), fits);
  const auto part_of = [&](int64_t split, int64_t wave_begin) {
    const int64_t query = query_of[split];
    float* partial = partials + (split - wave_begin) * part_floats;
    float* out = whole(query) ? args.out + query * heads * r : partial;
    const int64_t begin = (split - first_split[query]) * kDecodeSplit;
    const int64_t end = std::min(begin + kDecodeSplit, args.lengths[static_cast<size_t>(query)]);
    return Part{query, 0, heads, begin, end, whole(query), out, partial + heads * r, partial + heads * (r + 1)};
  };
  const auto normalise = [&](float* out, float sum) { scale_add(out, 0, out, sum == 0 ? 0.0f : 1.0f / sum, r, true); };
  for (int64_t w = 0; w < splits; w += wave) {
    const int64_t end = std::min(w + wave, splits);
    const int64_t run = std::max<int64_t>((end - w) * head_blocks / wanted, 1);
    const int64_t runs = (end - w + run - 1) / run;
    ctx.pool.ParallelFor(runs * head_blocks, [&](int64_t task, int thread) {
      const int64_t head = task % head_blocks * block;
      const int64_t from = w + task / head_blocks * run, to = std::min(from + run, end);
      const auto cut = [&](int64_t split) {
        Part part = part_of(split, w);
        part.head = head;
        part.heads = std::min(block, heads - head);
        part.out += head * r;
        part.max += head;
        part.sum += head;
        return part;
      };
      for (int64_t s = from; s < to; ++s) {
        const Part part = cut(s), following = cut(std::min(s + 1, to - 1));
        way.Run(part, s + 1 < to ? &following : nullptr, memory + thread * bytes);
        for (int64_t h = 0; part.whole && h < part.heads; ++h) normalise(part.out + h * r, part.sum[h]);
      }
    });
    if (all_whole) continue;
    const int64_t first_query = query_of[w], last_query = query_of[end - 1];
    ctx.pool.ParallelFor((last_query - first_query + 1) * heads, [&](int64_t task, int) {
      const int64_t query = first_query + task / heads, head = task % heads;
      if (whole(query)) return;
      float* out = args.out + (query * heads + head) * r;
      float* max = state + 2 * (query * heads + head);
      const int64_t from = std::max(first_split[query], w), to = std::min(first_split[query + 1], end);
      for (int64_t s = from; s < to; ++s) {
        Fold(max, max + 1, out, part_of(s, w), head, r, s == first_split[query], scale_add);
      }
      if (to == first_split[query + 1]) normalise(out, max[1]);
    });
  }
  for (int64_t i = 0; i < queries; ++i) {
    if (args.lengths[static_cast<size_t>(i)] == 0) std::fill_n(args.out + i * heads * r, heads * r, 0.0f);
  }
}

template <Isa isa>
void LatentByRows(Context& ctx, Arena& scratch, const LatentAttentionArgs& args) {
  LatentSplits(ctx, scratch, args, Rows(isa, args), ScaleAddOf(isa));
}

#if defined(__x86_64__)
bool ManyHeads(const LatentAttentionArgs& args) { return WantsBf16(args) && args.heads >= kAmxHeads; }
void LatentAmx(Context& ctx, Arena& scratch, const LatentAttentionArgs& args) {
  LatentAttentionTiled(ctx, scratch, args, FlashKernelsOf(Isa::kAmx, true));
}
#endif

constexpr LatentEntry kLatentAttention[] = {
#if defined(__x86_64__)
    {"amx", Isa::kAmx, LatentAmx, ManyHeads},
    {"avx512bf16", Isa::kAvx512Bf16, LatentByRows<Isa::kAvx512Bf16>, WantsBf16},
    {"avx512", Isa::kAvx512, LatentByRows<Isa::kAvx512>},
    {"avx2", Isa::kAvx2, LatentByRows<Isa::kAvx2>},
    {"sse4", Isa::kSse4, LatentByRows<Isa::kSse4>},
#else
    {"neon", Isa::kNeon, LatentByRows<Isa::kNeon>},
#endif
    {"reference", Isa::kReference, LatentReference}};

}  // namespace

void LatentAttentionTiled(Context& ctx, Arena& scratch, const LatentAttentionArgs& args, const FlashKernels& kernels) {
  LatentSplits(ctx, scratch, args, Tiled(kernels, args), ScaleAddOf(kernels.isa));
}

void LatentAttention(Context& ctx, Arena& scratch, const LatentAttentionArgs& args) {
  FATHOM_CHECK(args.caches.size() == args.lengths.size());
  for (const LatentCache& cache : args.caches) {
    FATHOM_CHECK(cache.dtype == args.caches[0].dtype && cache.width == args.r + args.dr);
    FATHOM_CHECK(cache.Valid() && (cache.dtype != DType::kF8E4M3 || cache.rope == args.dr));
  }
  Choose(ctx, "LatentAttention", std::span<const LatentEntry>(kLatentAttention), args).fn(ctx, scratch, args);
}

void AppendLatentAttentionOps(std::vector<OpEntry>& ops) { AppendTable(ops, "LatentAttention", kLatentAttention); }

}  // namespace fathom::kernels
