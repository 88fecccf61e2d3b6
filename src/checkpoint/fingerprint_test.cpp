#include "checkpoint/fingerprint.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "checkpoint/test_folder.h"

namespace fathom::checkpoint {
namespace {

class FingerprintTest : public FolderTest {
 protected:
  std::string Of(const std::string& name, int64_t whole_bytes = int64_t{1} << 40) {
    return WeightsFingerprint(Open(Path(name)), pool_, whole_bytes);
  }
  void Make(const std::string& name, Precision precision, uint64_t seed) {
    InitCheckpoint(TinyConfig(), Path(name), {.precision = precision, .seed = seed}, pool_);
  }
  ThreadPool pool_{2};
};

TEST_F(FingerprintTest, IsOfTheWeights) {
  Make("a", Precision::kBf16, 1);
  std::filesystem::copy(Path("a"), Path("b"));
  EXPECT_EQ(Of("a"), Of("b"));
  EXPECT_EQ(Of("a").size(), 64u);
  Make("other", Precision::kBf16, 2);
  EXPECT_NE(Of("a"), Of("other"));
  Make("type", Precision::kF32, 1);
  EXPECT_NE(Of("a"), Of("type"));
  Make("fp8", Precision::kFp8, 1);
  EXPECT_NE(Of("a"), Of("fp8"));
}

TEST_F(FingerprintTest, EveryTensorCounts) {
  Make("a", Precision::kFp8, 1);
  const std::string before = Of("a");
  std::string file;
  for (const auto& entry : std::filesystem::directory_iterator(Path("a"))) {
    if (entry.path().extension() == ".safetensors") file = "a/" + entry.path().filename().string();
  }
  const EditableFile original(Path(file));
  size_t changed = 0;
  for (size_t i = 0; i < original.tensors.size(); i += 5) {  // of each kind one or more
    const auto& tensor = original.tensors[i];
    EditableFile edited = original;
    std::byte& last = edited.Get(tensor.name).bytes.back();
    last ^= std::byte{1};
    edited.Save(Path(file));
    if (Of("a") == before) ADD_FAILURE() << tensor.name;
    ++changed;
  }
  EXPECT_GT(changed, 15u);
  original.Save(Path(file));
  EXPECT_EQ(Of("a"), before);
}

TEST_F(FingerprintTest, LargeOnesAreSampledAndTheirFilesTimesCount) {
  Make("a", Precision::kBf16, 1);
  const std::string sampled = Of("a", 0);
  EXPECT_EQ(Of("a", 0), sampled);
  EXPECT_NE(sampled, Of("a"));
  for (const auto& entry : std::filesystem::directory_iterator(Path("a"))) {
    if (entry.path().extension() != ".safetensors") continue;
    std::filesystem::last_write_time(entry.path(),
                                     std::filesystem::last_write_time(entry.path()) + std::chrono::milliseconds(1));
  }
  EXPECT_NE(Of("a", 0), sampled);
}

}  // namespace
}  // namespace fathom::checkpoint
