// Views are values; storage has one owner; memory is planned.
//   TensorView  pointer, dtype and shape of rows that lie contiguous. Cheap to copy, owns nothing.
//   Buffer      64-byte aligned bytes with one owner.
//   Arena       one Buffer dealt out in named slots; the high-water mark of each phase is the plan that `inspect`
//   prints.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <utility>
#include <vector>

#include "core/dtype.h"
#include "core/error.h"

namespace fathom {

using Shape = std::vector<int64_t>;
int64_t NumElements(const Shape& shape);
std::string ToString(const Shape& shape);  // "(61, 7168)"

struct TensorView {
  const void* data = nullptr;
  DType dtype = DType::kF32;
  Shape shape;

  int64_t size() const { return NumElements(shape); }
  int64_t bytes() const { return size() * SizeOf(dtype); }
};

// 64-byte aligned, zero-filled bytes. Large ones are mapped and asked to lie in huge pages.
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(int64_t bytes);
  ~Buffer();
  Buffer(Buffer&& other) noexcept { *this = std::move(other); }
  Buffer& operator=(Buffer&& other) noexcept;
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  template <class T = std::byte>
  T* data() const {
    return static_cast<T*>(data_);
  }
  int64_t bytes() const { return bytes_; }

  // Has the system provide bytes [begin, end) of a large buffer now, which otherwise happens at their first use.
  // Nothing where it cannot (Linux before 5.14, no memory left).
  void Provide(int64_t begin, int64_t end) const;

 private:
  void* data_ = nullptr;
  int64_t bytes_ = 0;
  bool mapped_ = false;
};

// A bump allocator over one Buffer. A phase takes slots between Mark() and Release(mark); HighWater() is the most ever
// taken. An Arena without storage (Arena::Planner()) only counts, so that a plan is made by the code that will run.
class Arena {
 public:
  explicit Arena(int64_t bytes) : storage_(bytes), capacity_(bytes) {}
  static Arena Planner() { return Arena(); }

  template <class T>
  T* Take(int64_t count) {
    return static_cast<T*>(TakeBytes(count * static_cast<int64_t>(sizeof(T))));
  }
  bool planning() const { return capacity_ < 0; }
  int64_t Mark() const { return used_; }
  void Release(int64_t mark);
  int64_t HighWater() const { return high_water_; }
  int64_t Capacity() const { return capacity_; }
  int64_t Overflows() const { return overflows_; }
  const Buffer& storage() const { return storage_; }

 private:
  Arena() = default;
  void* TakeBytes(int64_t bytes);
  Buffer storage_;
  int64_t capacity_ = -1;  // -1: a planner
  int64_t used_ = 0;
  int64_t high_water_ = 0;
  int64_t overflows_ = 0;
  std::vector<std::pair<int64_t, Buffer>> extra_;  // (begin in the count, storage)
};

// Releases what was taken since it was made, unless told to keep it.
class ArenaScope {
 public:
  explicit ArenaScope(Arena& arena) : arena_(arena), mark_(arena.Mark()) {}
  ~ArenaScope() {
    if (!kept_) arena_.Release(mark_);
  }
  void Keep() { kept_ = true; }
  ArenaScope(const ArenaScope&) = delete;
  ArenaScope& operator=(const ArenaScope&) = delete;

 private:
  Arena& arena_;
  int64_t mark_;
  bool kept_ = false;
};

}  // namespace fathom
