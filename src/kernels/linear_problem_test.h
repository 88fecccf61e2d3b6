// Data of a matrix-product problem for the tests: every array ends at a page that cannot be touched, weights at any
// alignment of their element, rows of x and y apart.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cmath>
#include <vector>

#include "core/rng.h"
#include "kernels/linear_tiles.h"
#include "kernels/problem.h"
#include "kernels/reference/linear.h"

namespace fathom::kernels {

// `bytes` that end where a page begins whose access is a fault.
class Guarded {
 public:
  explicit Guarded(int64_t bytes) {
    const int64_t page = sysconf(_SC_PAGESIZE);
    size_ = static_cast<size_t>(RoundUp(std::max<int64_t>(bytes, 1), page) + page);
    void* p = mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    FATHOM_CHECK(p != MAP_FAILED);
    base_ = static_cast<std::byte*>(p);
    std::byte* guard = base_ + size_ - page;
    FATHOM_CHECK(mprotect(guard, static_cast<size_t>(page), PROT_NONE) == 0);
    data_ = guard - bytes;
  }
  ~Guarded() {
    if (base_) munmap(base_, size_);
  }
  Guarded(Guarded&& o) noexcept { std::swap(base_, o.base_), std::swap(size_, o.size_), std::swap(data_, o.data_); }
  Guarded(const Guarded&) = delete;
  Guarded& operator=(const Guarded&) = delete;

  template <class T>
  T* data() const {
    return reinterpret_cast<T*>(data_);
  }

 private:
  std::byte* base_ = nullptr;
  size_t size_ = 0;
  std::byte* data_ = nullptr;
};

// One weight with values small whole numbers (`exact`) or normally distributed, its scales powers of two if exact.
struct TestWeight {
  TestWeight(int64_t rows, int64_t cols, DType dtype, bool exact, bool ue8m0, uint64_t seed)
      : data(rows * cols * SizeOf(dtype)), scales(4 * CeilDiv(rows + 200, kFp8Block) * CeilDiv(cols, kFp8Block)) {
    Rng rng(seed, 1);
    for (int64_t i = 0; i < rows * cols; ++i) {
      const float v = exact ? static_cast<float>(rng.NextBelow(9) - 4) : 0.5f * static_cast<float>(rng.NextNormal());
      if (dtype == DType::kF32) data.data<float>()[i] = v;
      if (dtype == DType::kF16) data.data<uint16_t>()[i] = F32ToF16(v);
      if (dtype == DType::kBF16) data.data<uint16_t>()[i] = F32ToBf16(v);
      if (dtype == DType::kF8E4M3) data.data<uint8_t>()[i] = F32ToE4M3(exact ? v : v * 64);
    }
    w.data = data.data<void>();
    w.dtype = dtype;
    w.rows = rows;
    w.cols = cols;
    w.ue8m0 = ue8m0;
    if (dtype != DType::kF8E4M3) return;
    // Begins within a block of scales, as a matrix's inner rows do.
    w.row0 = seed % 3 == 0 ? 0 : 72;
    const int64_t count = CeilDiv(w.row0 + rows, kFp8Block) * w.scale_cols();
    for (int64_t i = 0; i < count; ++i) {
      const float pick = static_cast<float>(1 << rng.NextBelow(4));
      scales.data<float>()[i] = exact || ue8m0 ? pick * 0.25f : 0.01f + 0.02f * static_cast<float>(rng.NextDouble());
    }
    w.scale = scales.data<float>();
  }
  Guarded data, scales;
  Weight w;
};

}  // namespace fathom::kernels
