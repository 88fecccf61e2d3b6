// Compact matrices: nothing is lost, and Linear's products of few rows are those of the matrix itself.
#include "kernels/compact.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "core/rng.h"
#include "core/tensor.h"

namespace fathom::kernels {
namespace {

struct Matrix {
  int64_t rows, cols;
  std::vector<uint16_t> bits;
  Buffer memory;
  CompactMatrix compact;
  bool made = false;

  Weight weight() const { return {.data = bits.data(), .dtype = DType::kBF16, .rows = rows, .cols = cols}; }
  Weight with_compact() const {
    Weight w = weight();
    w.compact = &compact;
    return w;
  }
  void Make() {
    memory = Buffer(CompactBytes(rows, cols) + 64);
    auto* bytes = memory.data<uint8_t>();
    std::memset(bytes, 0x5a, static_cast<size_t>(memory.bytes()));
    made = MakeCompact(weight(), bytes, &compact);
    for (int64_t i = CompactBytes(rows, cols); i < memory.bytes(); ++i) EXPECT_EQ(bytes[i], 0x5a);
  }
};

// Normal values, one in `every` of them far smaller: their high bytes are rare.
Matrix Random(int64_t rows, int64_t cols, int64_t every = 1000) {
  Matrix m{.rows = rows, .cols = cols, .bits = {}, .memory = {}, .compact = {}};
  Rng rng(11, static_cast<uint64_t>(rows * cols));
  m.bits.resize(static_cast<size_t>(rows * cols));
  for (size_t i = 0; i < m.bits.size(); ++i) {
    const double small = every > 0 && i % static_cast<size_t>(every) == 5 ? 1e-9 : 1;
    m.bits[i] = F32ToBf16(static_cast<float>(0.02 * rng.NextNormal() * small));
  }
  return m;
}

Matrix Made(Matrix m) {
  m.Make();
  EXPECT_TRUE(m.made);
  return m;
}

TEST(Compact, NothingIsLost) {
  for (const auto& [rows, cols] : {std::pair<int64_t, int64_t>{32, 8}, {32, 520}, {96, 256}, {192, 1024}}) {
    Matrix m = Random(rows, cols);
    // Infinities, NaN with its payload, zeros of either sign, subnormals. All in one row.
    const uint16_t special[] = {0x7f80, 0xff80, 0x7fc1, 0xffff, 0x0000, 0x8000, 0x0001, 0x80ff};
    if (cols >= 512) std::copy(std::begin(special), std::end(special), m.bits.begin() + 3 * cols + 60);
    m.Make();
    ASSERT_TRUE(m.made) << rows << "x" << cols;
    std::vector<uint16_t> back(m.bits.size());
    ExpandCompact(m.compact, back.data());
    EXPECT_EQ(back, m.bits) << rows << "x" << cols;
  }
}

TEST(Compact, RefusesWhereManyHighBytesAreRare) {
  Matrix m = Random(64, 256, 0);
  Rng rng(5, 0);
  for (uint16_t& v : m.bits) v = static_cast<uint16_t>(rng.NextU32());
  m.Make();
  EXPECT_FALSE(m.made);
}

TEST(Compact, OnlyWholeMatricesOfBf16) {
  const Matrix m = Random(64, 256);
  const Weight w = m.weight();
  EXPECT_TRUE(CanBeCompact(w));
  EXPECT_FALSE(CanBeCompact(w.Rows(32, 32)));
  Weight other = w;
  other.dtype = DType::kF16;
  EXPECT_FALSE(CanBeCompact(other));
  other = w;
  other.rows = 48;
  EXPECT_FALSE(CanBeCompact(other));
  other = w;
  other.cols = 252;
  EXPECT_FALSE(CanBeCompact(other));
}

class CompactProduct : public testing::TestWithParam<Isa> {
 protected:
  void SetUp() override {
    if (!MachineHas(GetParam())) GTEST_SKIP() << "no " << Name(GetParam());
    ASSERT_GE(CompactRowsOfX(GetParam(), Compute::kBf16, 2048), 8);
  }
  std::vector<float> Product(Isa isa, const Weight& w, const std::vector<float>& x, int64_t m, bool fixed = false) {
    Context ctx{pool_, isa, {}};
    std::vector<float> y(static_cast<size_t>(m * w.rows) + 1, -7.0f);
    const LinearJob job{.y = y.data(), .ldy = w.rows, .x = x.data(), .ldx = w.cols, .m = m, .w = w};
    Linear(ctx, arena_, {.jobs = {&job, 1}, .compute = Compute::kBf16, .fixed_form = fixed});
    EXPECT_EQ(y.back(), -7.0f);
    y.pop_back();
    return y;
  }
  std::vector<float> Rows(int64_t m, int64_t cols) {
    Rng rng(3, static_cast<uint64_t>(m));
    std::vector<float> x(static_cast<size_t>(m * cols));
    for (float& v : x) v = static_cast<float>(rng.NextNormal());
    return x;
  }

