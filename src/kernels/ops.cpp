#include "kernels/ops.h"

namespace fathom::kernels {

std::string_view Name(Compute compute) {
  switch (compute) {
    case Compute::kF32:
      return "f32";
    case Compute::kBf16:
      return "bf16";
    case Compute::kW8A8:
      return "w8a8";
    case Compute::kFp8:
      return "fp8";
  }
  return "";
}

Weight Weight::Rows(int64_t begin, int64_t count) const {
  FATHOM_CHECK(begin >= 0 && count >= 0 && begin + count <= rows);
  Weight part = *this;
  part.data = data ? RowData(begin) : nullptr;  // null while memory is planned
  part.rows = count;
  part.row0 = row0 + begin;
  if (part.row0 % kCompactRows != 0 || count % kCompactRows != 0) part.compact = nullptr;
  return part;
}

bool LatentCache::Valid() const {
  if (dtype == DType::kF8E4M3) return rope >= 0 && rope <= width;
  return dtype == DType::kF32 || dtype == DType::kBF16;
}

}  // namespace fathom::kernels
