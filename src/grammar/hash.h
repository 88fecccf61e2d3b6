// Of what states are found again by. Not for what an attacker may choose keys for without being bounded otherwise.
#pragma once

#include <cstdint>
#include <vector>

namespace fathom::grammar {

inline constexpr uint64_t kHashSeed = 0x9E3779B97F4A7C15u;

inline uint64_t HashWord(uint64_t hash, uint64_t word) {
  hash = (hash ^ word) * 0xFF51AFD7ED558CCDu;
  return hash ^ hash >> 32;
}

// Numbers >= 0 of things by their hash. The things are kept elsewhere; none is ever taken out.
class IdTable {
 public:
  // The number of which same(id) holds, -1 where there is none.
  template <class Same>
  int32_t Find(uint64_t hash, const Same& same) const {
    if (slots_.empty()) return -1;
    for (size_t i = hash & Mask(); slots_[i].id >= 0; i = (i + 1) & Mask()) {
      if (slots_[i].hash == hash && same(slots_[i].id)) return slots_[i].id;
    }
    return -1;
  }
  // One that Find does not find.
  void Add(uint64_t hash, int32_t id) {
    if (2 * (count_ + 1) > slots_.size()) Grow();
    Put({hash, id});
    ++count_;
  }
  // Of one thing, as long as not very few are kept.
  static constexpr int64_t kBytesEach = 48;

 private:
  struct Slot {
    uint64_t hash = 0;
    int32_t id = -1;
  };

  size_t Mask() const { return slots_.size() - 1; }
  void Put(Slot slot) {
    size_t i = slot.hash & Mask();
    while (slots_[i].id >= 0) i = (i + 1) & Mask();
    slots_[i] = slot;
  }
  void Grow() {
    std::vector<Slot> old(slots_.empty() ? 64 : 2 * slots_.size());
    old.swap(slots_);
    for (const Slot& slot : old) {
      if (slot.id >= 0) Put(slot);
    }
  }

  std::vector<Slot> slots_;  // a power of two, at most half of them used
  size_t count_ = 0;
};

}  // namespace fathom::grammar
