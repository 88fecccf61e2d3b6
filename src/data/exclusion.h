// Documents that must not be trained on, found wherever they are in other documents, and cut out.
//
// Runs of white space count as one blank, so that other line breaks hide nothing. Out of a document is cut every run
// that it shares with an excluded text and that is
//   - at least kRunBytes long, or
//   - the whole excluded text, where that has at least kWindowBytes, or
//   - the whole document, where that has at least 2 * kWindowBytes - 1.
// A document that is equal to an excluded text is left out, however short. What lies beside a cut becomes documents.
//
// How: the excluded texts' windows of kWindowBytes at multiples of kWindowBytes are in a hash table; a rolling hash
// finds them at any place of a document, and a hit is extended to both sides. A run of 2 * kWindowBytes - 1 bytes holds
// a whole window, so none is missed, but for windows that more than kMaxTwins excluded texts have in common. Linear.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

namespace fathom::data {

class Exclusion {
 public:
  static constexpr size_t kWindowBytes = 32;
  static constexpr size_t kRunBytes = 128;
  static constexpr size_t kMaxTwins = 16;

  void Add(std::string_view text);
  bool empty() const { return texts_.empty(); }
  uint64_t hash() const { return hash_; }  // of all that was added

  // False where nothing is to be cut out. Else `rest` is what remains, in order; perhaps nothing.
  bool Cut(std::string_view text, std::vector<std::string>* rest) const;

 private:
  struct Window {
    uint32_t text, position;
  };
  struct Range {
    size_t begin, end;
  };
  bool MaybeWindow(uint64_t hash) const {
    return !filter_.empty() && (filter_[hash >> filter_shift_ >> 6] >> (hash >> filter_shift_ & 63) & 1) != 0;
  }
  void GrowFilter();
  size_t Extend(std::string_view document, size_t at, size_t from, const Window& window, Range* run) const;

  std::vector<std::string> texts_;  // normalised
  std::unordered_set<uint64_t> whole_;
  std::unordered_map<uint64_t, std::vector<Window>> windows_;  // by rolling hash
  size_t window_count_ = 0;
  std::vector<uint64_t> filter_;  // a bit a slot of rolling hashes: most places of a document end here
  int filter_shift_ = 0;
  uint64_t hash_ = 0;
};

}  // namespace fathom::data
