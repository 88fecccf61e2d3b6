// What the tests of data share: a folder of their own, compressed files, the shipped tokenizer.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "core/rng.h"
#include "tokenizer/model_files.h"

namespace fathom::data {

inline std::string Gzip(std::string_view text) {
  z_stream stream{};
  EXPECT_EQ(deflateInit2(&stream, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
  std::string out(deflateBound(&stream, text.size()), '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  stream.avail_in = static_cast<uInt>(text.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  EXPECT_EQ(deflate(&stream, Z_FINISH), Z_STREAM_END);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

inline std::string Zstd(std::string_view text) {
  std::string out(ZSTD_compressBound(text.size()), '\0');
  out.resize(ZSTD_compress(out.data(), out.size(), text.data(), text.size(), 3));
  return out;
}

inline std::string JsonLine(std::string_view text, const std::string& key = "text") {
  return nlohmann::json{{"id", 7}, {key, text}, {"meta", {{"text", "not this"}}}}.dump() + "\n";
}

inline const tokenizer::Tokenizer& StoryTokenizer() {
  static const tokenizer::ModelText model = tokenizer::LoadModelText(FATHOM_SOURCE_DIR "/configs/runs/smoke-tokenizer");
  return model.tokenizer;
}

// Text of `words` words, different for each seed.
inline std::string SomeText(uint64_t seed, int64_t words) {
  static constexpr const char* kWords[] = {"the",   "fox",  "ran",  "over",     "a",    "hill", "and",
                                           "saw",   "some", "crow", "mountain", "king", "who",  "said",
                                           "\"No!", "Once", "upon", "time,",    "été",  "狐狸", "was.\n"};
  Rng rng(seed, 99);
  std::string text;
  for (int64_t i = 0; i < words; ++i) {
    if (i > 0) text += ' ';
    text += kWords[rng.NextBelow(std::size(kWords))];
  }
  return text + " #" + std::to_string(seed);
}

class DataTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const auto* info = ::testing::UnitTest::GetInstance()->current_test_info();
    root_ = std::filesystem::temp_directory_path() /
            ("fathom-data-" + std::to_string(::getpid()) + "-" + info->test_suite_name() + "-" + info->name());
    std::filesystem::remove_all(root_);
    std::filesystem::create_directories(root_);
  }
  void TearDown() override { std::filesystem::remove_all(root_); }

  // Writes a file below the test's folder; its path.
  std::string Write(const std::string& name, std::string_view bytes) const {
    const std::filesystem::path path = root_ / name;
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path, std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    return path.string();
  }
  std::string Root() const { return root_.string(); }

 private:
  std::filesystem::path root_;
};

}  // namespace fathom::data
