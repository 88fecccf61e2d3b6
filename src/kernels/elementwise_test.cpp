// Row operations of every instruction set of this machine against the reference. u is half an ulp of float32, 2^-24.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "core/rng.h"
#include "kernels/ops.h"
#include "kernels/reference/elementwise.h"
#include "kernels/simd/elementwise.h"

namespace fathom::kernels {
namespace {

constexpr double kU = 0x1p-24;
constexpr int64_t kSizes[] = {1, 2, 3, 7, 16, 24, 40, 63, 64, 80, 127, 321};

std::vector<Isa> Isas() {
  std::vector<Isa> isas;
  for (int i = 1; i < kIsaCount; ++i) {
    if (MachineHas(static_cast<Isa>(i))) isas.push_back(static_cast<Isa>(i));
  }
  return isas;
}

class Elementwise : public testing::TestWithParam<Isa> {
 protected:
  static std::vector<float> Random(int64_t n, uint64_t stream) {
    Rng rng(7, stream);
    std::vector<float> v(static_cast<size_t>(n));
    for (float& x : v) x = static_cast<float>(rng.NextNormal());
    return v;
  }
  ThreadPool pool_{2};
  Context ctx_{pool_, GetParam(), {}};
};
INSTANTIATE_TEST_SUITE_P(Isa, Elementwise, testing::ValuesIn(Isas()),
                         [](const auto& isa) { return std::string(Name(isa.param)); });

std::vector<std::byte> Encode(const std::vector<float>& x, DType dtype) {
  std::vector<std::byte> bytes(x.size() * static_cast<size_t>(SizeOf(dtype)));
  for (size_t i = 0; i < x.size(); ++i) {
    if (dtype == DType::kF32) {
      std::memcpy(&bytes[4 * i], &x[i], 4);
    } else {
      const uint16_t bits = dtype == DType::kBF16 ? F32ToBf16(x[i]) : F32ToF16(x[i]);
      std::memcpy(&bytes[2 * i], &bits, 2);
    }
  }
  return bytes;
}

// Relative error: the sum of squares has at most n / 16 + 8 sequential roundings (four accumulators of at least four
// lanes, then their sum), halved by the root; quotient, root, and two products round once or twice each.
TEST_P(Elementwise, RmsNorm) {
  for (DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    for (int64_t n : kSizes) {
      const std::vector<float> x = Random(5 * (n + 3), 1);
      const std::vector<std::byte> weight = Encode(Random(n, 2), dtype);
      std::vector<float> y(x.size(), -7.0f), expected = y;
      RmsNormArgs args{.y = y.data(), .ldy = n + 3, .x = x.data(), .ldx = n + 3, .rows = 5, .n = n};
      args.weight = weight.data();
      args.weight_dtype = dtype;
      RmsNorm(ctx_, args);
      args.y = expected.data();
      reference::RmsNorm(args, 0, 5);
      const double bound = kU * (static_cast<double>(n) / 32 + 12);
      for (size_t i = 0; i < y.size(); ++i) {
        ASSERT_NEAR(y[i], expected[i], bound * std::abs(expected[i])) << Name(dtype) << " n " << n << " at " << i;
      }
    }
  }
}

TEST_P(Elementwise, RmsNormInPlace) {
  std::vector<float> x = Random(3 * 80, 1), apart(x.size());
  const std::vector<float> weight = Random(80, 2);
  RmsNormArgs args{.y = apart.data(), .ldy = 80, .x = x.data(), .ldx = 80, .rows = 3, .n = 80, .weight = weight.data()};
  RmsNorm(ctx_, args);
  args.y = x.data();
  RmsNorm(ctx_, args);
  EXPECT_EQ(x, apart);
}

// Two products and a sum, each rounded once.
TEST_P(Elementwise, Rope) {
  for (int64_t dim : {2, 8, 10, 16, 64, 258, 300}) {
    constexpr int64_t kRows = 4, kHeads = 3;
    const int64_t head_stride = dim + 5, row_stride = kHeads * head_stride + 1;
    std::vector<float> x = Random(kRows * row_stride, 3), expected = x;
    const std::vector<float> before = x;
    const std::vector<float> cos = Random(9 * dim / 2, 4), sin = Random(9 * dim / 2, 5);
    const int32_t positions[kRows] = {8, 0, 3, 3};
    RopeArgs args{.x = x.data(), .row_stride = row_stride, .head_stride = head_stride, .rows = kRows, .heads = kHeads};
    args.dim = dim;
    args.positions = positions;
    args.cos = cos.data();
    args.sin = sin.data();
    Rope(ctx_, args);
    args.x = expected.data();
    reference::Rope(args, 0, kRows);
    for (int64_t i = 0; i < kRows * row_stride; ++i) {
      const int64_t in_head = i % row_stride % head_stride;
      const bool rotated = in_head < dim && i % row_stride < kHeads * head_stride;
      const auto at = static_cast<size_t>(i);
      if (!rotated) {
        ASSERT_EQ(x[at], before[at]) << "outside at " << i;
        continue;
      }
      const size_t other = in_head % 2 ? at - 1 : at + 1;
      const auto table = static_cast<size_t>(positions[i / row_stride] * (dim / 2) + in_head / 2);
      const double size = std::abs(before[at] * cos[table]) + std::abs(before[other] * sin[table]);
      ASSERT_NEAR(x[at], expected[at], 4 * kU * size) << "dim " << dim << " at " << i;
    }
  }
}

// exp is 2 ulp = 4u off, and sum, quotient, product round once. Below -88 e^-x overflows, where |silu| < 1e-36.
TEST_P(Elementwise, Swiglu) {
  for (int64_t n : kSizes) {
    std::vector<float> gate = Random(3 * n, 6);
    for (size_t i = 0; i < gate.size(); ++i) gate[i] *= i % 3 ? 3.0f : 60.0f;
    const std::vector<float> up = Random(3 * n, 7);
    std::vector<float> y(gate.size()), expected(gate.size());
    SwigluArgs args{.y = y.data(), .ldy = n, .gate = gate.data(), .up = up.data(), .ldx = n, .rows = 3, .n = n};
    Swiglu(ctx_, args);
    args.y = expected.data();
    reference::Swiglu(args, 0, 3);
    for (size_t i = 0; i < y.size(); ++i) {
      ASSERT_NEAR(y[i], expected[i], 8 * kU * std::abs(expected[i]) + 1e-36 * std::abs(up[i])) << gate[i];
    }
  }
}

// K products and sums in order, each rounded once.
TEST_P(Elementwise, Combine) {
  for (int64_t n : kSizes) {
    constexpr int64_t kTokens = 3, kTopK = 4;
    const std::vector<float> x = Random(6 * n, 8), weights = Random(kTokens * kTopK, 9), before = Random(3 * n, 10);
    const int32_t row_of[kTokens * kTopK] = {0, 5, -1, 2, -1, -1, -1, -1, 1, 1, 4, 3};
    std::vector<float> y = before, expected = before;
    CombineArgs args{.y = y.data(), .ldy = n, .x = x.data(), .ldx = n, .row_of = row_of, .weights = weights.data()};
    args.tokens = kTokens;
    args.top_k = kTopK;
    args.n = n;
    Combine(ctx_, args);
    args.y = expected.data();
    reference::Combine(args, 0, kTokens);
    for (int64_t i = 0; i < kTokens * n; ++i) {
      double size = std::abs(before[static_cast<size_t>(i)]);
      for (int64_t k = 0; k < kTopK; ++k) {
        const auto at = static_cast<size_t>(i / n * kTopK + k);
        if (row_of[at] >= 0) size += std::abs(weights[at] * x[static_cast<size_t>(row_of[at] * n + i % n)]);
      }
      ASSERT_NEAR(y[static_cast<size_t>(i)], expected[static_cast<size_t>(i)], (2 * kTopK + 1) * kU * size) << i;
    }
  }
}

TEST_P(Elementwise, EmbedIsExact) {
  for (DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    for (int64_t n : kSizes) {
      const std::vector<std::byte> table = Encode(Random(5 * n, 11), dtype);
      const int32_t ids[] = {4, 0, 4};
      std::vector<float> y(static_cast<size_t>(3 * n)), expected(y.size());
      EmbedArgs args{
          .y = y.data(), .ldy = n, .table = table.data(), .table_dtype = dtype, .ids = ids, .rows = 3, .n = n};
      Embed(ctx_, args);
      args.y = expected.data();
      reference::Embed(args, 0, 3);
      ASSERT_EQ(y, expected) << Name(dtype) << " n " << n;
    }
  }
}

TEST_P(Elementwise, CacheHoldsRoundedRows) {
  for (DType dtype : {DType::kF32, DType::kBF16, DType::kF8E4M3}) {
    for (const auto& [width, rope] :
         {std::pair<int64_t, int64_t>{9, 2}, {24, 8}, {88, 7}, {96, 0}, {300, 44}, {301, 2}}) {
      constexpr int64_t kBlock = 4, kRows = 7, kPosition = 3;
      CacheWriteArgs write;
      write.cache = {.block_tokens = kBlock, .dtype = dtype, .width = width, .rope = rope};
      const auto block_bytes = static_cast<size_t>(kBlock * write.cache.row_bytes());
      std::vector<std::byte> bytes(3 * block_bytes, std::byte{0x11}), expected = bytes;
      std::vector<float> x = Random(kRows * width, 12);
      x[3] = std::numeric_limits<float>::quiet_NaN();
      x[4] = -std::numeric_limits<float>::infinity();
      x[5] = 1.00390625f;  // halfway between two bf16: to even
      std::byte* blocks[3] = {&bytes[block_bytes], &bytes[0], &bytes[2 * block_bytes]};
      std::byte* expected_blocks[3] = {&expected[block_bytes], &expected[0], &expected[2 * block_bytes]};
      write.cache.blocks = blocks;
      write.x = x.data();
      write.ldx = width;
      write.rows = kRows;
      write.position = kPosition;
      CacheWrite(ctx_, {&write, 1});
      write.cache.blocks = expected_blocks;
      reference::CacheWrite(write, 0, kRows);
      ASSERT_EQ(bytes, expected) << Name(dtype) << " width " << width;

      // Two sequences at once: the same rows.
      std::vector<std::byte> again(bytes.size(), std::byte{0x11});
      std::byte* again_blocks[3] = {&again[block_bytes], &again[0], &again[2 * block_bytes]};
      CacheWriteArgs parts[2] = {write, write};
      for (CacheWriteArgs& part : parts) part.cache.blocks = again_blocks;
      parts[0].rows = 2;
      parts[1].rows = kRows - 2;
      parts[1].x += 2 * width;
      parts[1].position += 2;
      CacheWrite(ctx_, parts);
      ASSERT_EQ(again, bytes);

      for (const auto& [column, n] :
           {std::pair<int64_t, int64_t>{2, width - 3}, {width - rope, rope}, {0, width - rope}}) {
        CacheReadArgs read{.cache = write.cache, .begin = kPosition + 1, .rows = 5, .column = column, .n = n};
        std::vector<float> y(static_cast<size_t>(5 * width)), y_expected = y;
        read.y = y.data();
        read.ldy = width;
        CacheRead(ctx_, read);
        read.y = y_expected.data();
        reference::CacheRead(read, 0, 5);
        ASSERT_EQ(std::memcmp(y.data(), y_expected.data(), y.size() * sizeof(float)), 0) << Name(dtype);
      }
    }
  }
}

// E4M3 keeps 4 significant bits, its subnormals 2^-10 of a tile's largest value or less: half of 2^-9 / 448 amax.
TEST_P(Elementwise, Fp8CacheIsNear) {
  constexpr int64_t kR = 512, kRope = 64, kWidth = kR + kRope;
  LatentCache cache{.block_tokens = 1, .dtype = DType::kF8E4M3, .width = kWidth, .rope = kRope};
  ASSERT_EQ(cache.row_bytes(), 656);
  std::vector<std::byte> bytes(656);
  std::byte* block = bytes.data();
  cache.blocks = &block;
  const std::vector<float> x = Random(kWidth, 16);
  const CacheWriteArgs write{.cache = cache, .x = x.data(), .ldx = kWidth, .rows = 1};
  CacheWrite(ctx_, {&write, 1});
  std::vector<float> y(kWidth);
  CacheRead(ctx_, {.y = y.data(), .ldy = kWidth, .cache = cache, .begin = 0, .rows = 1, .column = 0, .n = kWidth});
  for (int64_t i = 0; i < kWidth; ++i) {
    const auto at = static_cast<size_t>(i);
    if (i >= kR) {
      ASSERT_EQ(y[at], RoundToBf16(x[at]));
      continue;
    }
    float amax = 0;
    for (int64_t j = i / 128 * 128; j < i / 128 * 128 + 128; ++j)
      amax = std::max(amax, std::abs(x[static_cast<size_t>(j)]));
    // The quotient and the product are rounded to float32 too.
    ASSERT_NEAR(y[at], x[at], 1.001f * std::max(0x1p-4f * std::abs(x[at]), 0x1p-10f / 448 * amax)) << i;
  }
}

TEST_P(Elementwise, FirstNonFinite) {
  std::vector<float> x = Random(70000, 13);
  EXPECT_EQ(FirstNonFinite(ctx_, x.data(), 70000), -1);
  EXPECT_EQ(FirstNonFinite(ctx_, x.data(), 0), -1);
  x[69999] = std::numeric_limits<float>::infinity();
  EXPECT_EQ(FirstNonFinite(ctx_, x.data(), 70000), 69999);
  x[40001] = -std::numeric_limits<float>::infinity();
  x[16384] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(FirstNonFinite(ctx_, x.data(), 70000), 16384);
  EXPECT_EQ(FirstNonFinite(ctx_, x.data() + 16385, 70000 - 16385), 40001 - 16385);
}

TEST_P(Elementwise, ThreadsDoNotMatter) {
  const std::vector<float> x = Random(300 * 321, 14), weight = Random(321, 15);
  std::vector<float> first, y(x.size());
  for (int threads : {1, 2, 5}) {
    ThreadPool pool(threads);
    Context ctx{pool, GetParam(), {}};
    RmsNormArgs args{.y = y.data(), .ldy = 321, .x = x.data(), .ldx = 321, .rows = 300, .n = 321};
    args.weight = weight.data();
    RmsNorm(ctx, args);
    SwigluArgs swiglu{.y = y.data(), .ldy = 321, .gate = y.data(), .up = x.data(), .ldx = 321, .rows = 300, .n = 321};
    Swiglu(ctx, swiglu);
    if (first.empty()) first = y;
    ASSERT_EQ(y, first) << threads << " threads";
  }
}

using ExpFn = void (*)(float*, int64_t);
ExpFn ExpOf(Isa isa) {
#if defined(__x86_64__)
  return isa == Isa::kSse4 ? sse4::ExpInPlace : isa == Isa::kAvx2 ? avx2::ExpInPlace : avx512::ExpInPlace;
#else
  return isa == Isa::kNeon ? neon::ExpInPlace : nullptr;
#endif
}

// Every 61st float32 of the range where the result is neither 0 nor infinity.
TEST_P(Elementwise, ExpIsWithinTwoUlp) {
  std::vector<float> x;
  for (uint32_t bits = 0; bits < 0x42b20000u; bits += 61) {  // 0 .. 89
    x.push_back(std::bit_cast<float>(bits));
    x.push_back(-x.back());
  }
  for (float v = -89; v > -104; v -= 0.00037f) x.push_back(v);
  std::vector<float> y = x;
  ExpOf(GetParam())(y.data(), static_cast<int64_t>(y.size()));
  double worst = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const double exact = std::exp(static_cast<double>(x[i]));
    if (exact > std::numeric_limits<float>::max()) {
      ASSERT_TRUE(y[i] == std::numeric_limits<float>::infinity() || y[i] > 3.402e38f) << x[i];
      continue;
    }
    const int exponent = std::max(std::ilogb(exact), -126);
    worst = std::max(worst, std::abs(y[i] - exact) / std::ldexp(1.0, exponent - 23));
  }
  EXPECT_LE(worst, 2);
}

TEST_P(Elementwise, ExpOfSpecialValues) {
  constexpr float kInf = std::numeric_limits<float>::infinity();
  float x[] = {kInf, -kInf, std::numeric_limits<float>::quiet_NaN(), 0.0f, -0.0f, 1000.0f, -1000.0f, 1e-40f};
  ExpOf(GetParam())(x, 8);
  EXPECT_EQ(x[0], kInf);
  EXPECT_EQ(x[1], 0.0f);
  EXPECT_TRUE(std::isnan(x[2]));
  EXPECT_EQ(x[3], 1.0f);
  EXPECT_EQ(x[4], 1.0f);
  EXPECT_EQ(x[5], kInf);
  EXPECT_EQ(x[6], 0.0f);
  EXPECT_EQ(x[7], 1.0f);
}

TEST(ListOps, EveryTableEndsWithTheReference) {
  const std::vector<OpEntry> ops = ListOps();
  ASSERT_FALSE(ops.empty());
  for (size_t i = 0; i < ops.size(); ++i) {
    if (i + 1 == ops.size() || ops[i + 1].op != ops[i].op) {
      EXPECT_EQ(ops[i].name, "reference") << ops[i].op;
      EXPECT_TRUE(ops[i].on_this_machine);
    }
  }
}

}  // namespace
}  // namespace fathom::kernels
