#include "core/tensor.h"

#include <fmt/format.h>
#include <sys/mman.h>

#include <cstdlib>
#include <cstring>

namespace fathom {
namespace {
constexpr int64_t kAlign = 64;
constexpr int64_t kMapFrom = 1 << 21;  // buffers of at least 2 MiB are mapped
}  // namespace

int64_t NumElements(const Shape& shape) {
  int64_t n = 1;
  for (int64_t d : shape) n *= d;
  return n;
}

std::string ToString(const Shape& shape) { return fmt::format("({})", fmt::join(shape, ", ")); }

Buffer::Buffer(int64_t bytes) : bytes_(bytes) {
  FATHOM_CHECK(bytes >= 0);
  if (bytes == 0) return;
  const auto fail = [&] {
    throw Error("out of memory",
                fmt::format("a request for {:.1f} MiB that was refused", static_cast<double>(bytes) / 1048576.0), "",
                "a smaller --ctx-size, --batch or model needs less");
  };
  if (bytes >= kMapFrom) {
    void* p = mmap(nullptr, static_cast<size_t>(bytes), PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) fail();
    madvise(p, static_cast<size_t>(bytes), MADV_HUGEPAGE);
    data_ = p;
    mapped_ = true;
  } else {
    data_ = std::aligned_alloc(kAlign, static_cast<size_t>((bytes + kAlign - 1) / kAlign * kAlign));
    if (!data_) fail();
    std::memset(data_, 0, static_cast<size_t>(bytes));
  }
}

Buffer::~Buffer() {
  if (mapped_) {
    munmap(data_, static_cast<size_t>(bytes_));
  } else {
    std::free(data_);
  }
}

void Buffer::Provide(int64_t begin, int64_t end) const {
#ifndef MADV_POPULATE_WRITE
  constexpr int MADV_POPULATE_WRITE = 23;  // NOLINT: the kernel's own name, which older headers lack
#endif
  constexpr int64_t kPage = 4096;
  FATHOM_CHECK(0 <= begin && begin <= end && end <= bytes_);
  begin = begin / kPage * kPage;
  if (mapped_) madvise(data<std::byte>() + begin, static_cast<size_t>(end - begin), MADV_POPULATE_WRITE);
}

Buffer& Buffer::operator=(Buffer&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  std::swap(mapped_, other.mapped_);
  return *this;
}

void* Arena::TakeBytes(int64_t bytes) {
  FATHOM_CHECK(bytes >= 0);
  const int64_t begin = used_;
  used_ += (bytes + kAlign - 1) / kAlign * kAlign;
  if (used_ > high_water_) high_water_ = used_;
  if (planning()) return nullptr;
  if (used_ > capacity_) {
    ++overflows_;
    extra_.emplace_back(begin, Buffer(used_ - begin));
    return extra_.back().second.data();
  }
  return storage_.data() + begin;
}

void Arena::Release(int64_t mark) {
  used_ = mark;
  while (!extra_.empty() && extra_.back().first >= mark) extra_.pop_back();
}

}  // namespace fathom
