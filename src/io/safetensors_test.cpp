#include "io/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "io/safetensors_writer.h"

namespace fathom::io {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;

class SafetensorsTest : public ::testing::Test {
 protected:
  SafetensorsTest() : folder_(fs::temp_directory_path() / ("fathom_safetensors_test_" + std::to_string(::getpid()))) {
    fs::create_directories(folder_);
  }
  ~SafetensorsTest() override { fs::remove_all(folder_); }

  std::string Path(const std::string& name) const { return (folder_ / name).string(); }
  // Opens a file of this header and so many bytes of data.
  Result<SafetensorsFile> Open(const std::string& json, size_t data_bytes) {
    std::string file(8, '\0');
    for (size_t i = 0; i < 8; ++i) file[i] = static_cast<char>(json.size() >> (8 * i) & 0xff);
    return OpenBytes(file + json + std::string(data_bytes, '\1'));
  }
  Result<SafetensorsFile> OpenBytes(const std::string& bytes) {
    std::ofstream(Path("t.safetensors"), std::ios::binary) << bytes;
    return SafetensorsFile::Open(Path("t.safetensors"));
  }
  std::string Fault(const std::string& json, size_t data_bytes) {
    const auto file = Open(json, data_bytes);
    return file.ok() ? "no error" : file.error().what();
  }

