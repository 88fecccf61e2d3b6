// An FP8 product as a Hopper tensor core sums it (contract in train_ops.h), in double, which holds every partial sum
// before it is cut exactly: 14 bits and a few products of 8.
#include <algorithm>
#include <bit>

#include "kernels/reference/fp8.h"

namespace fathom::kernels::reference {
namespace {

// The highest `bits` bits of x, the rest cut off.
double Truncated(double x, int bits) {
  constexpr int kSignificand = 53;
  return std::bit_cast<double>(std::bit_cast<uint64_t>(x) & ~((uint64_t{1} << (kSignificand - bits)) - 1));
}

}  // namespace

void Fp8TensorCore(const Fp8TensorCoreArgs& args, int64_t begin, int64_t end) {
  for (int64_t i = begin; i < end; ++i) {
    for (int64_t j = 0; j < args.n; ++j) {
      const uint8_t* x = args.x + i * args.k;
      const uint8_t* w = args.w + j * args.k;
      float promoted = 0;
      double sum = 0;
      for (int64_t k = 0; k < args.k; k += args.group) {
        if (args.interval > 0 && k > 0 && k % args.interval == 0) {
          promoted += static_cast<float>(sum);
          sum = 0;
        }
        double products = 0;
        for (int64_t g = k; g < std::min(k + args.group, args.k); ++g) {
          products += static_cast<double>(E4M3ToF32(x[g])) * E4M3ToF32(w[g]);
        }
        sum = Truncated(sum + products, args.bits);
      }
      args.y[i * args.n + j] = promoted + static_cast<float>(sum);
    }
  }
}

}  // namespace fathom::kernels::reference