  ThreadPool pool_{2};
  Arena arena_{int64_t{64} << 20};
};

TEST_P(CompactProduct, IsThatOfTheMatrix) {
  for (const auto& [rows, cols] :
       {std::pair<int64_t, int64_t>{32, 520}, {96, 256}, {1056, 136}, {544, 1024}, {64, 2056}}) {
    const Matrix m = Made(Random(rows, cols));
    // What must not be read: the matrix itself.
    const std::vector<uint16_t> zeros(m.bits.size());
    Weight w = m.with_compact();
    w.data = zeros.data();
    for (int64_t n : {1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 16, 17, 32, 33, 67, 300}) {
      if (n > CompactRowsOfX(GetParam(), Compute::kBf16, cols)) break;
      const std::vector<float> x = Rows(n, cols);
      const std::vector<float> expected = Product(Isa::kReference, m.weight(), x, n), y = Product(GetParam(), w, x, n);
      for (size_t i = 0; i < y.size(); ++i) ASSERT_NEAR(y[i], expected[i], 2e-5) << rows << "x" << cols << " " << n;
    }
  }
}

// The order of a sum depends neither on the rows of x nor on those of w.
TEST_P(CompactProduct, RowsAreIndependent) {
  const Matrix m = Made(Random(544, 1024));
  const Weight w = m.with_compact();
  const std::vector<float> x = Rows(8, m.cols), all = Product(GetParam(), w, x, 8);
  for (int64_t i = 0; i < 8; ++i) {
    const std::vector<float> one = Product(GetParam(), w, {x.begin() + i * m.cols, x.begin() + (i + 1) * m.cols}, 1);
    ASSERT_TRUE(std::equal(one.begin(), one.end(), all.begin() + i * m.rows)) << i;
  }
}

// Beyond a number of rows, where there is one, the matrix itself is read.
TEST_P(CompactProduct, OnlySoManyRowsReadIt) {
  for (const int64_t cols : {256, 1032}) {
    const int64_t most = CompactRowsOfX(GetParam(), Compute::kBf16, cols);
    const Matrix m = Made(Random(64, cols));
    const std::vector<uint16_t> zeros(m.bits.size());
    Weight w = m.with_compact();
    w.data = zeros.data();
    for (int64_t n : {8, 9, 32, 33, 200}) {
      const std::vector<float> y = Product(GetParam(), w, Rows(n, m.cols), n);
      EXPECT_EQ(std::count(y.begin(), y.end(), 0.0f), n > most ? n * m.rows : 0) << n;
    }
  }
}

// Jobs that take rows of one x, as experts do: rows that several take, that none takes, and jobs without such rows.
TEST_P(CompactProduct, JobsThatTakeRowsOfOneX) {
  const Matrix m = Made(Random(96, 256));
  const std::vector<float> x = Rows(150, m.cols);
  Rng rng(9, 0);
  std::vector<std::vector<int32_t>> rows;
  for (const size_t n : {5, 90, 1, 40, 40}) {
    std::vector<int32_t>& of = rows.emplace_back(n);
    for (int32_t& row : of) row = static_cast<int32_t>(rng.NextU32() % 150);
  }
  for (const size_t jobs : {size_t{1}, rows.size()}) {  // fewer rows taken than there are, and more
    std::vector<std::vector<float>> y;
    std::vector<LinearJob> list;
    for (size_t j = 0; j < jobs; ++j) {
      const auto taken = static_cast<int64_t>(rows[j].size());
      y.emplace_back(rows[j].size() * static_cast<size_t>(m.rows));
      list.push_back({.y = y[j].data(),
                      .ldy = m.rows,
                      .x = x.data(),
                      .ldx = m.cols,
                      .x_rows = rows[j].data(),
                      .m = taken,
                      .w = m.with_compact()});
    }
    std::vector<float> whole(static_cast<size_t>(150 * m.rows));
    list.push_back({.y = whole.data(), .ldy = m.rows, .x = x.data(), .ldx = m.cols, .m = 150, .w = m.with_compact()});
    Context ctx{pool_, GetParam(), {}};
    Linear(ctx, arena_, {.jobs = list, .compute = Compute::kBf16});
    const std::vector<float> expected = Product(Isa::kReference, m.weight(), x, 150);
    for (size_t j = 0; j < jobs; ++j) {
      for (size_t i = 0; i < y[j].size(); ++i) {
        const size_t rows_of_w = static_cast<size_t>(m.rows), row = static_cast<size_t>(rows[j][i / rows_of_w]);
        ASSERT_NEAR(y[j][i], expected[row * rows_of_w + i % rows_of_w], 2e-5) << j << " " << i;
      }
    }
    for (size_t i = 0; i < whole.size(); ++i) ASSERT_NEAR(whole[i], expected[i], 2e-5) << i;
  }
}

// The form whose bits do not depend on the number of rows has the same ones from a compact matrix.
TEST_P(CompactProduct, FixedForm) {
  const Matrix m = Made(Random(544, 1032));
  const Weight w = m.with_compact();
  for (int64_t n : {1, 4, 7, 8, 9, 24, 30, 70, 200}) {
    const std::vector<float> x = Rows(n, m.cols);
    EXPECT_EQ(Product(GetParam(), w, x, n, true), Product(GetParam(), m.weight(), x, n, true)) << n;
  }
}

// Some blocks of rows, as a head has of kv_b_proj.
TEST_P(CompactProduct, SomeRows) {
  const Matrix m = Made(Random(320, 256));
  const Weight w = m.with_compact();
  const std::vector<float> x = Rows(3, m.cols), all = Product(GetParam(), w, x, 3);
  const Weight part = w.Rows(96, 128);
  EXPECT_EQ(part.compact, &m.compact);
  EXPECT_EQ(w.Rows(96, 100).compact, nullptr);
  EXPECT_EQ(w.Rows(100, 32).compact, nullptr);
  const std::vector<float> some = Product(GetParam(), part, x, 3);
  for (int64_t i = 0; i < 3; ++i) {
    ASSERT_TRUE(std::equal(some.begin() + i * 128, some.begin() + (i + 1) * 128, all.begin() + i * m.rows + 96)) << i;
  }
}

// Infinities and NaN come through.
TEST_P(CompactProduct, NotFinite) {
  Matrix m = Random(32, 512);
  m.bits[2 * 512 + 100] = 0x7fc0;
  m.bits[5 * 512 + 300] = 0x7f80;
  m.Make();
  ASSERT_TRUE(m.made);
  const Weight w = m.with_compact();
  const std::vector<float> x(512, 1.0f), y = Product(GetParam(), w, x, 1);
  for (size_t i = 0; i < y.size(); ++i) {
    EXPECT_EQ(std::isnan(y[i]), i == 2) << i;
    EXPECT_EQ(std::isinf(y[i]), i == 5) << i;
  }
}

INSTANTIATE_TEST_SUITE_P(Isas, CompactProduct, testing::Values(Isa::kAvx512Bf16, Isa::kAmx),
                         [](const auto& param) { return std::string(Name(param.param)); });

}  // namespace
}  // namespace fathom::kernels
