#include "data/byte_reader.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <cerrno>
#include <utility>
#include <vector>

#include "io/file.h"

namespace fathom::data {
namespace {

constexpr int64_t kBufferBytes = 256 << 10;

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }
  int Release() { return std::exchange(fd_, -1); }

 private:
  int fd_;
};

Result<int64_t> ReadSome(int fd, const std::string& path, char* out, int64_t count) {
  for (;;) {
    const ssize_t got = ::read(fd, out, static_cast<size_t>(count));
    if (got >= 0) return int64_t{got};
    if (errno != EINTR) return io::FileError("cannot read " + path, path, errno);
  }
}

class PlainReader : public ByteReader {
 public:
  PlainReader(std::string path, Descriptor fd) : path_(std::move(path)), fd_(std::move(fd)) {}
  Result<int64_t> Read(char* out, int64_t count) override { return ReadSome(fd_.get(), path_, out, count); }
  Result<int64_t> Skip(int64_t count) override {
    const off_t at = ::lseek(fd_.get(), 0, SEEK_CUR);
    if (at < 0) return ByteReader::Skip(count);  // a pipe
    struct stat info {};
    if (::fstat(fd_.get(), &info) != 0) return io::FileError("cannot read " + path_, path_, errno);
    const int64_t skipped = std::clamp<int64_t>(info.st_size - at, 0, count);
    if (::lseek(fd_.get(), at + skipped, SEEK_SET) < 0) return io::FileError("cannot read " + path_, path_, errno);
    return skipped;
  }

 private:
  std::string path_;
  Descriptor fd_;
};

Error Damaged(const std::string& path, std::string_view kind, std::string_view why) {
  return Error(fmt::format("{} is damaged", path), std::string(why), fmt::format("a whole {} file", kind));
}

class GzipReader : public ByteReader {
 public:
  GzipReader(std::string path, gzFile file) : path_(std::move(path)), file_(file) {
    gzbuffer(file_, static_cast<unsigned>(kBufferBytes));
  }
  ~GzipReader() override { gzclose_r(file_); }
  Result<int64_t> Read(char* out, int64_t count) override {
    const int got = gzread(file_, out, static_cast<unsigned>(std::min<int64_t>(count, 1 << 30)));
    if (got > 0 && gzdirect(file_)) return Damaged(path_, "gzip", "it does not begin as a gzip file does");
    if (got > 0) return int64_t{got};  // of a file that ends too early what there is; the next call has the error
    int code = Z_OK;
    const char* why = gzerror(file_, &code);
    if (code == Z_OK || code == Z_STREAM_END) return int64_t{0};
    if (code == Z_BUF_ERROR) why = "it ends too early";
    return Damaged(path_, "gzip", why);
  }

 private:
  std::string path_;
  gzFile file_;
};

class ZstdReader : public ByteReader {
 public:
  ZstdReader(std::string path, Descriptor fd)
      : path_(std::move(path)), fd_(std::move(fd)), stream_(ZSTD_createDStream()), in_(kBufferBytes) {
    FATHOM_CHECK(stream_ != nullptr);
  }
  ~ZstdReader() override { ZSTD_freeDStream(stream_); }
  Result<int64_t> Read(char* out, int64_t count) override {
    ZSTD_outBuffer to{out, static_cast<size_t>(count), 0};
    while (to.pos == 0) {
      if (from_.pos == from_.size && !flush_) {
        Result<int64_t> got = ReadSome(fd_.get(), path_, in_.data(), kBufferBytes);
        if (!got) return got.error();
        if (got.Value() == 0) {
          if (in_frame_) return Damaged(path_, "zstd", "it ends too early");
          return int64_t{0};
        }
        from_ = {in_.data(), static_cast<size_t>(got.Value()), 0};
      }
      const size_t left = ZSTD_decompressStream(stream_, &to, &from_);
      if (ZSTD_isError(left)) return Damaged(path_, "zstd", ZSTD_getErrorName(left));
      in_frame_ = left != 0;
      flush_ = in_frame_ && to.pos == to.size;  // the decoder may hold more than `out` had room for
    }
    return static_cast<int64_t>(to.pos);
  }

 private:
  std::string path_;
  Descriptor fd_;
  ZSTD_DStream* stream_;
  std::vector<char> in_;
  ZSTD_inBuffer from_{nullptr, 0, 0};
  bool in_frame_ = false, flush_ = false;
};

}  // namespace

Compression CompressionOf(std::string_view path, std::string_view* stem) {
  const auto ends = [&](std::string_view end) {
    if (path.size() <= end.size() || path.substr(path.size() - end.size()) != end) return false;
    *stem = path.substr(0, path.size() - end.size());
    return true;
  };
  if (ends(".gz")) return Compression::kGzip;
  if (ends(".zst")) return Compression::kZstd;
  *stem = path;
  return Compression::kNone;
}

Result<std::unique_ptr<ByteReader>> ByteReader::Open(const std::string& path, Compression compression) {
  Descriptor fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (fd.get() < 0) return io::FileError("cannot open " + path, path, errno);
  ::posix_fadvise(fd.get(), 0, 0, POSIX_FADV_SEQUENTIAL);
  std::unique_ptr<ByteReader> reader;
  if (compression == Compression::kNone) {
    reader = std::make_unique<PlainReader>(path, std::move(fd));
  } else if (compression == Compression::kZstd) {
    reader = std::make_unique<ZstdReader>(path, std::move(fd));
  } else {
    auto* const file = gzdopen(fd.get(), "rb");
    if (file == nullptr) return Error("cannot open " + path, "out of memory");
    fd.Release();
    reader = std::make_unique<GzipReader>(path, file);
  }
  return reader;
}

Result<int64_t> ByteReader::Skip(int64_t count) {
  std::vector<char> buffer(static_cast<size_t>(std::min(count, kBufferBytes)));
  int64_t skipped = 0;
  while (skipped < count) {
    Result<int64_t> got = Read(buffer.data(), std::min(count - skipped, kBufferBytes));
    if (!got) return got;
    if (got.Value() == 0) break;
    skipped += got.Value();
  }
  return skipped;
}

}  // namespace fathom::data
