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

}  // namespace

FlashKernels FlashKernelsOf(Isa isa, bool want_bf16) {
  FlashKernels f;
  f.tiles = TilesOf(isa);
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

Flash::Flash(const FlashKernels& kernels, int64_t k, int64_t n, std::byte* scratch) : kernels_(kernels), k_(k), n_(n) {
  Slots slots{scratch};
  const int64_t size = element();
  q_panels_ = slots.Bytes(ldk() * kFlashLanes * size);
  q_rows_ = slots.Bytes(ldk() * kFlashLanes * size);
  key_tile_ = slots.Bytes(ldk() * kFlashKeys * size);
  value_tile_ = slots.Bytes(ldv() * kFlashKeys * size);
  value_panels_ = slots.Bytes(ldv() * kFlashKeys * size);
  weight_panels_ = slots.Bytes(kFlashKeys * kFlashLanes * size);
  weight_rows_ = slots.Bytes(kFlashKeys * kFlashLanes * size);
  const auto floats = [&](int64_t count) { return reinterpret_cast<float*>(slots.Bytes(4 * count)); };
  scores_ = floats(kFlashKeys * kFlashLanes);
  out_ = floats(kFlashLanes * ldv());
  max_ = floats(kFlashLanes);
  sum_ = floats(kFlashLanes);
  alpha_ = floats(kFlashLanes);
}

int64_t Flash::Bytes(const FlashKernels& kernels, int64_t k, int64_t n) {
  const int64_t size = kernels.bf16 ? 2 : 4;
  Slots slots{nullptr};
  const int64_t lk = RoundUp(k, 32), lv = RoundUp(n, 16);
  for (int64_t elements : {lk * kFlashLanes, lk * kFlashLanes, lk * kFlashKeys, lv * kFlashKeys, lv * kFlashKeys,
                           kFlashKeys * kFlashLanes, kFlashKeys * kFlashLanes}) {
    slots.Bytes(elements * size);
  }
  for (int64_t elements : {kFlashKeys * kFlashLanes, kFlashLanes * lv, kFlashLanes, kFlashLanes, kFlashLanes}) {
    slots.Bytes(elements * 4);
  }
  return slots.used;
}

void Flash::Convert(std::byte* to, const std::byte* from, DType dtype, int64_t n) const {
  if (kernels_.bf16) {
    if (dtype == DType::kBF16) {
      std::memcpy(to, from, static_cast<size_t>(2 * n));
    } else {
      kernels_.tiles->round_bf16(reinterpret_cast<uint16_t*>(to), reinterpret_cast<const float*>(from), n);
    }
    return;
  }
  auto* out = reinterpret_cast<float*>(to);
  if (dtype == DType::kBF16) {
    kernels_.tiles->widen_bf16(out, from, n);
  } else if (kernels_.round) {
    kernels_.tiles->round_f32(out, reinterpret_cast<const float*>(from), n);
  } else {
    std::memcpy(to, from, static_cast<size_t>(4 * n));
  }
}

void Flash::Begin(const float* q, int64_t ldq, int64_t lanes, float scale) {
  lanes_ = lanes;
  panels_ = (lanes + kLanes - 1) / kLanes;
  scale_ = scale;
  const int64_t size = element(), words = kernels_.bf16 ? (k_ + 1) / 2 : k_;  // 32-bit words of a query
  std::memset(q_panels_, 0, static_cast<size_t>(panels_ * kLanes * words * 4));
  for (int64_t i = 0; i < lanes; ++i) {
    std::byte* row = q_rows_ + i * ldk() * size;
    if (kernels_.bf16 && k_ % 2) std::memset(row + 2 * (k_ - 1), 0, 4);
    Convert(row, reinterpret_cast<const std::byte*>(q + i * ldq), DType::kF32, k_);
  }
  for (int64_t p = 0; p < panels_; ++p) {
    const int64_t rows = std::min(kLanes, lanes - p * kLanes);
    kernels_.tiles->transpose32(q_panels_ + p * kLanes * words * 4, kLanes, q_rows_ + p * kLanes * ldk() * size,
                                ldk() * size / 4, rows, words);
  }
  std::fill_n(max_, panels_ * kLanes, -std::numeric_limits<float>::infinity());
  std::fill_n(sum_, panels_ * kLanes, 0.0f);
  std::fill_n(out_, lanes * ldv(), 0.0f);
}

void Flash::Step(const std::byte* k, int64_t ldk, const std::byte* values, int64_t ldv, int64_t keys, int64_t visible) {
  const Tiles& tiles = *kernels_.tiles;
  const int64_t lds = panels_ * kLanes, columns = this->ldv(), column_panels = columns / kLanes;
  const int64_t key_words = kernels_.bf16 ? kFlashKeys / 2 : kFlashKeys;  // 32-bit words of a row of weights
  const int64_t used_words = kernels_.bf16 ? (keys + 1) / 2 : keys;
  const int64_t panel_bytes = kLanes * key_words * 4;
  if (kernels_.bf16) {
    const int64_t pairs = (k_ + 1) / 2;
    tiles.mul_bf16({scores_, lds, reinterpret_cast<const uint16_t*>(k), ldk, reinterpret_cast<uint16_t*>(q_panels_),
                    2 * kLanes * pairs, keys, pairs, panels_, scale_, nullptr, false});
  } else {
    tiles.mul_f32({scores_, lds, reinterpret_cast<const float*>(k), ldk, reinterpret_cast<float*>(q_panels_),
                   kLanes * k_, keys, k_, panels_, scale_, nullptr, false});
  }
  kernels_.softmax({scores_, lds, keys, panels_, visible, max_, sum_, alpha_, weight_panels_, panel_bytes / element(),
                    kernels_.round});
  for (int64_t p = 0; p < panels_; ++p) {
    tiles.transpose32(weight_rows_ + p * panel_bytes, key_words, weight_panels_ + p * panel_bytes, kLanes, used_words,
                      kLanes);
  }
  for (int64_t i = 0; i < lanes_; ++i) {
    if (alpha_[i] == 1.0f) continue;
    float* row = out_ + i * columns;
    for (int64_t c = 0; c < columns; ++c) row[c] *= alpha_[i];
  }
  if (kernels_.bf16) {
    auto* b = reinterpret_cast<uint16_t*>(value_panels_);
    tiles.pair_rows(b, kLanes * kFlashKeys, reinterpret_cast<const uint16_t*>(values), ldv, keys, n_);
    tiles.mul_bf16({out_, columns, reinterpret_cast<uint16_t*>(weight_rows_), kFlashKeys, b, kLanes * kFlashKeys,
                    lanes_, used_words, column_panels, 1.0f, nullptr, true});
  } else {
    auto* b = reinterpret_cast<float*>(value_panels_);
    kernels_.pack_panels(b, kLanes * kFlashKeys, reinterpret_cast<const float*>(values), ldv, keys, n_);
    tiles.mul_f32({out_, columns, reinterpret_cast<float*>(weight_rows_), kFlashKeys, b, kLanes * kFlashKeys, lanes_,
                   keys, column_panels, 1.0f, nullptr, true});
  }
}

void Flash::Finish(float* to, int64_t ldo) const {
  for (int64_t i = 0; i < lanes_; ++i) {
    const float inverse = sum_[i] == 0 ? 0.0f : 1.0f / sum_[i];
    const float* row = out_row(i);
    for (int64_t c = 0; c < n_; ++c) to[i * ldo + c] = sum_[i] == 0 ? 0.0f : row[c] * inverse;
  }
}

}  // namespace fathom::kernels
