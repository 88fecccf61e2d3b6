// FP8: tiles and blocks, and the products of their codes. Part of simd/tiles.cpp, after simd/tiles-inl.h, whose notes
// hold here too.
HWY_BEFORE_NAMESPACE();
namespace fathom::kernels::HWY_NAMESPACE {
namespace {

// ---- Codes ----

// Codes of E4M3 in 32-bit lanes, nearest, ties to even; beyond 448 NaN.
HWY_INLINE VU EncodeE4m3(VF x) {
  const DF df;
  const DU du;
  const auto u = hn::BitCast(du, x);
  const auto sign = hn::And(u, hn::Set(du, 0x80000000u));
  const auto a = hn::Xor(u, sign);
  const auto odd = hn::And(hn::ShiftRight<20>(a), hn::Set(du, 1u));
  const auto rounded = hn::ShiftRight<20>(hn::Add(a, hn::Add(odd, hn::Set(du, 0x7ffffu))));
  const auto normal = hn::Sub(rounded, hn::Set(du, 120u << 3));
  // Adding 2^14 leaves a multiple of 2^-9, the subnormals' spacing, in the low bits.
  const auto magic = hn::Set(df, 16384.0f);
  const auto subnormal = hn::Sub(hn::BitCast(du, hn::Add(hn::BitCast(df, a), magic)), hn::BitCast(du, magic));
  auto code = hn::IfThenElse(hn::Lt(a, hn::Set(du, 121u << 23)), subnormal, normal);
  code = hn::Min(code, hn::Set(du, 0x7fu));
  return hn::Or(code, hn::ShiftRight<24>(sign));
}

// Codes of E5M6 in 32-bit lanes, nearest, ties to even; x is at most 65024, but for rounding, or NaN.
HWY_INLINE VU EncodeE5m6(VF x) {
  const DF df;
  const DU du;
  const auto u = hn::BitCast(du, x);
  const auto sign = hn::And(u, hn::Set(du, 0x80000000u));
  const auto a = hn::Xor(u, sign);
  const auto odd = hn::And(hn::ShiftRight<17>(a), hn::Set(du, 1u));
  const auto rounded = hn::ShiftRight<17>(hn::Add(a, hn::Add(odd, hn::Set(du, 0xffffu))));
  const auto normal = hn::Sub(rounded, hn::Set(du, 112u << 6));
  // Adding 2^3 leaves a multiple of 2^-20, the subnormals' spacing, in the low bits.
  const auto magic = hn::Set(df, 8.0f);
  const auto subnormal = hn::Sub(hn::BitCast(du, hn::Add(hn::BitCast(df, a), magic)), hn::BitCast(du, magic));
  auto code = hn::IfThenElse(hn::Lt(a, hn::Set(du, 113u << 23)), subnormal, normal);
  code = hn::IfThenElse(hn::Gt(a, hn::Set(du, 0x7f800000u)), hn::Set(du, 0x7e0u), code);
  return hn::Or(code, hn::ShiftRight<20>(sign));
}

HWY_INLINE VF DecodeE5m6(VU code) {
  const DF df;
  const DU du;
  const auto sign = hn::And(code, hn::Set(du, 0x800u));
  const auto magnitude = hn::And(code, hn::Set(du, 0x7ffu));
  const auto moved = hn::ShiftLeft<17>(magnitude);
  const auto normal = hn::Add(moved, hn::Set(du, 112u << 23));
  const auto units = hn::ConvertTo(df, hn::BitCast(DI(), magnitude));
  const auto subnormal = hn::BitCast(du, hn::Mul(units, hn::Set(df, 0x1p-20f)));
  auto bits = hn::IfThenElse(hn::Lt(magnitude, hn::Set(du, 1u << 6)), subnormal, normal);
  bits = hn::IfThenElse(hn::Lt(magnitude, hn::Set(du, 31u << 6)), bits, hn::Or(moved, hn::Set(du, 0x7f800000u)));
  return hn::BitCast(df, hn::Or(bits, hn::ShiftLeft<20>(sign)));
}

HWY_INLINE VF DecodeE4m3(VU code) { return DecodeSmall<3, 7, false>(code, 0x7fu, 0x80u); }

HWY_INLINE float TileScale(float amax, bool ue8m0, float floor) {
  const float s = (amax > floor ? amax : floor) / 448.0f;
  if (!ue8m0) return s;
  uint32_t u;
  __builtin_memcpy(&u, &s, sizeof u);
  u = ((u >> 23) + ((u & 0x7fffffu) != 0)) << 23;
  float power;
  __builtin_memcpy(&power, &u, sizeof power);
  return power;
}

// The larger magnitude, lane by lane; NaN of x is passed over.
HWY_INLINE VF LargerOf(VF largest, VF x) {
  const auto a = hn::Abs(x);
  return hn::IfThenElse(hn::Gt(a, largest), a, largest);
}

float Largest(const float* x, int64_t n) {
  const DF df;
  auto largest = hn::Zero(df);
  int64_t i = 0;
  for (; i + kN <= n; i += kN) largest = LargerOf(largest, hn::LoadU(df, x + i));
  float amax = hn::GetLane(hn::MaxOfLanes(df, largest));
  for (; i < n; ++i) {
    const float a = x[i] < 0 ? -x[i] : x[i];
    amax = a > amax ? a : amax;
  }
  return amax;
}

struct CodesOfVector {
  VF scale;
  HWY_INLINE void operator()(uint8_t* out, const float* in) const {
    const auto code = EncodeE4m3(hn::Div(hn::LoadU(DF(), in), scale));
    hn::StoreU(hn::DemoteTo(hn::Rebind<uint8_t, DI>(), hn::BitCast(DI(), code)), hn::Rebind<uint8_t, DI>(), out);
  }
  HWY_INLINE void operator()(float* out, const float* in) const {
    hn::StoreU(DecodeE4m3(EncodeE4m3(hn::Div(hn::LoadU(DF(), in), scale))), DF(), out);
  }
};

void EncodeE4m3Row(uint8_t* codes, float* values, const float* x, int64_t n, float scale) {
  const CodesOfVector encode{hn::Set(DF(), scale)};
  if (codes) MapRow(codes, x, n, encode);
  if (values) MapRow(values, x, n, encode);
}

void Quantize(uint8_t* codes, float* values, float* scales, const float* x, int64_t n, bool ue8m0, float floor) {
  for (int64_t begin = 0; begin < n; begin += kScaleBlock) {
    const int64_t count = n - begin < kScaleBlock ? n - begin : kScaleBlock;
    const float scale = TileScale(Largest(x + begin, count), ue8m0, floor);
    scales[begin / kScaleBlock] = scale;
    EncodeE4m3Row(codes ? codes + begin : nullptr, values ? values + begin : nullptr, x + begin, count, scale);
  }
}

struct E5m6Vector {
  VF scale;
  HWY_INLINE void operator()(uint32_t* out, const float* in) const {
    hn::StoreU(EncodeE5m6(hn::Div(hn::LoadU(DF(), in), scale)), DU(), out);
  }
  HWY_INLINE void operator()(float* out, const uint32_t* in) const {
    hn::StoreU(hn::Mul(DecodeE5m6(hn::LoadU(DU(), in)), scale), DF(), out);
  }
};

// Pairs of 12 bits in three bytes, the low bits first; an odd last code in two.
void EncodeE5m6Row(void* out, const float* x, int64_t n, float scale) {
  uint8_t* to = static_cast<uint8_t*>(out);
  const E5m6Vector encode{hn::Set(DF(), scale)};
  for (int64_t begin = 0; begin < n; begin += kScaleBlock) {
    const int64_t count = n - begin < kScaleBlock ? n - begin : kScaleBlock;
    HWY_ALIGN uint32_t codes[kScaleBlock + 1];
    MapRow(codes, x + begin, count, encode);
    codes[count] = 0;
    for (int64_t i = 0; i < count; i += 2, to += 3) {
      const uint32_t pair = codes[i] | codes[i + 1] << 12;
      __builtin_memcpy(to, &pair, i + 1 < count ? 3 : 2);
    }
  }
}

void ScaleE5m6Row(float* out, const void* in, int64_t n, float scale) {
  const uint8_t* from = static_cast<const uint8_t*>(in);
  const E5m6Vector decode{hn::Set(DF(), scale)};
  for (int64_t begin = 0; begin < n; begin += kScaleBlock) {
    const int64_t count = n - begin < kScaleBlock ? n - begin : kScaleBlock;
    HWY_ALIGN uint32_t codes[kScaleBlock + 1];
    int64_t i = 0;
    for (; i + 2 < count; i += 2, from += 3) {  // four bytes at a time: the fourth is the next pair's
      uint32_t pair;
      __builtin_memcpy(&pair, from, 4);
      codes[i] = pair & 0xfffu;
      codes[i + 1] = pair >> 12 & 0xfffu;
    }
    for (; i < count; i += 2, from += 3) {
      uint32_t pair = 0;
      __builtin_memcpy(&pair, from, i + 1 < count ? 3 : 2);
      codes[i] = pair & 0xfffu;
      codes[i + 1] = pair >> 12;
    }
    MapRow(out + begin, codes, count, decode);
  }
}

// ---- Tiles 128x1 ----

// Scales of columns from their largest magnitudes.
HWY_INLINE VF ColumnScales(VF amax, float floor, bool ue8m0) {
  const DF df;
  const DU du;
  const auto least = hn::Set(df, floor);
  const auto s = hn::Div(hn::IfThenElse(hn::Gt(amax, least), amax, least), hn::Set(df, 448.0f));
  if (!ue8m0) return s;
  const auto u = hn::BitCast(du, s);
  const auto whole = hn::And(u, hn::Set(du, 0x7f800000u));
  const auto up = hn::Add(whole, hn::Set(du, 1u << 23));
  return hn::BitCast(df, hn::IfThenElse(hn::Eq(whole, u), whole, up));
}

void ColumnTileF32(const ColumnTile& t) {
  const DF df;
  constexpr int64_t kWidth = kScaleBlock;
  float* values = static_cast<float*>(t.scratch);  // (count, 128) of codes' values times their scales, or x
  float block_amax = 0;
  for (int64_t r = 0; r < t.count; ++r) {
    float* row = values + r * kWidth;
    for (int64_t c = t.n; c < kWidth; ++c) row[c] = 0;
    const float amax = Largest(t.rows[r], t.n);
    if (t.block) {
      block_amax = amax > block_amax ? amax : block_amax;
      Copy(row, t.rows[r], t.n);
      continue;
    }
    const float scale = TileScale(amax, t.ue8m0, t.floor);
    EncodeE4m3Row(nullptr, row, t.rows[r], t.n, scale);
    const auto scale_vector = hn::Set(df, scale);
    for (int64_t c = 0; c < t.n; c += kN) hn::StoreU(hn::Mul(hn::LoadU(df, row + c), scale_vector), df, row + c);
    for (int64_t c = t.n; c < kWidth; ++c) row[c] = 0;
  }
  const auto block_scale = hn::Set(df, TileScale(block_amax, t.ue8m0, t.floor));
  for (int64_t c = 0; c < t.n; c += kN) {
    auto scale = block_scale;
    if (!t.block) {
      auto amax = hn::Zero(df);
      for (int64_t r = 0; r < t.count; ++r) amax = LargerOf(amax, hn::LoadU(df, values + r * kWidth + c));
      scale = ColumnScales(amax, t.floor, t.ue8m0);
    }
    HWY_ALIGN float lanes[kN];
    hn::Store(scale, df, lanes);
    Copy(t.scales + c, lanes, t.n - c < kN ? t.n - c : kN);
    float* out = static_cast<float*>(t.panels) + c / kLanes * t.ld + c % kLanes;
    for (int64_t r = 0; r < t.count; ++r) {
      hn::StoreU(DecodeE4m3(EncodeE4m3(hn::Div(hn::LoadU(df, values + r * kWidth + c), scale))), df, out + r * kLanes);
    }
  }
  // Vectors shorter than a panel may have left some of its lanes.
  for (int64_t c = (t.n + kN - 1) / kN * kN; c % kLanes != 0; ++c) {
    float* out = static_cast<float*>(t.panels) + c / kLanes * t.ld + c % kLanes;
    for (int64_t r = 0; r < t.count; ++r) out[r * kLanes] = 0;
  }
}

// ---- Products of codes ----

// Piece `piece` of k.
template <int kR, int kP>
HWY_INLINE void ScaledBlock(const MulScaled& m, int64_t row, int64_t panel, int64_t piece) {
  constexpr int kV = kP * kVectors;
  const DF df;
  const int64_t first = piece * kSumCutCodes;
  const float* a = static_cast<const float*>(m.a) + row * m.lda + first;
  const float* b = static_cast<const float*>(m.b) + panel * m.ldb + first * kLanes;
  const int64_t count = m.k - first < kSumCutCodes ? m.k - first : kSumCutCodes;
  const bool accumulate = m.accumulate || piece > 0;
  VF acc[kR][kV];
  HWY_UNROLL(32)
  for (int r = 0; r < kR; ++r) {
    HWY_UNROLL(32)
    for (int v = 0; v < kV; ++v) acc[r][v] = hn::Zero(df);
  }
  for (int64_t k = 0; k < count; ++k) {
    VF bv[kV];
    HWY_UNROLL(32)
    for (int v = 0; v < kV; ++v) {
      bv[v] = hn::LoadU(df, b + (v / kVectors) * m.ldb + k * kLanes + (v % kVectors) * kN);
    }
    HWY_UNROLL(32)
    for (int r = 0; r < kR; ++r) {
      const auto av = hn::Set(df, a[r * m.lda + k]);
      HWY_UNROLL(32)
      for (int v = 0; v < kV; ++v) acc[r][v] = hn::MulAdd(av, bv[v], acc[r][v]);
    }
  }
  const float* row_scale = m.row_scale + piece * m.ld_row_scale + row;
  HWY_UNROLL(32)
  for (int v = 0; v < kV; ++v) {
    const int64_t lane = panel * kLanes + v * kN;
    const auto s = hn::LoadU(df, m.lane_scale + piece * m.ld_lane_scale + lane);
    HWY_UNROLL(32)
    for (int r = 0; r < kR; ++r) {
      float* c = m.c + (row + r) * m.ldc + lane;
      const auto scale = hn::Mul(s, hn::Set(df, row_scale[r]));
      hn::StoreU(accumulate ? hn::MulAdd(acc[r][v], scale, hn::LoadU(df, c)) : hn::Mul(acc[r][v], scale), df, c);
    }
  }
}

template <int kR, int kP>
HWY_INLINE void ScaledRows(const MulScaled& m, int64_t row, int64_t panel) {
  for (; row + kR <= m.rows; row += kR) {
    for (int64_t piece = 0; piece * kSumCutCodes < m.k; ++piece) ScaledBlock<kR, kP>(m, row, panel, piece);
  }
  if constexpr (kR > 1) ScaledRows<kR / 2, kP>(m, row, panel);
}

void MulScaledF32(const MulScaled& m) {
  int64_t panel = 0;
#if HWY_TARGET == HWY_AVX3
  for (; panel + 2 <= m.panels; panel += 2) ScaledRows<12, 2>(m, 0, panel);
  constexpr int kRows = 16;
#elif HWY_TARGET == HWY_AVX2
  constexpr int kRows = 6;
#elif HWY_TARGET == HWY_NEON
  constexpr int kRows = 6;
#else
  constexpr int kRows = 2;
#endif
  for (; panel < m.panels; ++panel) ScaledRows<kRows, 1>(m, 0, panel);
}

}  // namespace
}  // namespace fathom::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
