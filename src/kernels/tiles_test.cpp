// The primitives on every instruction set of the machine: conversions exhaustively, products on whole numbers, the
// quantiser to the bit against the reference and against published vectors.
#include <gtest/gtest.h>

#include <cstring>
#include <limits>
#include <string>

#include "io/safetensors.h"
#include "kernels/linear_problem_test.h"

namespace fathom::kernels {

bool AddAmxEmulated(Tiles* tiles);

namespace {

struct Named {
  std::string name;
  Tiles tiles;
};
std::vector<Named> Tables() {
  std::vector<Named> tables;
  for (Isa isa : {Isa::kSse4, Isa::kAvx2, Isa::kAvx512, Isa::kAvx512Bf16, Isa::kAmx, Isa::kNeon}) {
    if (MachineHas(isa) && TilesOf(isa)) tables.push_back({std::string(Name(isa)), *TilesOf(isa)});
  }
  // Its product needs no instruction of x86: tested on every machine.
  tables.push_back({"amx emulated", tables.back().tiles});
  AddAmxEmulated(&tables.back().tiles);
  return tables;
}

uint32_t Bits(float x) { return std::bit_cast<uint32_t>(x); }
bool SameOrNan(float a, float b) { return Bits(a) == Bits(b) || (std::isnan(a) && std::isnan(b)); }

TEST(Tiles, WideningIsExact) {
  std::vector<uint16_t> halves(65536);
  std::vector<uint8_t> codes(256);
  for (size_t i = 0; i < halves.size(); ++i) halves[i] = static_cast<uint16_t>(i);
  for (size_t i = 0; i < codes.size(); ++i) codes[i] = static_cast<uint8_t>(i);
  std::vector<float> out(65536);
  std::vector<uint16_t> out16(256);
  for (const Named& t : Tables()) {
    t.tiles.widen_bf16(out.data(), halves.data(), 65536);
    for (uint32_t i = 0; i < 65536; ++i) {
      ASSERT_EQ(Bits(out[i]), i << 16) << t.name;
    }
    t.tiles.widen_f16(out.data(), halves.data(), 65536);
    for (uint32_t i = 0; i < 65536; ++i) {
      ASSERT_TRUE(SameOrNan(out[i], F16ToF32(static_cast<uint16_t>(i)))) << t.name << " " << i;
    }
    t.tiles.widen_e4m3(out.data(), codes.data(), 256);
    for (uint32_t i = 0; i < 256; ++i) {
      ASSERT_TRUE(SameOrNan(out[i], E4M3ToF32(static_cast<uint8_t>(i)))) << t.name << " " << i;
    }
    if (!t.tiles.widen_e4m3_bf16) continue;
    t.tiles.widen_e4m3_bf16(out16.data(), codes.data(), 256);
    for (uint32_t i = 0; i < 256; ++i) {
      const float v = E4M3ToF32(static_cast<uint8_t>(i));
      ASSERT_TRUE(SameOrNan(Bf16ToF32(out16[i]), v)) << t.name << " " << i;
    }
  }
}

TEST(Tiles, RoundingToBf16) {
  std::vector<float> in;
  Rng rng(5);
  for (int i = 0; i < 20000; ++i) in.push_back(std::bit_cast<float>(rng.NextU32()));
  for (uint32_t high : {0x3f80u, 0x3f81u, 0x7f7fu, 0x0080u, 0xc123u}) {  // ties and their neighbours
    for (uint32_t low : {0x7fffu, 0x8000u, 0x8001u, 0u, 0xffffu}) in.push_back(std::bit_cast<float>(high << 16 | low));
  }
  in.insert(in.end(), {0.0f, -0.0f, INFINITY, -INFINITY, NAN, 1e-40f, -1e-40f});
  const int64_t n = static_cast<int64_t>(in.size());
  std::vector<uint16_t> out(in.size());
  std::vector<float> out32(in.size());
  for (const Named& t : Tables()) {
    t.tiles.round_bf16(out.data(), in.data(), n);
    t.tiles.round_f32(out32.data(), in.data(), n);
    for (size_t i = 0; i < in.size(); ++i) {
      const float want = RoundToBf16(in[i]);
      ASSERT_TRUE(SameOrNan(out32[i], want)) << t.name << " " << in[i];
      const bool flushed = t.tiles.mul_bf16 && std::fabs(want) <= 0x1p-126f && Bf16ToF32(out[i]) == 0;
      ASSERT_TRUE(SameOrNan(Bf16ToF32(out[i]), want) || flushed) << t.name << " " << in[i];
    }
  }
}

// Every length writes and reads what it names and nothing else.
TEST(Tiles, EndsOfRows) {
  for (const Named& t : Tables()) {
    for (int64_t n = 0; n <= 140; ++n) {
      const Guarded in8(n), in16(2 * n), in32(4 * n), out16(2 * n), out32(4 * n), scales(4 * CeilDiv(n, kFp8Block));
      for (int64_t i = 0; i < n; ++i) {
        in8.data<uint8_t>()[i] = static_cast<uint8_t>(i);
        in16.data<uint16_t>()[i] = F32ToBf16(static_cast<float>(i));
        in32.data<float>()[i] = static_cast<float>(i);
      }
      const auto last = [&](float want) {
        if (n > 0) {
          EXPECT_EQ(out32.data<float>()[n - 1], want) << t.name << " " << n;
        }
      };
      t.tiles.widen_e4m3(out32.data<float>(), in8.data<void>(), n);
      if (n < 127) last(E4M3ToF32(static_cast<uint8_t>(n - 1)));
      t.tiles.widen_bf16(out32.data<float>(), in16.data<void>(), n);
      last(static_cast<float>(n - 1));
      t.tiles.widen_f16(out32.data<float>(), in16.data<void>(), n);
      t.tiles.round_f32(out32.data<float>(), in32.data<float>(), n);
      last(static_cast<float>(n - 1));
      t.tiles.round_bf16(out16.data<uint16_t>(), in32.data<float>(), n);
      if (n > 0) {
        EXPECT_EQ(out16.data<uint16_t>()[n - 1], F32ToBf16(static_cast<float>(n - 1)));
      }
      if (t.tiles.widen_e4m3_bf16) t.tiles.widen_e4m3_bf16(out16.data<uint16_t>(), in8.data<void>(), n);
      t.tiles.quantize(nullptr, out32.data<float>(), scales.data<float>(), in32.data<float>(), n, false, kFp8AmaxFloor);
      t.tiles.quantize(in8.data<uint8_t>(), nullptr, scales.data<float>(), in32.data<float>(), n, true, kFp8AmaxFloor);
    }
  }
}

TEST(Tiles, Transposition) {
  for (const Named& t : Tables()) {
    for (int64_t rows : {1, 3, 4, 15, 16, 17, 40}) {
      for (int64_t cols : {1, 2, 5, 16, 19, 33}) {
        const Guarded in(4 * ((rows - 1) * (cols + 2) + cols)), out(4 * ((cols - 1) * (rows + 1) + rows));
        for (int64_t r = 0; r < rows; ++r) {
          for (int64_t c = 0; c < cols; ++c)
            in.data<int32_t>()[r * (cols + 2) + c] = static_cast<int32_t>(1000 * r + c);
        }
        t.tiles.transpose32(out.data<void>(), rows + 1, in.data<void>(), cols + 2, rows, cols);
        for (int64_t r = 0; r < rows; ++r) {
          for (int64_t c = 0; c < cols; ++c) {
            ASSERT_EQ(out.data<int32_t>()[c * (rows + 1) + r], 1000 * r + c) << t.name << " " << rows << "x" << cols;
          }
        }
      }
    }
  }
}

// C = [C +] scale lane_scale A B on whole numbers, all remainders of rows, panels and k.
TEST(Tiles, Products) {
  for (const Named& t : Tables()) {
    for (bool bf16 : {false, true}) {
      if (bf16 && !t.tiles.mul_bf16) continue;
      for (int64_t rows : {1, 2, 7, 16, 17, 35}) {
        for (int64_t panels : {1, 2, 3, 4, 5}) {
          for (int64_t k : {2, 30, 32, 34, 100}) {
            const int64_t size = bf16 ? 2 : 4, lda = k + 2, ldb = k * kLanes, ldc = panels * kLanes + 3;
            const Guarded a(size * ((rows - 1) * lda + k)), b(size * panels * ldb);
            const Guarded c(4 * ((rows - 1) * ldc + panels * kLanes)), lane_scale(4 * panels * kLanes);
            const auto set = [&](const Guarded& g, int64_t i, float v) {
              if (bf16) g.data<uint16_t>()[i] = F32ToBf16(v);
              if (!bf16) g.data<float>()[i] = v;
            };
            const auto av = [](int64_t r, int64_t j) { return static_cast<float>((r * 5 + j * 3) % 7 - 3); };
            const auto bv = [](int64_t j, int64_t lane) { return static_cast<float>((j * 2 + lane * 5) % 9 - 4); };
            for (int64_t r = 0; r < rows; ++r) {
              for (int64_t j = 0; j < k; ++j) set(a, r * lda + j, av(r, j));
            }
            for (int64_t lane = 0; lane < panels * kLanes; ++lane) {
              lane_scale.data<float>()[lane] = static_cast<float>(1 << lane % 3);
              for (int64_t j = 0; j < k; ++j) {
                const int64_t at = bf16 ? j / 2 * 2 * kLanes + lane % kLanes * 2 + j % 2 : j * kLanes + lane % kLanes;
                set(b, lane / kLanes * ldb + at, bv(j, lane));
              }
            }
            const bool accumulate = (rows + k) % 3 == 0;
            for (int64_t r = 0; r < rows; ++r) {
              for (int64_t i = 0; i < panels * kLanes; ++i) c.data<float>()[r * ldc + i] = static_cast<float>(r + i);
            }
            if (bf16) {
              t.tiles.mul_bf16({c.data<float>(), ldc, a.data<uint16_t>(), lda, b.data<uint16_t>(), ldb, rows, k / 2,
                                panels, 0.5f, lane_scale.data<float>(), accumulate,
                                k == 32 ? a.data<uint16_t>() : nullptr});
            } else {
              t.tiles.mul_f32({c.data<float>(), ldc, a.data<float>(), lda, b.data<float>(), ldb, rows, k, panels, 0.5f,
                               lane_scale.data<float>(), accumulate});
            }
            for (int64_t r = 0; r < rows; ++r) {
              for (int64_t lane = 0; lane < panels * kLanes; ++lane) {
                float sum = 0;
                for (int64_t j = 0; j < k; ++j) sum += av(r, j) * bv(j, lane);
                const float want =
                    sum * 0.5f * static_cast<float>(1 << lane % 3) + (accumulate ? static_cast<float>(r + lane) : 0.0f);
                ASSERT_EQ(c.data<float>()[r * ldc + lane], want)
                    << t.name << " rows " << rows << " panels " << panels << " k " << k << " at " << r << ", " << lane;
              }
            }
          }
        }
      }
    }
  }
}

TEST(Tiles, PairedRows) {
  for (const Named& t : Tables()) {
    if (!t.tiles.pair_rows) continue;
    for (int64_t k : {1, 2, 5, 40}) {
      for (int64_t n : {1, 16, 17, 40, 64}) {
        const int64_t panels = CeilDiv(n, kLanes), ldb = RoundUp(k, 2) * kLanes;
        const Guarded w(2 * ((k - 1) * (n + 1) + n)), b(2 * panels * ldb);
        for (int64_t r = 0; r < k; ++r) {
          for (int64_t c = 0; c < n; ++c) w.data<uint16_t>()[r * (n + 1) + c] = static_cast<uint16_t>(100 * r + c + 1);
        }
        t.tiles.pair_rows(b.data<uint16_t>(), ldb, w.data<uint16_t>(), n + 1, k, n);
        for (int64_t r = 0; r < RoundUp(k, 2); ++r) {
          for (int64_t c = 0; c < panels * kLanes; ++c) {
            const int64_t at = c / kLanes * ldb + r / 2 * 2 * kLanes + c % kLanes * 2 + r % 2;
            ASSERT_EQ(b.data<uint16_t>()[at], r < k && c < n ? 100 * r + c + 1 : 0) << t.name << " " << k << "x" << n;
          }
        }
      }
    }
  }
}

TEST(QuantizeTiles, BitsOfTheReference) {
  Rng rng(17);
  std::vector<float> x;
  for (int i = 0; i < 64 * 300; ++i) {
    const float spread = std::ldexp(1.0f, static_cast<int>(rng.NextBelow(40)) - 20);
    x.push_back(static_cast<float>(rng.NextNormal()) * spread);
  }
  x[5] = NAN, x[700] = INFINITY, x[1000] = -0.0f, x[1500] = 1e-42f, x[1600] = 3e38f;
  std::fill(x.begin() + 3000, x.begin() + 3300, 0.0f);
  std::fill(x.begin() + 3300, x.begin() + 3600, 1e-7f);
  for (const auto& [ue8m0, floor] : std::vector<std::pair<bool, float>>{
           {false, kFp8AmaxFloor}, {true, kFp8AmaxFloor}, {false, kFp8TrainingFloor}, {true, kFp8TrainingFloor}}) {
    std::vector<uint8_t> want(300), got(300);
    std::vector<float> want_scales(3), scales(3), values(300);
    for (const Named& t : Tables()) {
      for (int row = 0; row < 64; ++row) {
        reference::QuantizeRow(want.data(), want_scales.data(), x.data() + row * 300, 300, ue8m0, floor);
        t.tiles.quantize(got.data(), values.data(), scales.data(), x.data() + row * 300, 300, ue8m0, floor);
        ASSERT_EQ(got, want) << t.name << " row " << row;
        ASSERT_EQ(std::memcmp(scales.data(), want_scales.data(), 12), 0) << t.name << " row " << row;
        for (size_t i = 0; i < 300; ++i) ASSERT_TRUE(SameOrNan(values[i], E4M3ToF32(got[i]))) << t.name;
      }
    }
  }
}

// ---- Published vectors ----

class Golden : public testing::Test {
 protected:
  static io::SafetensorsFile Open(const std::string& name) {
    return std::move(io::SafetensorsFile::Open(FATHOM_SOURCE_DIR "/tests/golden/" + name)).Value();
  }
  static std::vector<float> Floats(const TensorView& view) {
    std::vector<float> out(static_cast<size_t>(view.size()));
    for (size_t i = 0; i < out.size(); ++i) {
      out[i] = reference::Decode(static_cast<const std::byte*>(view.data), static_cast<int64_t>(i), view.dtype);
    }
    return out;
  }
  template <class F>
  static void ForEachIsa(const F& f) {
    for (int i = 0; i < kIsaCount; ++i) {
      const Isa isa = static_cast<Isa>(i);
      if (!MachineHas(isa)) continue;
      SCOPED_TRACE(Name(isa));
      ThreadPool pool(2);
      Context ctx{pool, isa, {}};
      f(ctx);
    }
  }
  static void CheckCodes(const TensorView& x_view, const TensorView& codes, const TensorView& scales, bool ue8m0) {
    const std::vector<float> x = Floats(x_view), want_scales = Floats(scales);
    const int64_t rows = x_view.shape[0], n = x_view.shape[1];
    ForEachIsa([&](Context& ctx) {
      std::vector<uint8_t> got(x.size());
      std::vector<float> got_scales(want_scales.size());
      QuantizeTiles(ctx, {.codes = got.data(),
                          .scales = got_scales.data(),
                          .x = x.data(),
                          .ldx = n,
                          .rows = rows,
                          .n = n,
                          .ue8m0 = ue8m0});
      EXPECT_EQ(std::memcmp(got.data(), codes.data, got.size()), 0);
      EXPECT_EQ(got_scales, want_scales);
    });
  }
  // y = W8A8 product against exact arithmetic: within the bound of a float32 sum.
  static void CheckProduct(const TensorView& x_view, const TensorView& w, const TensorView& scales, const TensorView& y,
                           bool ue8m0) {
    const std::vector<float> x = Floats(x_view), want = Floats(y), w_scales = Floats(scales), code = Floats(w);
    const int64_t m = x_view.shape[0], k = x_view.shape[1], n = w.shape[0];
    ForEachIsa([&](Context& ctx) {
      std::vector<float> got(want.size());
      LinearJob job;
      job.y = got.data();
      job.ldy = n;
      job.x = x.data();
      job.ldx = k;
      job.m = m;
      job.w = {.data = w.data, .dtype = DType::kF8E4M3, .rows = n, .cols = k, .scale = w_scales.data(), .ue8m0 = ue8m0};
      Arena arena(1 << 20);
      Linear(ctx, arena, {std::span<const LinearJob>(&job, 1), Compute::kW8A8});
      for (int64_t i = 0; i < m; ++i) {
        for (int64_t j = 0; j < n; ++j) {
          double sum = 0;
          for (int64_t c = 0; c < k; ++c) {
            sum += 1.125 * std::fabs(x[static_cast<size_t>(i * k + c)] * code[static_cast<size_t>(j * k + c)]) *
                   job.w.ScaleAt(j, c);
          }
          const size_t at = static_cast<size_t>(i * n + j);
          ASSERT_LE(std::fabs(got[at] - want[at]), static_cast<double>(k + 16) * 0x1p-24 * sum) << i << ", " << j;
        }
      }
    });
  }
};

TEST_F(Golden, TilesOfThePaper) {
  const io::SafetensorsFile f = Open("fp8_tiles.safetensors");
  for (const std::string tag : {"a", "b", "c"}) {
    const std::string base = "act." + tag;
    CheckCodes(f.Get(base + ".x"), f.Get(base + ".q"), f.Get(base + ".scale"), false);
    CheckCodes(f.Get(base + ".x"), f.Get(base + ".q.ue8m0"), f.Get(base + ".scale.ue8m0"), true);
  }
  CheckProduct(f.Get("gemm.x"), f.Get("weight.a.q"), f.Get("weight.a.scale_inv"), f.Get("gemm.y_exact"), false);
}

TEST_F(Golden, OperationsOfTheDemo) {
  const io::SafetensorsFile f = Open("fp8-ops.safetensors");
  for (const bool ue8m0 : {false, true}) {
    const std::string s = ue8m0 ? "_ue8m0" : "";
    CheckCodes(f.Get("x"), f.Get("act_q" + s), f.Get("act_scale" + s), ue8m0);
    CheckProduct(f.Get("x"), f.Get("weight_q" + s), f.Get("weight_scale" + s), f.Get("y" + s), ue8m0);
  }
}

}  // namespace
}  // namespace fathom::kernels
