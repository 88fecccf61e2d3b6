// Peak loops for a machine of which nothing is known: 16-byte vectors of the compiler (SSE2, NEON).
#include <cstring>

#include "kernels/peak_loops.h"

namespace fathom::kernels::peak {
namespace {

using Vec = uint64_t __attribute__((vector_size(16)));
constexpr int64_t kVecBytes = 16;
inline Vec Load(const char* p) {
  Vec v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
inline Vec Xor(Vec a, Vec b) { return a ^ b; }
inline uint64_t Fold(Vec v) { return v[0] ^ v[1]; }
inline void Prefetch(const char* p) { __builtin_prefetch(p); }

}  // namespace
}  // namespace fathom::kernels::peak

#include "kernels/peak_read-inl.h"

namespace fathom::kernels::peak {

uint64_t ReadPlain(const void* data, int64_t bytes, int streams, bool prefetch) {
  return Read(data, bytes, streams, prefetch);
}

double MulAddPlain(int64_t rounds, float* sink) {
  using Floats = float __attribute__((vector_size(16)));
  constexpr int kAcc = 8;
  const volatile float half = 0.5f;
  const float h = half;
  const Floats a = {h, h, h, h};
  Floats acc[kAcc] = {};
  for (int64_t i = 0; i < rounds; ++i) {
    for (Floats& v : acc) v = v * a + a;
  }
  float sum = 0;
  for (const Floats& v : acc) sum += v[0] + v[1] + v[2] + v[3];
  *sink = sum;
  return static_cast<double>(rounds) * kAcc * 4 * 2;
}

}  // namespace fathom::kernels::peak
