// One head's gradient of causal attention in tiles of 64 queries and 64 keys: no buffer grows with the square of the
// length. With S = scale Q K^T, P = e^(S - lse), dP = dO V^T, dS = P (dP - delta), delta = out . dout
// (FlashAttention-2, section 3.1.2):
//   dV = P^T dO    dK = scale dS^T Q    dQ = scale dS K
// All on tiles.h, with the queries in lanes: S and dP come out as (keys, queries), which is what dV and dK take as
// rows; dQ is summed transposed, from the keys' transposed rows. So nothing of a tile is turned around between its
// products.
//
// Queries are converted and packed once, for all tiles of keys. Keys come in groups whose gradients stay in the second
// cache while the queries pass. Every gradient is summed over tiles in rising order, whatever the groups.
#include <algorithm>
#include <cstring>
#include <limits>

#include "kernels/attention_backward.h"

namespace fathom::kernels {
namespace {

constexpr int64_t kTile = kFlashKeys;  // queries and keys
constexpr int64_t kGroup = 4;          // tiles of keys
static_assert(kFlashLanes == kFlashKeys);

int64_t RoundUp(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

// How vectors of one length (of queries and keys, or of values) are held: rows `ld` apart, so that the products may
// take a zero after an odd end, and `columns` lanes.
struct Form {
  int64_t n, ld, columns;
  explicit Form(int64_t length) : n(length), ld(RoundUp(length, 32)), columns(RoundUp(length, kLanes)) {}
  int64_t panels() const { return columns / kLanes; }
};

// Rows of one head lie apart by those of all heads, where no hardware fetches ahead: rows to come are asked for.
constexpr int64_t kAheadRows = 8;
void AskFor(const void* row, int64_t bytes) {
  for (int64_t i = 0; i < bytes; i += 64) __builtin_prefetch(static_cast<const std::byte*>(row) + i);
}

// 64 queries, or their rows of dout.
struct Packed {
  std::byte* lanes;  // the rows are lanes
  std::byte* rows;   // the rows are along k
};

class Head {
 public:
  Head(const BackwardKernels& kernels, int64_t dq, int64_t dv, int64_t tokens, std::byte* memory)
      : kernels_(kernels), size_(kernels.flash.bf16 ? 2 : 4), key_(dq), value_(dv), tokens_(tokens), memory_(memory) {
    blocks_ = (tokens + kTile - 1) / kTile;
    queries_.lanes = Bytes(blocks_ * PackedLanes(key_) * size_);
    queries_.rows = Bytes(blocks_ * PackedRows(key_) * size_);
    douts_.lanes = Bytes(blocks_ * PackedLanes(value_) * size_);
    douts_.rows = Bytes(blocks_ * PackedRows(value_) * size_);
    lse_ = Floats(blocks_ * kTile);
    delta_ = Floats(blocks_ * kTile);
    dquery_ = Floats(blocks_ * kTile * key_.n);
    keys_ = Bytes(kGroup * kTile * key_.ld * size_);
    turned_keys_ = Bytes(kGroup * key_.columns * kTile * size_);
    values_ = Bytes(kGroup * kTile * value_.ld * size_);
    dkey_ = Floats(kGroup * kTile * key_.columns);
    dvalue_ = Floats(kGroup * kTile * value_.columns);
    scratch_ = Bytes(kTile * std::max(key_.ld, value_.ld) * size_);
    scores_ = Floats(kTile * kTile);
    dweights_ = Floats(kTile * kTile);
    weights_ = Bytes(kTile * kTile * size_);
    dscores_ = Bytes(kTile * kTile * size_);
    dscore_panels_ = Bytes(kTile * kTile * size_);
  }
  int64_t bytes() const { return used_; }

  void Run(const AttentionBackwardArgs& args, int64_t head, float* rope_share) {
    args_ = &args;
    head_ = head;
    for (int64_t b = 0; b < blocks_; ++b) TakeQueries(b);
    for (int64_t first = 0; first < blocks_; first += kGroup) {
      const int64_t end = std::min(first + kGroup, blocks_);
      for (int64_t k = first; k < end; ++k) TakeKeys(k, k - first);
      for (int64_t q = first; q < blocks_; ++q) {
        for (int64_t k = first; k < std::min(end, q + 1); ++k) Step(q, k, k - first);
      }
      for (int64_t k = first; k < end; ++k) StoreKeys(k, k - first, rope_share);
    }
    for (int64_t q = 0; q < blocks_; ++q) {
      kernels_.flash.tiles->transpose32(args.dq + q * kTile * args.lddq + head * key_.n, args.lddq,
                                        dquery_ + q * kTile * key_.n, kTile, key_.n, Count(q));
    }
  }

 private:
  std::byte* Bytes(int64_t n) {
    std::byte* p = memory_ ? memory_ + used_ : nullptr;
    used_ += RoundUp(n, 64);
    return p;
  }
  float* Floats(int64_t n) { return reinterpret_cast<float*>(Bytes(4 * n)); }
  int64_t PackedLanes(const Form& f) const { return kTile * RoundUp(f.n, 2); }
  int64_t PackedRows(const Form& f) const { return kTile * f.columns; }
  int64_t Count(int64_t block) const { return std::min(kTile, tokens_ - block * kTile); }

  // Row i of a tile; in bf16 with a zero after an odd end.
  std::byte* Row(std::byte* tile, const Form& form, int64_t i) const {
    std::byte* row = tile + i * form.ld * size_;
    if (form.n % 2) std::memset(row + form.n * size_, 0, static_cast<size_t>(size_));
    return row;
  }

  // Rows along k to panels whose lanes are their columns.
  void PackRows(std::byte* to, const std::byte* rows, const Form& form, int64_t count) const {
    if (kernels_.flash.bf16) {
      kernels_.flash.tiles->pair_rows(reinterpret_cast<uint16_t*>(to), kLanes * kTile,
                                      reinterpret_cast<const uint16_t*>(rows), form.ld, count, form.n);
    } else {
      kernels_.flash.pack_panels(reinterpret_cast<float*>(to), kLanes * kTile, reinterpret_cast<const float*>(rows),
                                 form.ld, count, form.n);
    }
  }

  void Pack(const Packed& to, int64_t block, const float* x, int64_t ldx, const Form& form) const {
    const int64_t count = Count(block), words = RoundUp(form.n * size_, 4) / 4;
    std::byte* lanes = to.lanes + block * PackedLanes(form) * size_;
    if (count % kLanes) std::memset(lanes, 0, static_cast<size_t>(kTile * words * 4));
    for (int64_t i = 0; i < count; ++i) {
      if (block * kTile + i + kAheadRows < tokens_) AskFor(x + (i + kAheadRows) * ldx, 4 * form.n);
      ConvertRow(kernels_.flash, Row(scratch_, form, i), reinterpret_cast<const std::byte*>(x + i * ldx), DType::kF32,
                 form.n);
    }
    for (int64_t i = 0; i < count; i += kLanes) {
      kernels_.flash.tiles->transpose32(lanes + i * words * 4, kLanes, scratch_ + i * form.ld * size_,
                                        form.ld * size_ / 4, std::min(kLanes, count - i), words);
    }
    PackRows(to.rows + block * PackedRows(form) * size_, scratch_, form, count);
  }

  void TakeQueries(int64_t block) {
    const AttentionBackwardArgs& a = *args_;
    const int64_t row = block * kTile, count = Count(block), o = row * a.ldo + head_ * value_.n;
    Pack(queries_, block, a.q + row * a.ldq + head_ * key_.n, a.ldq, key_);
    for (int64_t i = 0; i < count; ++i) AskFor(a.out + o + i * a.ldo, 4 * value_.n);
    Pack(douts_, block, a.dout + o, a.ldo, value_);
    float *lse = lse_ + row, *delta = delta_ + row;
    for (int64_t i = 0; i < count; ++i) lse[i] = a.lse[(row + i) * a.ld_lse + head_];
    kernels_.row_dots(delta, a.out + o, a.dout + o, a.ldo, count, value_.n);
    std::fill(lse + count, lse + kTile, std::numeric_limits<float>::infinity());
    std::fill(delta + count, delta + kTile, 0.0f);
  }

  void TakeKeys(int64_t block, int64_t slot) {
    const AttentionBackwardArgs& a = *args_;
    const int64_t count = Count(block), kv_size = SizeOf(a.kv_dtype);
    std::byte* keys = keys_ + slot * kTile * key_.ld * size_;
    std::byte* values = values_ + slot * kTile * value_.ld * size_;
    for (int64_t j = 0; j < count; ++j) {
      const int64_t t = block * kTile + j;
      const auto* from = static_cast<const std::byte*>(a.kv) + (t * a.ldkv + head_ * (a.dn + a.dv)) * kv_size;
      if (t + kAheadRows < tokens_) AskFor(from + kAheadRows * a.ldkv * kv_size, (a.dn + a.dv) * kv_size);
      std::byte* key = Row(keys, key_, j);
      ConvertRow(kernels_.flash, key, from, a.kv_dtype, a.dn);
      ConvertRow(kernels_.flash, key + a.dn * size_, reinterpret_cast<const std::byte*>(a.k_rope + t * a.ldk_rope),
                 DType::kF32, a.dr);
      ConvertRow(kernels_.flash, Row(values, value_, j), from + a.dn * kv_size, a.kv_dtype, a.dv);
    }
    std::byte* turned = turned_keys_ + slot * key_.columns * kTile * size_;
    if (!kernels_.flash.bf16) {
      kernels_.flash.tiles->transpose32(turned, kTile, keys, key_.ld, count, key_.n);
      return;
    }
    // Pairs of keys side by side, then turned as one word; the slot of dkey, not begun yet, holds them between.
    auto* pairs = reinterpret_cast<std::byte*>(dkey_ + slot * kTile * key_.columns);
    PackRows(pairs, keys, key_, count);
    for (int64_t c = 0; c < key_.n; c += kLanes) {
      kernels_.flash.tiles->transpose32(turned + c * kTile * 2, kTile / 2, pairs + c * kTile * 2, kLanes,
                                        (count + 1) / 2, std::min(kLanes, key_.n - c));
    }
  }

  // A tile of queries with one of keys. On the diagonal the first half of the queries sees none of the last half of the
  // keys: that quarter is left out.
  void Step(int64_t q, int64_t k, int64_t slot) {
    const int64_t keys = Count(k), half = q == k ? std::min(kTile / 2, keys) : keys;
    Part(q, k, slot, 0, half, 0);
    if (half < keys) Part(q, k, slot, half, keys, half);
  }

  // Keys [first, last) with the queries from first_query on.
  void Part(int64_t q, int64_t k, int64_t slot, int64_t first, int64_t last, int64_t first_query) {
    const FlashKernels& flash = kernels_.flash;
    const int64_t keys = last - first, queries = Count(q) - first_query, panels = (queries + kLanes - 1) / kLanes;
    const float scale = args_->scale;
    const int64_t key_lanes = kLanes * (flash.bf16 ? RoundUp(key_.n, 2) : key_.n);
    const int64_t value_lanes = kLanes * (flash.bf16 ? RoundUp(value_.n, 2) : value_.n);
    const int64_t lane_panel = first_query / kLanes, k_offset = first_query * kLanes;
    float* dkey = dkey_ + (slot * kTile + first) * key_.columns;
    float* dvalue = dvalue_ + (slot * kTile + first) * value_.columns;
    const auto at = [this](std::byte* base, int64_t elements) { return base + elements * size_; };
    Multiply(flash, {scores_, kTile, at(keys_, (slot * kTile + first) * key_.ld), key_.ld,
                     at(queries_.lanes, q * PackedLanes(key_) + lane_panel * key_lanes), keys, key_.n, panels, scale,
                     false, key_lanes});
    Multiply(flash, {dweights_, kTile, at(values_, (slot * kTile + first) * value_.ld), value_.ld,
                     at(douts_.lanes, q * PackedLanes(value_) + lane_panel * value_lanes), keys, value_.n, panels, 1.0f,
                     false, value_lanes});
    BackwardTile tile{};
    tile.scores = scores_;
    tile.dweights = dweights_;
    tile.lds = kTile;
    tile.keys = keys;
    tile.panels = panels;
    tile.visible = (q - k) * kTile + first_query - first + 1;
    tile.lse = lse_ + q * kTile + first_query;
    tile.delta = delta_ + q * kTile + first_query;
    tile.weights = weights_;
    tile.dscores = dscores_;
    tile.ldr = kTile;
    tile.dscore_panels = dscore_panels_;
    tile.ldp = kLanes * kTile;
    tile.round = flash.round;
    kernels_.step(tile);
    Multiply(flash, {dvalue, value_.columns, weights_, kTile, at(douts_.rows, q * PackedRows(value_) + k_offset), keys,
                     queries, value_.panels(), 1.0f, q > k, kLanes * kTile});
    Multiply(flash, {dkey, key_.columns, dscores_, kTile, at(queries_.rows, q * PackedRows(key_) + k_offset), keys,
                     queries, key_.panels(), scale, q > k, kLanes * kTile});
    Multiply(flash,
             {dquery_ + q * kTile * key_.n + first_query, kTile, at(turned_keys_, slot * key_.columns * kTile + first),
              kTile, dscore_panels_, key_.n, keys, panels, scale, k > 0 || first > 0, kLanes * kTile});
  }

  void StoreKeys(int64_t block, int64_t slot, float* rope_share) const {
    const AttentionBackwardArgs& a = *args_;
    for (int64_t j = 0; j < Count(block); ++j) {
      const int64_t t = block * kTile + j;
      const float* dkey = dkey_ + (slot * kTile + j) * key_.columns;
      float* to = a.dkv + t * a.lddkv + head_ * (a.dn + a.dv);
      std::copy_n(dkey, a.dn, to);
      std::copy_n(dvalue_ + (slot * kTile + j) * value_.columns, a.dv, to + a.dn);
      std::copy_n(dkey + a.dn, a.dr, rope_share + t * a.dr);
    }
  }

  const BackwardKernels& kernels_;
  int64_t size_;
  Form key_, value_;
  int64_t tokens_, blocks_ = 0;
  std::byte* memory_;
  int64_t used_ = 0;
  const AttentionBackwardArgs* args_ = nullptr;
  int64_t head_ = 0;
  Packed queries_, douts_;                    // of all blocks
  float *lse_, *delta_, *dquery_;             // of all blocks; dquery transposed: (dq, 64) each
  std::byte *keys_, *turned_keys_, *values_;  // of a group
  float *dkey_, *dvalue_;                     // of a group
  std::byte* scratch_;                        // rows of a tile
  float *scores_, *dweights_;                 // (keys, queries)
  std::byte *weights_, *dscores_, *dscore_panels_;
};

}  // namespace

void AttentionBackwardTiled(Context& ctx, Arena& scratch, std::span<const AttentionBackwardArgs> sequences,
                            const BackwardKernels& kernels) {
  ArenaScope scope(scratch);
  int64_t bytes = 0, tasks = 0, rows = 0, share_floats = 0;
  for (const AttentionBackwardArgs& a : sequences) {
    bytes = std::max(bytes, Head(kernels, a.dn + a.dr, a.dv, a.tokens, nullptr).bytes());
    tasks += a.heads;
    rows += a.tokens;
    share_floats += a.heads * a.tokens * a.dr;
  }
  float* shares = scratch.Take<float>(share_floats);  // of dk_rope: (heads, T, dr) of each sequence
  std::byte* memory = scratch.Take<std::byte>(bytes * ctx.pool.size());
  if (scratch.planning()) return;
  ctx.pool.ParallelFor(tasks, [&](int64_t task, int thread) {
    const AttentionBackwardArgs* a = sequences.data();
    float* share = shares;
    for (; task >= a->heads; ++a) {
      task -= a->heads;
      share += a->heads * a->tokens * a->dr;
    }
    Head head(kernels, a->dn + a->dr, a->dv, a->tokens, memory + thread * bytes);
    head.Run(*a, task, share + task * a->tokens * a->dr);
  });
  ctx.pool.ParallelFor((rows + kTile - 1) / kTile, [&](int64_t task, int) {
    int64_t row = task * kTile;
    const int64_t count = std::min(kTile, rows - row);
    const AttentionBackwardArgs* a = sequences.data();
    const float* share = shares;
    for (int64_t i = 0; i < count; ++i, ++row) {
      for (; row >= a->tokens; ++a) {
        row -= a->tokens;
        share += a->heads * a->tokens * a->dr;
      }
      float* to = a->dk_rope + row * a->lddk_rope;
      for (int64_t h = 0; h < a->heads; ++h) {
        const float* from = share + (h * a->tokens + row) * a->dr;
        for (int64_t c = 0; c < a->dr; ++c) to[c] += from[c];
      }
    }
  });
}

}  // namespace fathom::kernels
