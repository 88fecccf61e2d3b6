#include "core/nonfinite.h"

#include <cstddef>
#include <cstring>

#include "core/error.h"

namespace fathom {
namespace {

// Magnitude bits at or above those of infinity. No branches: the compiler makes vectors of it.
template <class T>
int64_t Count(const std::byte* data, int64_t n, T magnitude, T infinity) {
  int64_t found = 0;
  for (int64_t i = 0; i < n; ++i) {
    T bits;
    std::memcpy(&bits, data + i * static_cast<int64_t>(sizeof(T)), sizeof(T));
    found += (bits & magnitude) >= infinity;
  }
  return found;
}

}  // namespace

int64_t CountNonFinite(const void* data, DType dtype, int64_t n) {
  const auto* bytes = static_cast<const std::byte*>(data);
  switch (dtype) {
    case DType::kF32:
      return Count<uint32_t>(bytes, n, 0x7fffffffu, 0x7f800000u);
    case DType::kBF16:
      return Count<uint16_t>(bytes, n, 0x7fff, 0x7f80);
    case DType::kF16:
      return Count<uint16_t>(bytes, n, 0x7fff, 0x7c00);
    case DType::kF8E4M3:
      return Count<uint8_t>(bytes, n, 0x7f, 0x7f);
    default:
      FATHOM_CHECK(false, "a type that no parameter has");
      return 0;
  }
}

int64_t FirstNonFiniteOf(const void* data, DType dtype, int64_t n) {
  constexpr int64_t kPiece = 4096;
  const auto* bytes = static_cast<const std::byte*>(data);
  for (int64_t begin = 0; begin < n; begin += kPiece) {
    const int64_t end = begin + kPiece < n ? begin + kPiece : n;
    if (CountNonFinite(bytes + begin * SizeOf(dtype), dtype, end - begin) == 0) continue;
    for (int64_t i = begin; i < end; ++i) {
      if (CountNonFinite(bytes + i * SizeOf(dtype), dtype, 1) > 0) return i;
    }
  }
  return -1;
}

}  // namespace fathom
