// Random weights, layouts, memory plans and the scan.
#include "checkpoint/init.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <zlib.h>

#include <bit>
#include <cmath>
#include <limits>
#include <sstream>

#include "checkpoint/checkpoint.h"
#include "checkpoint/memory_plan.h"
#include "checkpoint/scan.h"
#include "checkpoint/test_folder.h"

namespace fathom::checkpoint {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class InitTest : public FolderTest {
 protected:
  void Make(const std::string& name, const InitOptions& options, int threads = 1) {
    ThreadPool pool(threads);
    InitCheckpoint(TinyConfig(), Path(name), options, pool);
  }
  std::string Bytes(const std::string& name) { return io::ReadFile(Path(name), 1 << 30).Value(); }
};

float Value(const kernels::Weight& w, int64_t row, int64_t col) {
  const std::byte* p = w.RowData(row) + col * SizeOf(w.dtype);
  switch (w.dtype) {
    case DType::kF32:
      return *reinterpret_cast<const float*>(p);
    case DType::kBF16:
      return Bf16ToF32(*reinterpret_cast<const uint16_t*>(p));
    default:
      return E4M3ToF32(static_cast<uint8_t>(*p)) * w.ScaleAt(row, col);
  }
}

TEST_F(InitTest, ThreadsAndShardsDoNotChangeAByte) {
  for (Precision p : {Precision::kF32, Precision::kBf16, Precision::kFp8}) {
    Make("a", {.precision = p, .seed = 5, .force = true}, 1);
    Make("b", {.precision = p, .seed = 5, .force = true}, 3);
    EXPECT_EQ(Bytes("a/model.safetensors"), Bytes("b/model.safetensors"));
    EXPECT_EQ(Bytes("a/config.json"), Bytes("b/config.json"));
  }
  Make("c", {.precision = Precision::kFp8, .seed = 5, .max_shard_bytes = 10'000});
  const Checkpoint whole = Open(Path("a")), parts = Open(Path("c"));
  EXPECT_GT(parts.audit().files.size(), 2u);
  std::vector<std::pair<kernels::Weight, std::string>> of_whole;
  whole.ForEachParam([&](const auto& info, const kernels::Weight& w) { of_whole.emplace_back(w, info.name); });
  size_t i = 0;
  parts.ForEachParam([&](const auto&, const kernels::Weight& w) {
    const auto& [other, name] = of_whole[i++];
    EXPECT_EQ(std::memcmp(w.data, other.data, static_cast<size_t>(w.rows * w.cols * SizeOf(w.dtype))), 0) << name;
  });
}

TEST_F(InitTest, AnotherSeedGivesOtherWeights) {
  Make("a", {.seed = 5});
  Make("b", {.seed = 6});
  EXPECT_NE(Bytes("a/model.safetensors"), Bytes("b/model.safetensors"));
}

TEST_F(InitTest, PrecisionsHoldTheSameModel) {
  Make("f32", {.precision = Precision::kF32, .seed = 1});
  Make("bf16", {.precision = Precision::kBf16, .seed = 1});
  Make("fp8", {.precision = Precision::kFp8, .seed = 1});
  const Checkpoint exact = Open(Path("f32")), bf16 = Open(Path("bf16")), fp8 = Open(Path("fp8"));
  EXPECT_FALSE(bf16.config().quantization_config);
  EXPECT_TRUE(fp8.config().quantization_config);
  EXPECT_EQ(exact.config().torch_dtype, "float32");
  std::vector<kernels::Weight> wb, w8;
  bf16.ForEachParam([&](const auto&, const kernels::Weight& w) { wb.push_back(w); });
  fp8.ForEachParam([&](const auto&, const kernels::Weight& w) { w8.push_back(w); });
  size_t i = 0;
  exact.ForEachParam([&](const model::ParamInfo& info, const kernels::Weight& w) {
    EXPECT_EQ(w8[i].dtype, StoredAs(info.kind, Precision::kFp8)) << info.name;
    for (int64_t r = 0; r < w.rows; ++r) {
      for (int64_t c = 0; c < w.cols; ++c) {
        const float x = Value(w, r, c);
        EXPECT_EQ(Value(wb[i], r, c), wb[i].dtype == DType::kF32 ? x : RoundToBf16(x)) << info.name;
        // Half a step of three mantissa bits, or of the smallest code, 2^-9 of the scale.
        const float step = w8[i].dtype != DType::kF8E4M3
                               ? std::fabs(x) * 0x1p-8f
                               : std::max(std::fabs(x) * 0x1p-4f, w8[i].ScaleAt(r, c) * 0x1p-10f);
        EXPECT_LE(std::fabs(Value(w8[i], r, c) - x), step * 1.0001f) << info.name;
      }
    }
    ++i;
  });
}

TEST_F(InitTest, NormsAreOneBiasesZeroAndTheRestNormal) {
  Make("a", {.precision = Precision::kF32, .seed = 3});
  const Checkpoint c = Open(Path("a"));
  double sum = 0, squares = 0, n = 0;
  c.ForEachParam([&](const model::ParamInfo& info, const kernels::Weight& w) {
    for (int64_t i = 0; i < w.rows * w.cols; ++i) {
      const float x = static_cast<const float*>(w.data)[i];
      if (info.kind == model::ParamKind::kVector) {
        ASSERT_EQ(x, 1.0f) << info.name;
      } else if (info.kind == model::ParamKind::kRouterBias) {
        ASSERT_EQ(x, 0.0f) << info.name;
      } else if (!info.copy) {
        sum += x;
        squares += double{x} * x;
        n += 1;
      }
    }
  });
  // Five standard errors of mean and variance of n independent normal values of deviation 0.02.
  EXPECT_NEAR(sum / n, 0, 5 * 0.02 / std::sqrt(n));
  EXPECT_NEAR(squares / n, 0.0004, 5 * 0.0004 * std::sqrt(2 / n));
  const model::MtpParams& mtp = c.params().mtp[0];
  EXPECT_NE(mtp.embed_tokens.data, c.params().embed_tokens.data);
  EXPECT_EQ(std::memcmp(mtp.embed_tokens.data, c.params().embed_tokens.data, 40 * 136 * 4), 0);
  EXPECT_EQ(std::memcmp(mtp.shared_head_head.data, c.params().lm_head.data, 40 * 136 * 4), 0);
}

TEST_F(InitTest, DoesNotOverwriteUnlessForced) {
  Make("a", {.seed = 1});
  EXPECT_THAT(ErrorOf([&] { Make("a", {.seed = 2}); }), AllOf(HasSubstr("is not empty"), HasSubstr("--force")));
  Write("a/tokenizer.json", "{}");
  Make("a", {.seed = 2, .max_shard_bytes = 20'000, .force = true});
  EXPECT_FALSE(std::filesystem::exists(Path("a/model.safetensors")));
  EXPECT_TRUE(std::filesystem::exists(Path("a/tokenizer.json")));
  Open(Path("a"));
  std::filesystem::create_directories(Path("empty"));
  Make("empty", {.seed = 2});
  Open(Path("empty"));
  Write("file", "x");
  EXPECT_THAT(ErrorOf([&] { Make("file", {}); }), HasSubstr("is in the way"));
}

TEST_F(InitTest, WhenStoppedNothingStays) {
  int calls = 0;
  EXPECT_THROW(Make("a", {.progress = [&](int64_t, int64_t) { ++calls == 1 ? throw 1 : 0; }}), int);
  EXPECT_THAT(std::vector<std::filesystem::path>(std::filesystem::directory_iterator(folder_), {}), IsEmpty());
}

TEST_F(InitTest, ProgressEndsAtTheTotal) {
  int64_t last = 0, all = 0;
  Make("a", {.precision = Precision::kFp8, .progress = [&](int64_t done, int64_t total) {
               EXPECT_GT(done, last);
               last = done;
               all = total;
             }});
  EXPECT_EQ(last, all);
  EXPECT_EQ(all, TotalBytes(Layout(TinyConfig(), Precision::kFp8)));
}

// Every float16 value, scaled into range, and ties between codes: the fast encoder is core's.
TEST(QuantizeBlocksTest, EncodesAsTheSpecification) {
  std::vector<float> x;
  for (uint32_t code = 0; code < 0x7f; ++code) {
    const float a = E4M3ToF32(static_cast<uint8_t>(code)),
                b = code < 0x7e ? E4M3ToF32(static_cast<uint8_t>(code + 1)) : a;
    const float tie = (a + b) / 2;
    for (float v : {a, tie, std::nextafter(tie, 0.0f), std::nextafter(tie, 448.0f)}) {
      x.push_back(v);
      x.push_back(-v);
    }
  }
  for (uint32_t bits = 0; bits < 0x43e00000u; bits += 0x3779u) x.push_back(std::bit_cast<float>(bits));
  x.resize(x.size() / 128 * 128);
  for (size_t at = 0; at < x.size(); at += 128) {
    x[at] = 448.0f;  // the scale is 1
    std::array<uint8_t, 128> codes;
    float scale = 0;
    QuantizeBlocks(x.data() + at, 1, 128, false, codes.data(), &scale);
    ASSERT_EQ(scale, 1.0f);
    for (size_t i = 0; i < 128; ++i) ASSERT_EQ(codes[i], F32ToE4M3(x[at + i])) << x[at + i];
  }
}

TEST(QuantizeBlocksTest, IsThePublishedOne) {
  const std::string path = std::string(kShared) + "golden/deepseek-demo/fp8-ops.safetensors";
  if (!std::filesystem::exists(path)) GTEST_SKIP() << "../shared/golden/deepseek-demo is not here";
  const io::SafetensorsFile file = io::SafetensorsFile::Open(path).Value();
  const TensorView w = file.Get("w");
  std::vector<float> x(static_cast<size_t>(w.size()));
  for (size_t i = 0; i < x.size(); ++i) x[i] = Bf16ToF32(static_cast<const uint16_t*>(w.data)[i]);
  for (const bool ue8m0 : {false, true}) {
    const std::string suffix = ue8m0 ? "_ue8m0" : "";
    const TensorView q = file.Get("weight_q" + suffix), s = file.Get("weight_scale" + suffix);
    std::vector<uint8_t> codes(x.size());
    std::vector<float> scales(static_cast<size_t>(s.size()));
    QuantizeBlocks(x.data(), w.shape[0], w.shape[1], ue8m0, codes.data(), scales.data());
    EXPECT_EQ(std::memcmp(scales.data(), s.data, scales.size() * 4), 0);
    EXPECT_EQ(std::memcmp(codes.data(), q.data, codes.size()), 0);
  }
}

// The list of tensors of the release: name, type, shape, bytes, in its order of layers.
TEST(LayoutTest, IsTheReleases) {
  const std::string path = std::string(kShared) + "tokenizer/deepseek-v3.tensors.generated.tsv.gz";
  gzFile gz = gzopen(path.c_str(), "rb");
  if (!gz) GTEST_SKIP() << "../shared/tokenizer is not here";
  std::string expected(16 << 20, '\0');
  const int n = gzread(gz, expected.data(), static_cast<unsigned>(expected.size()));
  gzclose(gz);
  ASSERT_GT(n, 0);
  expected.resize(static_cast<size_t>(n));
  const model::ModelConfig c = model::ReadConfigFile(std::string(kConfigs) + "deepseek-v3.json").config;
  std::string ours;
  for (const io::TensorSpec& t : Layout(c, Precision::kFp8)) {
    ours += fmt::format("{}\t{}\t{}\t{}\n", t.name, Name(t.dtype), fmt::join(t.shape, ","), t.bytes());
  }
  const auto lines = [](const std::string& text) {
    std::vector<std::string> out;
    std::istringstream in(text);
    for (std::string line; std::getline(in, line);) out.push_back(line);
    std::sort(out.begin(), out.end());
    return out;
  };
  const std::vector<std::string> a = lines(ours), b = lines(expected);
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i) ASSERT_EQ(a[i], b[i]);
}

TEST(MemoryPlanTest, OfThePublishedModel) {
  const model::ModelConfig c = model::ReadConfigFile(std::string(kConfigs) + "deepseek-v3.json").config;
  EXPECT_EQ(CacheBytesPerToken(c, 2), 70'272);
  EXPECT_EQ(PlanMemory(c, Precision::kF32).weight_bytes, 4 * 684'489'845'504);
  // All but the router biases, 59 layers of 256, in two bytes.
  EXPECT_EQ(PlanMemory(c, Precision::kBf16).weight_bytes, 2 * 684'489'845'504 + 2 * 59 * 256);
  const MemoryPlan fp8 = PlanMemory(c, Precision::kFp8);
  EXPECT_EQ(fp8.TotalAt(1000) - fp8.weight_bytes, 70'272'000);
  EXPECT_EQ(MachineGib(fp8.TotalAt(4096)), 768);
  EXPECT_THAT(DescribeMachine(fp8.TotalAt(4096)), AllOf(HasSubstr("768 GiB"), HasSubstr("8 of 141 GB")));
}

TEST_F(InitTest, TheScanNamesTensorsThatAreNotFinite) {
  for (Precision p : {Precision::kFp8, Precision::kF32}) {
    Make("m", {.precision = p, .force = true});
    ThreadPool pool(2);
    EXPECT_THAT(ScanForNonFinite(Open(Path("m")), pool), IsEmpty());
  }
  Make("m", {.precision = Precision::kFp8, .force = true});
  EditableFile file(Path("m/model.safetensors"));
  file.Get("model.layers.0.self_attn.o_proj.weight").bytes[5] = std::byte{0xff};
  file.Get("model.layers.0.self_attn.o_proj.weight").bytes[7] = std::byte{0x7f};
  file.Get("model.layers.1.mlp.gate.weight").bytes[2 * 3 + 1] = std::byte{0x7f};
  file.Get("model.layers.1.mlp.gate.weight").bytes[2 * 3] = std::byte{0x80};
  const float nan = std::numeric_limits<float>::quiet_NaN();
  std::memcpy(file.Get("model.layers.1.mlp.experts.3.up_proj.weight_scale_inv").bytes.data() + 4, &nan, 4);
  file.Save(Path("m/model.safetensors"));
  ThreadPool pool(2);
  int64_t last = 0, all = -1;
  const auto found = ScanForNonFinite(Open(Path("m")), pool, [&](int64_t done, int64_t total) {
    last = done;
    all = total;
  });
  EXPECT_EQ(last, all);
  ASSERT_EQ(found.size(), 3u);
  EXPECT_EQ(found[0].tensor, "model.layers.0.self_attn.o_proj.weight");
  EXPECT_EQ(found[0].count, 2);
  EXPECT_EQ(found[0].first, 5);
  EXPECT_TRUE(found[0].nan);
  EXPECT_EQ(found[1].tensor, "model.layers.1.mlp.gate.weight");
  EXPECT_EQ(found[1].first, 3);
  EXPECT_FALSE(found[1].nan);
  EXPECT_EQ(found[2].tensor, "model.layers.1.mlp.experts.3.up_proj.weight_scale_inv");
  EXPECT_EQ(found[2].first, 1);
}

}  // namespace
}  // namespace fathom::checkpoint
