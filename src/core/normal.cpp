#include "core/normal.h"

#include <bit>
#include <cmath>
#include <cstring>

namespace fathom {
namespace {

constexpr int kLanes = 32;  // counters of a block

struct Words {
  uint32_t w[4][kLanes];
};

// Philox4x32-10 of kLanes consecutive counters, as core/rng.cpp has it for one.
void PhiloxBlock(uint64_t seed, uint64_t stream, uint64_t counter, Words& out) {
  constexpr uint32_t kM0 = 0xD2511F53u, kM1 = 0xCD9E8D57u, kW0 = 0x9E3779B9u, kW1 = 0xBB67AE85u;
  uint32_t *c0 = out.w[0], *c1 = out.w[1], *c2 = out.w[2], *c3 = out.w[3];
  for (int i = 0; i < kLanes; ++i) {
    const uint64_t c = counter + static_cast<uint64_t>(i);
    c0[i] = static_cast<uint32_t>(c);
    c1[i] = static_cast<uint32_t>(c >> 32);
    c2[i] = static_cast<uint32_t>(stream);
    c3[i] = static_cast<uint32_t>(stream >> 32);
  }
  uint32_t k0 = static_cast<uint32_t>(seed), k1 = static_cast<uint32_t>(seed >> 32);
  for (int round = 0; round < 10; ++round) {
    for (int i = 0; i < kLanes; ++i) {
      const uint64_t p0 = uint64_t{kM0} * c0[i], p1 = uint64_t{kM1} * c2[i];
      const uint32_t n0 = static_cast<uint32_t>(p1 >> 32) ^ c1[i] ^ k0,
                     n2 = static_cast<uint32_t>(p0 >> 32) ^ c3[i] ^ k1;
      c1[i] = static_cast<uint32_t>(p1);
      c3[i] = static_cast<uint32_t>(p0);
      c0[i] = n0;
      c2[i] = n2;
    }
    k0 += kW0;
    k1 += kW1;
  }
}

// -2 ln x for x in (0, 1]: x = m 2^e with m in [sqrt(1/2), sqrt(2)), ln m = 2 artanh((m - 1) / (m + 1)) as a series,
// whose terms beyond s^9 are below 2^-30 there.
inline float MinusTwoLog(float x) {
  const uint32_t u = std::bit_cast<uint32_t>(x) - 0x3f3504f3u;
  const int32_t e = static_cast<int32_t>(u) >> 23;
  const float m = std::bit_cast<float>((u & 0x7fffffu) + 0x3f3504f3u);
  const float s = (m - 1.0f) / (m + 1.0f), s2 = s * s;
  const float ln_m = s * (2.0f + s2 * (0.66666667f + s2 * (0.4f + s2 * (0.28571429f + s2 * 0.22222222f))));
  return -2.0f * (static_cast<float>(e) * 0.69314718f + ln_m);
}

// cos and sin of 2 pi u / 2^32, u an angle of 32 bits: the nearest quarter turn, and the Taylor series of the rest
// within 1/8 turn either side (the first terms left out are below 2^-25).
inline void CosSin(uint32_t u, float& cos, float& sin) {
  const uint32_t quarter = (u + 0x20000000u) >> 30;
  const float t = static_cast<float>(static_cast<int32_t>(u - (quarter << 30))) * (1.5707963268f * 0x1p-30f),
              t2 = t * t;
  const float c = 1.0f + t2 * (-0.5f + t2 * (0.041666667f + t2 * (-0.0013888889f + t2 * 2.4801587e-5f)));
  const float s = t + t * t2 * (-0.16666667f + t2 * (0.0083333333f + t2 * (-0.00019841270f + t2 * 2.7557319e-6f)));
  const float a = quarter & 1 ? s : c, b = quarter & 1 ? c : s;
  // The signs as bits: cos is negative in quarters 1 and 2, sin in 2 and 3.
  cos = std::bit_cast<float>(std::bit_cast<uint32_t>(a) ^ (((quarter + 1) & 2) << 30));
  sin = std::bit_cast<float>(std::bit_cast<uint32_t>(b) ^ ((quarter & 2) << 30));
}

// Values of one block, four a counter.
void NormalBlock(uint64_t seed, uint64_t stream, uint64_t counter, float deviation, float* out) {
  Words words;
  PhiloxBlock(seed, stream, counter, words);
  float z[4][kLanes];
  for (int half = 0; half < 2; ++half) {
    const uint32_t *radius = words.w[2 * half], *angle = words.w[2 * half + 1];
    float *first = z[2 * half], *second = z[2 * half + 1];
    for (int i = 0; i < kLanes; ++i) {
      const float x = static_cast<float>(static_cast<int32_t>((radius[i] >> 8) + 1)) * 0x1p-24f;
      const float r = deviation * std::sqrt(MinusTwoLog(x));
      float c, s;
      CosSin(angle[i], c, s);
      first[i] = r * c;
      second[i] = r * s;
    }
  }
  for (int i = 0; i < kLanes; ++i) {
    for (int k = 0; k < 4; ++k) out[4 * i + k] = z[k][i];
  }
}

}  // namespace

void FillNormal(uint64_t seed, uint64_t stream, uint64_t counter, float deviation, float* out, int64_t n) {
  constexpr int64_t kBlock = 4 * kLanes;
  for (; n >= kBlock; n -= kBlock, out += kBlock, counter += kLanes) NormalBlock(seed, stream, counter, deviation, out);
  if (n > 0) {
    float rest[kBlock];
    NormalBlock(seed, stream, counter, deviation, rest);
    std::memcpy(out, rest, static_cast<size_t>(n) * sizeof(float));
  }
}

}  // namespace fathom
