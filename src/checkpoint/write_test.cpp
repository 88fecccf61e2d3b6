#include "checkpoint/write.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "checkpoint/test_folder.h"

namespace fathom::checkpoint {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

using WriteTest = FolderTest;

TEST_F(WriteTest, CopiesAskForTheMainOnes) {
  ThreadPool pool(3);
  std::mutex mutex;
  std::map<std::string, int64_t> rows_of;
  WriteCheckpoint(
      TinyConfig(), Path("out"), {.files = {{"tokenizer.json", "{\"a\": 1}"}, {"empty.json", ""}}},
      [&](const model::ParamInfo& info, int64_t, int64_t rows, int64_t cols, float* out) {
        std::fill_n(out, rows * cols, 1.0f);
        const std::lock_guard lock(mutex);
        rows_of[info.name] += rows;
        EXPECT_FALSE(info.copy);
      },
      pool);
  EXPECT_EQ(rows_of.at("model.embed_tokens.weight"), 2 * 40);
  EXPECT_EQ(rows_of.at("lm_head.weight"), 2 * 40);
  EXPECT_EQ(rows_of.at("model.norm.weight"), 1);
  EXPECT_FALSE(rows_of.count("model.layers.2.embed_tokens.weight"));
  EXPECT_EQ(io::ReadFile(Path("out/tokenizer.json"), 100).Value(), "{\"a\": 1}");
  EXPECT_EQ(io::ReadFile(Path("out/empty.json"), 100).Value(), "");
}

TEST_F(WriteTest, WhenTheSourceThrowsNothingStays) {
  ThreadPool pool(2);
  EXPECT_THAT(ErrorOf([&] {
                WriteCheckpoint(
                    TinyConfig(), Path("out"), {},
                    [](const model::ParamInfo& info, int64_t, int64_t rows, int64_t cols, float* out) {
                      if (info.name == "model.layers.1.mlp.experts.3.up_proj.weight") throw Error("gone");
                      std::fill_n(out, rows * cols, 0.0f);
                    },
                    pool);
              }),
              HasSubstr("gone"));
  EXPECT_THAT(std::vector<std::filesystem::path>(std::filesystem::directory_iterator(folder_), {}), IsEmpty());
}

}  // namespace
}  // namespace fathom::checkpoint
