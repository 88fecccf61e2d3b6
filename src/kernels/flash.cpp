#include "kernels/flash.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "core/error.h"
#include "kernels/simd/attention.h"

namespace fathom::kernels {
namespace {

struct Slots {
  std::byte* at;
  int64_t used = 0;
  std::byte* Bytes(int64_t n) {
    std::byte* p = at ? at + used : nullptr;
    used += Flash::RoundUp(n, 64);
    return p;
  }
};

template <class Mul, class T>
Mul Described(const Product& p) {
  Mul m{};
  m.c = p.c;
  m.ldc = p.ldc;
  m.a = reinterpret_cast<const T*>(p.a);
  m.lda = p.lda;
  m.b = reinterpret_cast<const T*>(p.b);
  m.ldb = p.ldb;
  m.rows = p.rows;
  m.panels = p.panels;
  m.scale = p.scale;
  m.accumulate = p.accumulate;
  return m;
}

}  // namespace

void Multiply(const FlashKernels& kernels, const Product& p) {
  if (kernels.bf16) {
    MulBf16 m = Described<MulBf16, uint16_t>(p);
    m.kpairs = (p.k + 1) / 2;
    kernels.tiles->mul_bf16(m);
  } else {
    MulF32 m = Described<MulF32, float>(p);
    m.k = p.k;
    kernels.tiles->mul_f32(m);
  }
}

FlashKernels FlashKernelsOf(Isa isa, bool want_bf16) {
  FlashKernels f;
  f.tiles = TilesOf(isa);
  f.isa = isa;
  FATHOM_CHECK(f.tiles);
  f.bf16 = want_bf16 && f.tiles->mul_bf16;
  f.round = want_bf16 && !f.bf16;
#if defined(__x86_64__)
  f.softmax = f.bf16              ? SoftmaxBf16
              : isa == Isa::kSse4 ? sse4::Softmax
              : isa == Isa::kAvx2 ? avx2::Softmax
                                  : avx512::Softmax;
  f.pack_panels = isa == Isa::kSse4 ? sse4::PackPanels : isa == Isa::kAvx2 ? avx2::PackPanels : avx512::PackPanels;
#else
  f.softmax = neon::Softmax;
  f.pack_panels = neon::PackPanels;
#endif
  return f;
}

Flash::Flash(const FlashKernels& kernels, int64_t k, int64_t n, int64_t blocks, std::byte* scratch)
    : kernels_(kernels), k_(k), n_(n) {
  Layout(blocks, scratch);
}

int64_t Flash::Bytes(const FlashKernels& kernels, int64_t k, int64_t n, int64_t blocks) {
  return Flash(kernels, k, n, 0, nullptr).Layout(blocks, nullptr);
}

int64_t Flash::Layout(int64_t blocks, std::byte* scratch) {
  FATHOM_CHECK(blocks <= kFlashBlocks);
  Slots slots{scratch};
  const int64_t size = element();
  const auto floats = [&](int64_t count) { return reinterpret_cast<float*>(slots.Bytes(4 * count)); };
  q_rows_ = slots.Bytes(ldk() * kFlashLanes * size);
  key_tile_ = slots.Bytes(ldk() * kFlashKeys * size);
  value_tile_ = slots.Bytes(ldv() * kFlashKeys * size);
  value_panels_ = slots.Bytes(ldv() * kFlashKeys * size);
  weight_panels_ = slots.Bytes(kFlashKeys * kFlashLanes * size);
  weight_rows_ = slots.Bytes(kFlashKeys * kFlashLanes * size);
  scores_ = floats(kFlashKeys * kFlashLanes);
  alpha_ = floats(kFlashLanes);
  for (int64_t i = 0; i < blocks; ++i) {
    State& state = states_[static_cast<size_t>(i)];
    state.q_panels = slots.Bytes(ldk() * kFlashLanes * size);
    state.out = floats(kFlashLanes * ldv());
    state.max = floats(kFlashLanes);
    state.sum = floats(kFlashLanes);
  }
  return slots.used;
}

void ConvertRow(const FlashKernels& kernels, std::byte* to, const std::byte* from, DType dtype, int64_t n) {
  if (kernels.bf16) {
    if (dtype == DType::kBF16) {
      std::memcpy(to, from, static_cast<size_t>(2 * n));
    } else {
      kernels.tiles->round_bf16(reinterpret_cast<uint16_t*>(to), reinterpret_cast<const float*>(from), n);
    }
    return;
  }
  auto* out = reinterpret_cast<float*>(to);
  if (dtype == DType::kBF16) {
    kernels.tiles->widen_bf16(out, from, n);
  } else if (kernels.round) {
    kernels.tiles->round_f32(out, reinterpret_cast<const float*>(from), n);
  } else {
    std::memcpy(to, from, static_cast<size_t>(4 * n));
  }
}

void Flash::Begin(int64_t block, const float* q, int64_t ldq, int64_t lanes, float scale) {
  State& state = states_[static_cast<size_t>(block)];
  state.lanes = lanes;
  state.panels = (lanes + kLanes - 1) / kLanes;
  state.scale = scale;
  const int64_t size = element(), words = kernels_.bf16 ? (k_ + 1) / 2 : k_;  // 32-bit words of a query
  if (lanes % kLanes) std::memset(state.q_panels, 0, static_cast<size_t>(state.panels * kLanes * words * 4));
  for (int64_t i = 0; i < lanes; ++i) {
    std::byte* row = q_rows_ + i * ldk() * size;
    if (kernels_.bf16 && k_ % 2) std::memset(row + 2 * (k_ - 1), 0, 4);
    Convert(row, reinterpret_cast<const std::byte*>(q + i * ldq), DType::kF32, k_);
  }
  for (int64_t p = 0; p < state.panels; ++p) {
    const int64_t rows = std::min(kLanes, lanes - p * kLanes);
    kernels_.tiles->transpose32(state.q_panels + p * kLanes * words * 4, kLanes, q_rows_ + p * kLanes * ldk() * size,
                                ldk() * size / 4, rows, words);
  }
  std::fill_n(state.max, state.panels * kLanes, -std::numeric_limits<float>::infinity());
  std::fill_n(state.sum, state.panels * kLanes, 0.0f);
  std::fill_n(state.out, lanes * ldv(), 0.0f);
}

void Flash::TakeValues(const std::byte* values, int64_t ld, int64_t keys) {
  if (kernels_.bf16) {
    kernels_.tiles->pair_rows(reinterpret_cast<uint16_t*>(value_panels_), kLanes * kFlashKeys,
                              reinterpret_cast<const uint16_t*>(values), ld, keys, n_);
  } else {
    kernels_.pack_panels(reinterpret_cast<float*>(value_panels_), kLanes * kFlashKeys,
                         reinterpret_cast<const float*>(values), ld, keys, n_);
  }
}

void Flash::Step(int64_t block, const std::byte* k, int64_t ld, int64_t keys, int64_t visible) {
  const State& state = states_[static_cast<size_t>(block)];
  const Tiles& tiles = *kernels_.tiles;
  const int64_t lds = state.panels * kLanes, columns = ldv(), column_panels = columns / kLanes;
  const int64_t key_words = kernels_.bf16 ? kFlashKeys / 2 : kFlashKeys;  // 32-bit words of a row of weights
  const int64_t used_words = kernels_.bf16 ? (keys + 1) / 2 : keys;
  const int64_t panel_bytes = kLanes * key_words * 4;
  Multiply(kernels_, {scores_, lds, k, ld, state.q_panels, keys, k_, state.panels, state.scale, false,
                      kLanes * (kernels_.bf16 ? RoundUp(k_, 2) : k_)});
  kernels_.softmax({scores_, lds, keys, state.panels, visible, state.max, state.sum, alpha_, weight_panels_,
                    panel_bytes / element(), kernels_.round});
  for (int64_t p = 0; p < state.panels; ++p) {
    tiles.transpose32(weight_rows_ + p * panel_bytes, key_words, weight_panels_ + p * panel_bytes, kLanes, used_words,
                      kLanes);
  }
  for (int64_t i = 0; i < state.lanes; ++i) {
    if (alpha_[i] == 1.0f) continue;
    float* row = state.out + i * columns;
    for (int64_t c = 0; c < columns; ++c) row[c] *= alpha_[i];
  }
  Multiply(kernels_, {state.out, columns, weight_rows_, kFlashKeys, value_panels_, state.lanes, keys, column_panels,
                      1.0f, true, kLanes * kFlashKeys});
}

void Flash::Finish(int64_t block, float* to, int64_t ldo) const {
  const State& state = states_[static_cast<size_t>(block)];
  for (int64_t i = 0; i < state.lanes; ++i) {
    const float* row = out_row(block, i);
    if (state.sum[i] == 0) {
      std::fill_n(to + i * ldo, n_, 0.0f);
      continue;
    }
    const float inverse = 1.0f / state.sum[i];
    for (int64_t c = 0; c < n_; ++c) to[i * ldo + c] = row[c] * inverse;
  }
}

}  // namespace fathom::kernels
