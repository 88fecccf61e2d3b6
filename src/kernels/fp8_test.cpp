// FP8 of training: tiles, blocks and their packing, to the bit, on every instruction set of the machine.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <vector>

#include "io/safetensors.h"
#include "kernels/linear_problem_test.h"
#include "kernels/reference/fp8.h"
#include "kernels/tiles.h"
#include "kernels/train_problem_test.h"

namespace fathom::kernels {
namespace {

// Values of many sizes with zeros, subnormals, one huge value, NaN and infinity among them; tiles of zeros.
std::vector<float> Awkward(int64_t rows, int64_t n, uint64_t seed) {
  Rng rng(seed, 9);
  std::vector<float> x;
  for (int64_t i = 0; i < rows * n; ++i) {
    const float spread = std::ldexp(1.0f, static_cast<int>(rng.NextBelow(60)) - 40);
    x.push_back(static_cast<float>(rng.NextNormal()) * spread);
  }
  const auto put = [&](int64_t i, float value) { x[static_cast<size_t>(i % (rows * n))] = value; };
  put(5, NAN), put(3 * n, INFINITY), put(5 * n + 1, -0.0f), put(7 * n, 1e-42f), put(11 * n, 3e38f);
  put(13 * n, -1e30f), put(13 * n + 2, -INFINITY);
  std::fill(x.begin() + rows / 2 * n, x.begin() + (rows / 2 + 2) * n, 0.0f);
  std::fill(x.begin() + (rows / 2 + 2) * n, x.begin() + (rows / 2 + 3) * n, 0x1p-110f);
  // Half-way between values of E4M3, and the floats beside.
  for (int64_t i = 0; i < n; ++i) {
    const float tie = (1 + static_cast<float>(2 * (i % 8) + 1) / 16) * std::ldexp(1.0f, static_cast<int>(i % 9));
    put((rows / 2 + 4) * n + i, i % 3 == 0 ? tie : std::nextafter(tie, i % 3 == 1 ? 0.0f : 1e9f));
  }
  return x;
}

bool SameBits(const std::vector<float>& a, const std::vector<float>& b) {
  for (size_t i = 0; i < a.size(); ++i) {
    if (std::bit_cast<uint32_t>(a[i]) != std::bit_cast<uint32_t>(b[i]) && !(std::isnan(a[i]) && std::isnan(b[i]))) {
      return false;
    }
  }
  return a.size() == b.size();
}

template <class F>
void ForEachIsa(const F& f) {
  for (const Isa isa : IsasAndReference()) {
    SCOPED_TRACE(Name(isa));
    ThreadPool pool(3);
    Context ctx{pool, isa, {}};
    f(ctx);
  }
}

struct Packed {
  std::vector<std::byte> codes;
  std::vector<float> scales, values;
};

Packed PackAndUnpack(Context& ctx, const std::vector<float>& x, int64_t n, TileFormat format, bool ue8m0) {
  const int64_t rows = static_cast<int64_t>(x.size()) / n, tiles = CeilDiv(n, kFp8Block);
  // Every row ends where the next begins, the last where nothing may be touched.
  const Guarded codes(rows * TileRowBytes(format, n)), from(rows * n * 4), to(rows * n * 4);
  std::copy(x.begin(), x.end(), from.data<float>());
  Packed p;
  p.scales.resize(static_cast<size_t>(rows * tiles));
  PackTiles(ctx, {codes.data<std::byte>(), p.scales.data(), from.data<float>(), n, rows, n, format, ue8m0});
  UnpackTiles(ctx, {to.data<float>(), n, codes.data<std::byte>(), p.scales.data(), rows, n, format});
  p.codes.assign(codes.data<std::byte>(), codes.data<std::byte>() + rows * TileRowBytes(format, n));
  p.values.assign(to.data<float>(), to.data<float>() + rows * n);
  return p;
}

TEST(PackTiles, BitsOfTheReference) {
  for (const TileFormat format : {TileFormat::kE4M3, TileFormat::kE5M6}) {
    for (const int64_t n : {1, 7, 24, 80, 128, 129, 300, 1024}) {
      const std::vector<float> x = Awkward(40, n, static_cast<uint64_t>(n));
      for (const bool ue8m0 : {false, true}) {
        ThreadPool pool(1);
        Context reference{pool, Isa::kReference, {}};
        const Packed want = PackAndUnpack(reference, x, n, format, ue8m0);
        ForEachIsa([&](Context& ctx) {
          const Packed got = PackAndUnpack(ctx, x, n, format, ue8m0);
          EXPECT_EQ(got.codes, want.codes) << n;
          EXPECT_TRUE(SameBits(got.scales, want.scales)) << n;
          EXPECT_TRUE(SameBits(got.values, want.values)) << n;
        });
      }
    }
  }
}

// The layout and the values, from the conversions of a single value.
TEST(PackTiles, IsTheFormat) {
  constexpr int64_t kN = 131;
  const std::vector<float> x = Random(kN, 3);
  ForEachIsa([&](Context& ctx) {
    const Packed p = PackAndUnpack(ctx, x, kN, TileFormat::kE5M6, true);
    ASSERT_EQ(p.codes.size(), 65u * 3 + 2);
    for (int64_t i = 0; i < kN; ++i) {
      uint32_t bits = 0;
      std::memcpy(&bits, p.codes.data() + i / 2 * 3, i == kN - 1 ? 2 : 3);
      const uint32_t code = i % 2 == 0 ? bits & 0xfffu : bits >> 12;
      const float scale = p.scales[static_cast<size_t>(i / kFp8Block)], value = x[static_cast<size_t>(i)];
      EXPECT_EQ(code, F32ToE5M6(value / scale)) << i;
      EXPECT_EQ(p.values[static_cast<size_t>(i)], E5M6ToF32(static_cast<uint16_t>(code)) * scale);
      // Six bits behind the first: half of 2^-6, and half of the subnormals' spacing.
      EXPECT_LE(std::fabs(p.values[static_cast<size_t>(i)] - value), std::fabs(value) * 0x1p-7f + scale * 0x1p-21f);
    }
    float amax = 0;
    for (int64_t i = 0; i < kFp8Block; ++i) amax = std::max(amax, std::fabs(x[static_cast<size_t>(i)]));
    EXPECT_EQ(p.scales[0], std::exp2(std::ceil(std::log2(amax / kE5M6Max))));
  });
}

// A tile of zeros has the floor's scale and codes 0, and stays zeros; what lies far below the floor of the published
// inference kernel keeps its codes.
TEST(PackTiles, ZerosAndSmallGradients) {
  std::vector<float> x(2 * 128, 0.0f);
  for (size_t i = 0; i < 128; ++i) x[128 + i] = 1e-12f * static_cast<float>(i);
  ForEachIsa([&](Context& ctx) {
    for (const TileFormat format : {TileFormat::kE4M3, TileFormat::kE5M6}) {
      const Packed p = PackAndUnpack(ctx, x, 128, format, false);
      EXPECT_EQ(p.scales[0], 0x1p-100f / (format == TileFormat::kE4M3 ? kE4M3Max : kE5M6Max));
      for (size_t i = 0; i < 128; ++i) {
        EXPECT_EQ(p.values[i], 0.0f);
        EXPECT_NEAR(p.values[128 + i], x[128 + i], 0x1p-4 * x[128 + i]);
      }
    }
  });
}

// ---- Blocks ----

TEST(QuantizeBlocks, BitsOfTheReference) {
  struct Shape {
    int64_t rows, cols;
  };
  for (const Shape s : {Shape{1, 1}, {7, 24}, {129, 80}, {300, 257}, {128, 128}}) {
    std::vector<float> x = Awkward(std::max<int64_t>(s.rows, 40), s.cols, 77);
    x.resize(static_cast<size_t>(s.rows * s.cols));
    const int64_t blocks = CeilDiv(s.rows, kFp8Block) * CeilDiv(s.cols, kFp8Block);
    for (const bool ue8m0 : {false, true}) {
      std::vector<uint8_t> want(x.size());
      std::vector<float> want_scales(static_cast<size_t>(blocks));
      reference::QuantizeBlocks({want.data(), want_scales.data(), x.data(), s.rows, s.cols, ue8m0}, 0,
                                CeilDiv(s.rows, kFp8Block));
      ForEachIsa([&](Context& ctx) {
        std::vector<uint8_t> got(2 * x.size());
        std::vector<float> scales(static_cast<size_t>(2 * blocks));
        const QuantizeBlocksArgs both[] = {
            {got.data(), scales.data(), x.data(), s.rows, s.cols, ue8m0},
            {got.data() + x.size(), scales.data() + blocks, x.data(), s.rows, s.cols, ue8m0}};
        QuantizeBlocks(ctx, both);
        for (size_t i = 0; i < 2; ++i) {
          EXPECT_EQ(std::memcmp(got.data() + i * x.size(), want.data(), x.size()), 0) << s.rows << "x" << s.cols;
          EXPECT_EQ(
              std::memcmp(scales.data() + static_cast<int64_t>(i) * blocks, want_scales.data(), want_scales.size() * 4),
              0);
        }
      });
    }
  }
  ForEachIsa([](Context& ctx) { QuantizeBlocks(ctx, {}); });
}

// ---- The published vectors ----

std::vector<float> Floats(const TensorView& view) {
  std::vector<float> out(static_cast<size_t>(view.size()));
  for (size_t i = 0; i < out.size(); ++i) {
    out[i] = reference::Decode(static_cast<const std::byte*>(view.data), static_cast<int64_t>(i), view.dtype);
  }
  return out;
}

void ExpectBlocks(const TensorView& w, const TensorView& codes, const TensorView& scales, bool ue8m0) {
  const std::vector<float> x = Floats(w), want_scales = Floats(scales);
  ForEachIsa([&](Context& ctx) {
    std::vector<uint8_t> got(x.size());
    std::vector<float> got_scales(want_scales.size());
    const QuantizeBlocksArgs args{got.data(), got_scales.data(), x.data(), w.shape[0], w.shape[1], ue8m0};
    QuantizeBlocks(ctx, std::span(&args, 1));
    EXPECT_EQ(std::memcmp(got.data(), codes.data, got.size()), 0);
    EXPECT_EQ(got_scales, want_scales);
  });
}

// Where amax is less than 1e-4 the published kernel's floor binds, and ours does not.
void ExpectTiles(const TensorView& x_view, const TensorView& codes, const TensorView& scales, bool ue8m0) {
  const std::vector<float> x = Floats(x_view), want_scales = Floats(scales);
  const int64_t n = x_view.shape[1], tiles = CeilDiv(n, kFp8Block);
  ForEachIsa([&](Context& ctx) {
    const Packed p = PackAndUnpack(ctx, x, n, TileFormat::kE4M3, ue8m0);
    int64_t compared = 0;
    for (int64_t i = 0; i < x_view.shape[0]; ++i) {
      for (int64_t t = 0; t < tiles; ++t) {
        const int64_t first = i * n + t * kFp8Block, count = std::min(kFp8Block, n - t * kFp8Block);
        float amax = 0;
        for (int64_t j = first; j < first + count; ++j) amax = std::max(amax, std::fabs(x[static_cast<size_t>(j)]));
        if (amax < kFp8AmaxFloor) continue;
        ++compared;
        EXPECT_EQ(p.scales[static_cast<size_t>(i * tiles + t)], want_scales[static_cast<size_t>(i * tiles + t)]);
        EXPECT_EQ(std::memcmp(p.codes.data() + first, static_cast<const std::byte*>(codes.data) + first,
                              static_cast<size_t>(count)),
                  0);
      }
    }
    EXPECT_GT(compared, 0);
  });
}

TEST(Fp8Golden, BlocksAndTilesOfThePaper) {
  const io::SafetensorsFile f =
      std::move(io::SafetensorsFile::Open(FATHOM_SOURCE_DIR "/tests/golden/fp8_tiles.safetensors")).Value();
  for (const std::string tag : {"a", "b", "c"}) {
    const std::string w = "weight." + tag, x = "act." + tag;
    for (const std::string form : {"", ".ue8m0"}) {
      ExpectBlocks(f.Get(w + ".w"), f.Get(w + ".q" + form), f.Get(w + ".scale_inv" + form), !form.empty());
      ExpectTiles(f.Get(x + ".x"), f.Get(x + ".q" + form), f.Get(x + ".scale" + form), !form.empty());
    }
  }
}

TEST(Fp8Golden, BlocksAndTilesOfTheDemo) {
  const io::SafetensorsFile f =
      std::move(io::SafetensorsFile::Open(FATHOM_SOURCE_DIR "/tests/golden/fp8-ops.safetensors")).Value();
  for (const std::string form : {"", "_ue8m0"}) {
    ExpectBlocks(f.Get("w"), f.Get("weight_q" + form), f.Get("weight_scale" + form), !form.empty());
    ExpectTiles(f.Get("x"), f.Get("act_q" + form), f.Get("act_scale" + form), !form.empty());
  }
}

// ---- Operands of the gradients' products ----

struct Named {
  std::string name;
  const Tiles* tiles;
};
std::vector<Named> Tables() {
  std::vector<Named> tables;
  for (const Isa isa : VectorIsas()) {
    if (TilesOf(isa)) tables.push_back({std::string(Name(isa)), TilesOf(isa)});
  }
  return tables;
}

// The products with reciprocals give the codes of the division, ties and their neighbours included.
TEST(Fp8Tiles, ValuesAsBf16) {
  constexpr int64_t kN = 300;
  for (const Named& t : Tables()) {
    if (!t.tiles->quantize_rows_bf16) continue;
    for (const bool ue8m0 : {false, true}) {
      for (uint64_t seed = 0; seed < 40; ++seed) {
        const std::vector<float> x = Awkward(40, kN, seed);
        std::vector<float> want(kN), want_scales(3), scales(3), got(kN);
        std::vector<uint16_t> halves(kN);
        for (int64_t row = 0; row < 40; ++row) {
          std::vector<uint8_t> codes(kN);
          reference::QuantizeRow(codes.data(), want_scales.data(), x.data() + row * kN, kN, ue8m0, kFp8TrainingFloor);
          // Beside some rows more, which are groups and their rest.
          std::vector<const float*> rows;
          for (int64_t r = row; r < std::min<int64_t>(row + 21, 40); ++r) rows.push_back(x.data() + r * kN);
          const int64_t count = static_cast<int64_t>(rows.size());
          std::vector<float> all_scales(static_cast<size_t>(3 * count));
          std::vector<uint16_t> all(static_cast<size_t>(count * (kN + 3)));
          t.tiles->quantize_rows_bf16(
              {all.data(), kN + 3, all_scales.data(), count, rows.data(), count, kN, ue8m0, kFp8TrainingFloor});
          std::copy_n(all.begin(), kN, halves.begin());
          for (int64_t i = 0; i < 3; ++i) {
            scales[static_cast<size_t>(i)] = all_scales[static_cast<size_t>(i * count)];
          }
          for (size_t i = 0; i < kN; ++i) {
            want[i] = E4M3ToF32(codes[i]) + 0.0f;  // -0 may be 0
            got[i] = Bf16ToF32(halves[i]) + 0.0f;
          }
          ASSERT_TRUE(SameBits(scales, want_scales)) << t.name << " row " << row;
          ASSERT_TRUE(SameBits(got, want)) << t.name << " row " << row << " seed " << seed;
        }
      }
    }
  }
}

TEST(Fp8Tiles, ColumnTilesOfTheReference) {
  for (const Named& t : Tables()) {
    for (const bool bf16 : {false, true}) {
      const auto make = bf16 ? t.tiles->column_tile_bf16 : t.tiles->column_tile_f32;
      if (!make) continue;
      for (const int64_t m : {1, 2, 17, 128}) {
        for (const int64_t n : {1, 7, 24, 80, 128}) {
          for (const auto& [ue8m0, block] : {std::pair{false, false}, {true, false}, {false, true}, {true, true}}) {
            std::vector<float> x = Awkward(std::max<int64_t>(m, 40), n, static_cast<uint64_t>(m * n));
            if (block) {
              for (float& v : x) v = std::isfinite(v) && std::fabs(v) < 1e20f ? v : 1.0f;
            }
            const Guarded rows(m * n * 4);
            std::copy_n(x.begin(), m * n, rows.data<float>());
            const reference::Operand want =
                reference::ColumnTiles({rows.data<float>(), n, nullptr, m, n, ue8m0, block});
            std::vector<const float*> pointers;
            for (int64_t i = 0; i < m; ++i) pointers.push_back(rows.data<float>() + i * n);
            const int64_t panels = CeilDiv(n, kLanes), ld = RoundUp(m, 2) * kLanes;
            const Guarded out(panels * ld * (bf16 ? 2 : 4)), scales(n * 4);
            alignas(64) static std::byte scratch[kColumnTileBytes];
            make({pointers.data(), m, n, ue8m0, block, kFp8TrainingFloor, scales.data<float>(), out.data<void>(), ld,
                  scratch});
            const std::string what = t.name + " " + std::to_string(m) + "x" + std::to_string(n);
            for (int64_t c = 0; c < panels * kLanes; ++c) {
              if (c < n) {
                EXPECT_EQ(scales.data<float>()[c], want.scales[static_cast<size_t>(c)]) << what;
              }
              for (int64_t r = 0; r < m; ++r) {
                const float expected = c < n ? want.values[static_cast<size_t>(r * n + c)] : 0.0f;
                const int64_t panel = c / kLanes * ld, lane = c % kLanes;
                const float got = bf16 ? Bf16ToF32(out.data<uint16_t>()[panel + (r / 2 * kLanes + lane) * 2 + r % 2])
                                       : out.data<float>()[panel + r * kLanes + lane];
                ASSERT_TRUE(got == expected || (std::isnan(got) && std::isnan(expected)))
                    << what << " at " << r << ", " << c << ": " << got << " against " << expected;
              }
            }
          }
        }
      }
    }
  }
}

// ---- The accumulator of Hopper ----

// Largest error relative to the exact value, of uniform non-negative matrices.
double AccumulatorError(int64_t k, int64_t interval, int64_t group = kTensorCoreGroup) {
  constexpr int64_t kRows = 16;
  Rng rng(5);
  std::vector<uint8_t> x(static_cast<size_t>(kRows * k)), w(x.size());
  for (uint8_t& c : x) c = F32ToE4M3(static_cast<float>(rng.NextDouble()) * kE4M3Max);
  for (uint8_t& c : w) c = F32ToE4M3(static_cast<float>(rng.NextDouble()) * kE4M3Max);
  std::vector<float> y(kRows * kRows);
  ThreadPool pool(2);
  Context ctx{pool, Isa::kReference, {}};
  Fp8TensorCore(ctx, {.y = y.data(),
                      .x = x.data(),
                      .w = w.data(),
                      .m = kRows,
                      .n = kRows,
                      .k = k,
                      .interval = interval,
                      .group = group});
  double worst = 0;
  for (int64_t i = 0; i < kRows * kRows; ++i) {
    double exact = 0;
    for (int64_t j = 0; j < k; ++j) {
      exact += static_cast<double>(E4M3ToF32(x[static_cast<size_t>(i / kRows * k + j)])) *
               E4M3ToF32(w[static_cast<size_t>(i % kRows * k + j)]);
    }
    worst = std::max(worst, std::fabs(y[static_cast<size_t>(i)] - exact) / exact);
  }
  return worst;
}

// What the report found (3.3.2): nearly 2 % at K = 4096, more with more, nothing left with an interval of 128. While
// the sum is in [2^e, 2^(e+1)) a group of products loses half of the last bit, 2^(e-14), on average; over a sum that
// grows evenly to S, 2^e is 1/3 to 3/8 of S on average, so 1024 groups lose 2.1 to 2.3 % of S, the worst element a
// little more.
TEST(Fp8TensorCore, FindingOfTheReport) {
  const double plain = AccumulatorError(4096, 0);
  EXPECT_GT(plain, 0.018);
  EXPECT_LT(plain, 0.026);
  EXPECT_LT(AccumulatorError(1024, 0), 0.5 * plain);
  EXPECT_GT(AccumulatorError(16384, 0), 2 * plain);
  for (const int64_t k : {4096, 16384}) {
    EXPECT_LT(AccumulatorError(k, 128), 1e-3) << k;
    EXPECT_LT(AccumulatorError(k, 32), 1e-3) << k;
  }
}

TEST(Fp8TensorCore, CutsBelowTheHighestBits) {
  // 256 x 1 and then 7 x 2^-6: of the sum 256.109375 the 14 bits leave 256 + 3 x 2^-5 = 256.09375.
  const uint8_t x[] = {F32ToE4M3(256.0f), F32ToE4M3(0.109375f)}, w[] = {F32ToE4M3(1.0f), F32ToE4M3(1.0f)};
  float y = 0;
  ThreadPool pool(1);
  Context ctx{pool, Isa::kReference, {}};
  Fp8TensorCoreArgs args{.y = &y, .x = x, .w = w, .m = 1, .n = 1, .k = 2, .interval = 0, .group = 1};
  Fp8TensorCore(ctx, args);
  EXPECT_EQ(y, 256.09375f);
  args.interval = 1;  // both in float32
  Fp8TensorCore(ctx, args);
  EXPECT_EQ(y, 256.109375f);
}

}  // namespace
}  // namespace fathom::kernels