  fs::path folder_;
};

TEST_F(SafetensorsTest, WhatIsWrittenIsRead) {
  const std::array<float, 6> f = {1, 2, 3, 4, 5, 6};
  const std::array<uint8_t, 3> codes = {7, 8, 9};
  const std::array<int64_t, 1> i = {-5};
  WriteSafetensors(Path("a"),
                   {{"codes", {codes.data(), DType::kF8E4M3, {3, 1}}},
                    {"f \"quoted\" \xc3\xa9", {f.data(), DType::kF32, {2, 3}}},
                    {"scalar", {i.data(), DType::kI64, {}}},
                    {"none", {nullptr, DType::kBF16, {0, 4}}}},
                   {{"format", "pt"}});
  const SafetensorsFile file = SafetensorsFile::Open(Path("a")).Value();
  EXPECT_EQ(file.data_begin() % 64, 0);
  EXPECT_EQ(file.metadata().at("format"), "pt");
  ASSERT_EQ(file.entries().size(), 4u);
  EXPECT_EQ(file.entries()[0].name, "scalar");  // the largest elements first
  EXPECT_EQ(file.Find("nothing"), nullptr);
  const TensorView v = file.Get("f \"quoted\" \xc3\xa9");
  EXPECT_EQ(v.shape, (Shape{2, 3}));
  EXPECT_EQ(std::memcmp(v.data, f.data(), sizeof(f)), 0);
  EXPECT_EQ(std::memcmp(file.Get("codes").data, codes.data(), 3), 0);
  EXPECT_EQ(*static_cast<const int64_t*>(file.Get("scalar").data), -5);
  EXPECT_EQ(file.Get("none").size(), 0);
  for (const auto& e : file.entries()) EXPECT_TRUE(file.IsAligned(e)) << e.name;
  EXPECT_THROW(file.Get("nothing"), Error);
}

TEST_F(SafetensorsTest, TheWriterTakesTensorsInAnyOrder) {
  SafetensorsWriter writer(Path("a"), {{"a", DType::kU8, {4}}, {"b", DType::kU8, {2}}});
  writer.WriteAt(1, 0, "ef", 2);
  writer.WriteAt(0, 2, "cd", 2);
  writer.WriteAt(0, 0, "ab", 2);
  writer.Commit();
  const SafetensorsFile file = SafetensorsFile::Open(Path("a")).Value();
  EXPECT_EQ(std::memcmp(file.Get("a").data, "abcdef", 6), 0);
}

TEST_F(SafetensorsTest, EveryTypeOfTheFormatIsKnown) {
  for (const char* name : {"F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2", "I64", "I32", "I16", "I8", "U64", "U32",
                           "U16", "U8", "BOOL"}) {
    const std::optional<DType> dtype = DTypeFromName(name);
    ASSERT_TRUE(dtype) << name;
    EXPECT_EQ(Name(*dtype), name);
    const int64_t bytes = 3 * SizeOf(*dtype);
    const auto file = Open("{\"t\":{\"dtype\":\"" + std::string(name) + "\",\"shape\":[3],\"data_offsets\":[0," +
                               std::to_string(bytes) + "]}}",
                           static_cast<size_t>(bytes));
    EXPECT_TRUE(file.ok()) << name;
  }
}

TEST_F(SafetensorsTest, AnOddHeaderLengthMisalignsTheData) {
  const auto file = Open(R"({"t":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", 4).Value();
  EXPECT_NE(file.data_begin() % 4, 0);
  EXPECT_FALSE(file.IsAligned(file.entries()[0]));
}

TEST_F(SafetensorsTest, FilesThatAreNoSafetensors) {
  EXPECT_THAT(OpenBytes("").error().what(), AllOf(HasSubstr("t.safetensors"), HasSubstr("0 bytes")));
  EXPECT_THAT(OpenBytes("1234567").error().what(), HasSubstr("truncated"));
  EXPECT_THAT(OpenBytes(std::string("\x10\0\0\0\0\0\0\0{}", 10)).error().what(),
              AllOf(HasSubstr("header's length goes past the end"), HasSubstr("16 bytes")));
  EXPECT_THAT(OpenBytes(std::string(8, '\xff') + "{}").error().what(), HasSubstr("past the end"));
  EXPECT_THAT(OpenBytes("version https://git-lfs.github.com/spec/v1\noid sha256:0\n").error().what(),
              HasSubstr("git lfs pull"));
  EXPECT_THAT(SafetensorsFile::Open(Path("none")).error().what(), HasSubstr("No such file"));
  EXPECT_THAT(Fault("not json", 0), HasSubstr("not valid JSON"));
  EXPECT_THAT(Fault("{\"t\":", 0), HasSubstr("not valid JSON"));
  EXPECT_THAT(Fault("[1]", 0), HasSubstr("an object of tensors"));
  EXPECT_THAT(Fault("{\"\xff\":{}}", 0), HasSubstr("not valid JSON"));
}

TEST_F(SafetensorsTest, AHeaderThatIsTooLongIsNotRead) {
  const std::string path = Path("huge");
  {
    std::ofstream out(path, std::ios::binary);
    const uint64_t length = kMaxSafetensorsHeader + 1;
    for (size_t i = 0; i < 8; ++i) out.put(static_cast<char>(length >> (8 * i) & 0xff));
  }
  fs::resize_file(path, 2 * kMaxSafetensorsHeader);
  EXPECT_THAT(SafetensorsFile::Open(path).error().what(),
              AllOf(HasSubstr("header is too long"), HasSubstr("at most 100 MB")));
}

TEST_F(SafetensorsTest, TensorsThatDoNotFit) {
  const auto one = [](const std::string& fields) { return "{\"t\":{" + fields + "}}"; };
  EXPECT_THAT(Fault(one(R"("dtype":"F4","shape":[1],"data_offsets":[0,4])"), 4),
              AllOf(HasSubstr("the dtype of tensor \"t\" is unknown"), HasSubstr("got:      \"F4\"")));
  EXPECT_THAT(Fault(one(R"("dtype":"F32","shape":[-1],"data_offsets":[0,4])"), 4), HasSubstr("-1"));
  EXPECT_THAT(Fault(one(R"("dtype":"F32","shape":[1.5],"data_offsets":[0,4])"), 4), HasSubstr("1.5"));
  EXPECT_THAT(Fault(one(R"("dtype":"F32","shape":[1e999],"data_offsets":[0,4])"), 4), HasSubstr("not valid JSON"));
  EXPECT_THAT(Fault(one(R"("dtype":"F32","shape":[4294967296,4294967296,4],"data_offsets":[0,0])"), 0),
              HasSubstr("sizes whose product fits"));
  EXPECT_THAT(Fault(one(R"("dtype":"F32","shape":[18446744073709551615],"data_offsets":[0,4])"), 4),
              HasSubstr("18446744073709551615"));
  EXPECT_THAT(Fault(one(R"("dtype":"F32","shape":[1],"data_offsets":[0,18446744073709551615])"), 4),
              HasSubstr("offsets within the file"));
  EXPECT_THAT(Fault(one(R"("dtype":"F32","shape":[2],"data_offsets":[0,4])"), 4),
              AllOf(HasSubstr("4 bytes"), HasSubstr("8 bytes for (2) of F32")));
  EXPECT_THAT(Fault(one(R"("dtype":"F32","shape":[1],"data_offsets":[4,0])"), 4), HasSubstr("begin <= end"));
  EXPECT_THAT(Fault(one(R"("dtype":"F32","shape":[1],"data_offsets":[0])"), 4), HasSubstr("1 numbers"));
  EXPECT_THAT(Fault(one(R"("dtype":"F32","shape":[1],"data_offsets":[0,4,8])"), 4), HasSubstr("more than two"));
  EXPECT_THAT(Fault(one(R"("dtype":"F32","shape":[1])"), 4), HasSubstr("has no data_offsets"));
  EXPECT_THAT(Fault(one(R"("dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4])"), 4),
              HasSubstr("dtype twice"));
  EXPECT_THAT(Fault(one(R"("dtype":"F32","shape":[1],"data_offsets":[0,4],"colour":1)"), 4), HasSubstr("\"colour\""));
  EXPECT_THAT(Fault(one(R"("dtype":"F32","shape":[[1]],"data_offsets":[0,4])"), 4), HasSubstr("a list"));
  EXPECT_THAT(Fault(one(R"("dtype":{},"shape":[1],"data_offsets":[0,4])"), 4), HasSubstr("an object"));
  EXPECT_THAT(Fault(R"({"t":null})", 0), HasSubstr("null"));
  EXPECT_THAT(Fault(R"({"__metadata__":{"a":1}})", 0), HasSubstr("a string"));
  EXPECT_THAT(Fault(one(R"("dtype":"U8","shape":[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1],"data_offsets":[0,1])"), 1),
              HasSubstr("too many dimensions"));
}

TEST_F(SafetensorsTest, TensorsFillTheFileWithoutOverlapOrHole) {
  const auto two = [](int a, int b, int c, int d) {
    return R"({"x":{"dtype":"U8","shape":[)" + std::to_string(b - a) + R"(],"data_offsets":[)" + std::to_string(a) +
           "," + std::to_string(b) + R"(]},"y":{"dtype":"U8","shape":[)" + std::to_string(d - c) +
           R"(],"data_offsets":[)" + std::to_string(c) + "," + std::to_string(d) + "]}}";
  };
  EXPECT_EQ(Fault(two(0, 4, 4, 8), 8), "no error");
  EXPECT_EQ(Fault(two(4, 8, 0, 4), 8), "no error");
  EXPECT_THAT(Fault(two(0, 5, 4, 8), 8), HasSubstr("tensors \"x\" and \"y\" overlap"));
  EXPECT_THAT(Fault(two(0, 4, 0, 4), 8), HasSubstr("overlap"));
  EXPECT_THAT(Fault(two(0, 4, 5, 8), 8), HasSubstr("bytes 4 to 5, before tensor \"y\", belong to no tensor"));
  EXPECT_THAT(Fault(two(0, 4, 4, 9), 8), HasSubstr("tensor \"y\" lies past the end of the file"));
  EXPECT_THAT(Fault(two(0, 4, 4, 7), 8), HasSubstr("1 bytes after the last tensor"));
  EXPECT_THAT(Fault("{}", 3), HasSubstr("3 bytes after the last tensor"));
  const std::string x = R"("x":{"dtype":"U8","shape":[0],"data_offsets":[0,0]})";
  EXPECT_THAT(Fault("{" + x + "," + x + "}", 0), HasSubstr("tensor \"x\" is there twice"));
}

// Opening reads the header and nothing else: 700 GB of which all but the header is a hole.
TEST_F(SafetensorsTest, OpensASparseFileOf700Gigabytes) {
  constexpr int64_t kRows = 1'000'000, kColumns = 700'000;
  const std::string path = Path("large");
  std::ofstream(path, std::ios::binary) << SafetensorsHead({{"w", DType::kF8E4M3, {kRows, kColumns}}});
  std::error_code error;
  fs::resize_file(path, fs::file_size(path) + kRows * kColumns, error);
  if (error) GTEST_SKIP() << "this file system takes no sparse file of 700 GB: " << error.message();
  rusage before{}, after{};
  getrusage(RUSAGE_SELF, &before);
  const SafetensorsFile file = SafetensorsFile::Open(path).Value();
  getrusage(RUSAGE_SELF, &after);
  EXPECT_EQ(file.Get("w").shape, (Shape{kRows, kColumns}));
  EXPECT_LT(after.ru_maxrss - before.ru_maxrss, 4096);  // KiB
  EXPECT_EQ(*static_cast<const uint8_t*>(file.Get("w").data), 0);
}

}  // namespace
}  // namespace fathom::io
