#include "tokenizer/bpe_trainer.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <memory>

#include "core/error.h"
#include "core/utf8.h"

namespace fathom::tokenizer {
namespace {

// What a slot holds: at the first byte of a token, its id; at the last, of a token of several bytes, kLength and its
// length, so that the token before any place is found; between two pieces kBetween; elsewhere something that is no id.
constexpr uint32_t kLength = 1u << 31;
constexpr uint32_t kBetween = UINT32_MAX, kInside = UINT32_MAX - 1;
constexpr int kBytes = 256;
constexpr int64_t kMostSlots = (int64_t{1} << 32) - 16, kLongestPiece = int64_t{1} << 30;

uint64_t Key(uint32_t left, uint32_t right) { return uint64_t{left} << 32 | right; }

// Pairs to counts by open addressing. Pairs are not taken out.
class PairCounts {
 public:
  int64_t* Find(uint64_t key) {
    for (size_t i = Home(key);; i = (i + 1) & mask_) {
      if (slots_[i].key == key) return &slots_[i].count;
      if (slots_[i].key == kNone) return nullptr;
    }
  }
  void Insert(uint64_t key, int64_t count) {  // a new key
    if (++used_ * 2 > slots_.size()) Grow();
    size_t i = Home(key);
    while (slots_[i].key != kNone) i = (i + 1) & mask_;
    slots_[i] = {key, count};
  }

 private:
  static constexpr uint64_t kNone = UINT64_MAX;
  struct Slot {
    uint64_t key = kNone;
    int64_t count = 0;
  };
  size_t Home(uint64_t key) const {
    key = (key ^ key >> 29) * 0x9E3779B97F4A7C15u;
    return (key ^ key >> 32) & mask_;
  }
  void Grow() {
    std::vector<Slot> old(slots_.size() * 2);
    old.swap(slots_);
    mask_ = slots_.size() - 1;
    for (const Slot& s : old) {
      if (s.key == kNone) continue;
      size_t i = Home(s.key);
      while (slots_[i].key != kNone) i = (i + 1) & mask_;
      slots_[i] = s;
    }
  }
  std::vector<Slot> slots_ = std::vector<Slot>(1 << 12);
  size_t mask_ = (1 << 12) - 1, used_ = 0;
};

struct Candidate {
  int64_t count;  // when it was put on the heap; may have become smaller since
  uint64_t pair;
  uint32_t* places;  // ascending
  uint32_t place_count;
  bool operator<(const Candidate& other) const {  // is to be joined after `other`
    return count != other.count ? count < other.count : pair > other.pair;
  }
};

// Memory for lists of places, given back all at once.
class PlaceStore {
 public:
  uint32_t* Take(size_t n) {
    if (n > left_) {
      left_ = std::max(n, kBlock);
      blocks_.push_back(std::unique_ptr<uint32_t[]>(new uint32_t[left_]));
      next_ = blocks_.back().get();
    }
    uint32_t* taken = next_;
    next_ += n;
    left_ -= n;
    return taken;
  }

 private:
  static constexpr size_t kBlock = 1 << 18;
  std::vector<std::unique_ptr<uint32_t[]>> blocks_;
  uint32_t* next_ = nullptr;
  size_t left_ = 0;
};

class Trainer {
 public:
  Trainer(std::vector<PieceCount> pieces, uint32_t first_id, int64_t vocab_size, int64_t least)
      : least_(least), length_(vocab_size, 1), before_(vocab_size), after_(vocab_size), first_id_(first_id) {
    LayOut(std::move(pieces));
    FirstPairs();
  }
  // The pair to be joined next; false if none occurs often enough.
  bool Next(Candidate* best);
  void Join(const Candidate& c, uint32_t made);

 private:
  // One neighbour of the token that a merge makes: what the pair of both gains, and the pair that it breaks loses.
  struct Neighbour {
    int64_t gained = 0, lost = 0;
    uint32_t place_count = 0;
    uint32_t* places = nullptr;
  };
  struct Found {
    uint32_t neighbour, place;
  };
  void LayOut(std::vector<PieceCount> pieces);
  void FirstPairs();
  void Lose(uint64_t pair, int64_t count) {
    if (count == 0) return;
    if (int64_t* known = counts_.Find(pair)) *known -= count;
  }
  void Announce(uint64_t pair, Neighbour& n);
  void Push(const Candidate& c) {
    heap_.push_back(c);
    std::push_heap(heap_.begin(), heap_.end());
  }
  void Touch(std::vector<Neighbour>& side, std::vector<uint32_t>& touched, uint32_t token) {
    if (side[token].gained == 0 && side[token].lost == 0) touched.push_back(token);
  }

  int64_t least_;
  std::vector<uint32_t> slots_;
  // Pieces of equal count lie together: the end of each such range, and the count.
  std::vector<uint32_t> range_ends_;
  std::vector<int64_t> range_counts_;
  std::vector<uint32_t> length_;  // by token
  PairCounts counts_;             // of pairs that once occurred often enough
  std::vector<Candidate> heap_;
  PlaceStore store_;
  std::vector<Neighbour> before_, after_;  // by token; all zero between merges
  std::vector<uint32_t> touched_before_, touched_after_;
  std::vector<Found> found_before_, found_after_;
  uint32_t first_id_;
};

// The bytes in the order of their printable characters (bpe.h), which is that of ids.
struct Alphabet {
  std::array<std::string, kBytes> names;  // by rank
  std::array<uint32_t, kBytes> rank{};    // by byte
};
Alphabet MakeAlphabet() {
  std::array<std::pair<uint32_t, int>, kBytes> order;
  uint32_t next = 256;
  for (int b = 0; b < kBytes; ++b) {
    const bool printable = (b > 0x20 && b < 0x7F) || (b > 0xA0 && b != 0xAD);
    order[b] = {printable ? static_cast<uint32_t>(b) : next++, b};
  }
  std::sort(order.begin(), order.end());
  Alphabet out;
  for (uint32_t r = 0; r < kBytes; ++r) {
    AppendUtf8(order[r].first, out.names[r]);
    out.rank[order[r].second] = r;
  }
  return out;
}

void Trainer::LayOut(std::vector<PieceCount> pieces) {
  // A piece of one byte has nothing to join.
  std::erase_if(pieces, [](const PieceCount& p) { return p.bytes.size() < 2; });
  std::sort(pieces.begin(), pieces.end(), [](const PieceCount& a, const PieceCount& b) { return a.count > b.count; });
  int64_t slots = 1;
  for (const PieceCount& p : pieces) {
    const auto length = static_cast<int64_t>(p.bytes.size());
    FATHOM_CHECK(length <= kLongestPiece);
    slots += length + 1;
  }
  if (slots > kMostSlots) {
    throw Error("the corpus is too large to train a tokenizer on", fmt::format("{} bytes of distinct pieces", slots),
                fmt::format("at most {}", kMostSlots), "train on a sample of the documents");
  }
  const Alphabet alphabet = MakeAlphabet();
  slots_.reserve(slots);
  slots_.push_back(kBetween);
  for (const PieceCount& p : pieces) {
    if (range_counts_.empty() || range_counts_.back() != p.count) {
      range_counts_.push_back(p.count);
      range_ends_.push_back(0);
    }
    for (const char c : p.bytes) slots_.push_back(first_id_ + alphabet.rank[static_cast<unsigned char>(c)]);
    slots_.push_back(kBetween);
    range_ends_.back() = static_cast<uint32_t>(slots_.size());
  }
}

void Trainer::FirstPairs() {
  struct First {
    int64_t count = 0;
    uint32_t place_count = 0;
    uint32_t* places = nullptr;
  };
  std::vector<First> pairs(kBytes * kBytes);
  auto visit = [&](const auto& at) {
    uint32_t p = 1;
    for (size_t r = 0; r < range_ends_.size(); ++r) {
      for (const uint32_t end = range_ends_[r]; p + 1 < end; ++p) {
        const uint32_t left = slots_[p] - first_id_, right = slots_[p + 1] - first_id_;
        if (left < kBytes && right < kBytes) at(pairs[left * kBytes + right], p, range_counts_[r]);
      }
      p = range_ends_[r];
    }
  };
  visit([](First& f, uint32_t, int64_t count) {
    f.count += count;
    ++f.place_count;
  });
  for (size_t i = 0; i < pairs.size(); ++i) {
    First& f = pairs[i];
    if (f.count < least_) continue;
    f.places = store_.Take(f.place_count);
    const uint64_t key =
        Key(first_id_ + static_cast<uint32_t>(i / kBytes), first_id_ + static_cast<uint32_t>(i % kBytes));
    counts_.Insert(key, f.count);
    heap_.push_back({f.count, key, f.places, f.place_count});
  }
  visit([](First& f, uint32_t place, int64_t) {
    if (f.places != nullptr) *f.places++ = place;
  });
  std::make_heap(heap_.begin(), heap_.end());
}

bool Trainer::Next(Candidate* best) {
  while (!heap_.empty()) {
    std::pop_heap(heap_.begin(), heap_.end());
    Candidate top = heap_.back();
    heap_.pop_back();
    const int64_t now = *counts_.Find(top.pair);
    if (now == top.count) {
      *best = top;
      return true;
    }
    top.count = now;
    if (now >= least_) Push(top);
  }
  return false;
}

// The pair of the new token and a neighbour: a candidate, if it occurs often enough. Its count can only fall after this
// merge.
void Trainer::Announce(uint64_t pair, Neighbour& n) {
  if (n.gained < least_) return;
  counts_.Insert(pair, n.gained);
  n.places = store_.Take(n.place_count);
}

void Trainer::Join(const Candidate& c, uint32_t made) {
  const auto left = static_cast<uint32_t>(c.pair >> 32), right = static_cast<uint32_t>(c.pair);
  const uint32_t left_length = length_[left], right_length = length_[right];
  const uint32_t length = length_[made] = left_length + right_length;
  size_t range = 0;
  for (uint32_t i = 0; i < c.place_count; ++i) {
    const uint32_t place = c.places[i], second = place + left_length, next = second + right_length;
    if (slots_[place] != left || slots_[second] != right) continue;
    if (place >= range_ends_[range])
      range = std::upper_bound(range_ends_.begin() + range, range_ends_.end(), place) - range_ends_.begin();
    const int64_t count = range_counts_[range];
    const uint32_t last = slots_[place - 1];
    if (last != kBetween) {
      const uint32_t start = place - (last & kLength ? last & ~kLength : 1), token = slots_[start];
      Touch(before_, touched_before_, token);
      before_[token].lost += count;
      before_[token].gained += count;
      ++before_[token].place_count;
      found_before_.push_back({token, start});
    }
    const uint32_t token = slots_[next];
    if (token != kBetween) {
      Touch(after_, touched_after_, token);
      after_[token].lost += count;
      after_[token].gained += count;
      ++after_[token].place_count;
      found_after_.push_back({token, place});
    }
    slots_[place] = made;
    slots_[second] = kInside;
    slots_[next - 1] = kLength | length;
  }
  // First the new pairs, since the merge itself may have broken some of them again ("abab": "ab" "a" came and went).
  // What is lost of a pair that is not yet known was never counted.
  const int64_t broken = before_[made].lost;
  if (broken > 0) after_[left].gained -= broken;
  for (const uint32_t token : touched_before_) Announce(Key(token, made), before_[token]);
  for (const uint32_t token : touched_after_) Announce(Key(made, token), after_[token]);
  for (const uint32_t token : touched_before_) {
    if (token != made) Lose(Key(token, left), before_[token].lost);
  }
  for (const uint32_t token : touched_after_) Lose(Key(right, token), after_[token].lost);
  auto file = [&](std::vector<Neighbour>& side, const std::vector<Found>& found) {
    for (const Found& f : found) {
      if (side[f.neighbour].places != nullptr) *side[f.neighbour].places++ = f.place;
    }
  };
  file(before_, found_before_);
  file(after_, found_after_);
  auto push = [&](std::vector<Neighbour>& side, std::vector<uint32_t>& touched, const auto& key) {
    for (const uint32_t token : touched) {
      const Neighbour& n = side[token];
      if (n.places != nullptr) Push({n.gained, key(token), n.places - n.place_count, n.place_count});
      side[token] = {};
    }
    touched.clear();
  };
  push(before_, touched_before_, [&](uint32_t token) { return Key(token, made); });
  push(after_, touched_after_, [&](uint32_t token) { return Key(made, token); });
  found_before_.clear();
  found_after_.clear();
}

}  // namespace

void CheckVocabSize(const BpeTrainOptions& options) {
  const auto specials = static_cast<int64_t>(options.special_tokens.size()) + options.reserved;
  const int64_t fewest = specials + kBytes, most = fewest + static_cast<int64_t>(Bpe::kMaxMerges);
  if (options.vocab_size >= fewest && options.vocab_size <= most) return;
  throw Error("the vocabulary cannot have this size", fmt::format("{}", options.vocab_size),
              fmt::format("from {} (256 bytes and {} special tokens) to {}", fewest, specials, most));
}

BpeSource TrainBpe(std::vector<PieceCount> pieces, const BpeTrainOptions& options) {
  CheckVocabSize(options);
  const auto specials = static_cast<uint32_t>(options.special_tokens.size());
  const int64_t size = options.vocab_size - options.reserved, merges = size - specials - kBytes;
  BpeSource out;
  out.vocabulary.reserve(size);
  auto add = [&](std::string name) {
    out.vocabulary.emplace_back(std::move(name), static_cast<TokenId>(out.vocabulary.size()));
  };
  for (const std::string& s : options.special_tokens) add(s);
  for (const std::string& name : MakeAlphabet().names) add(name);
  out.merges.reserve(merges);
  Trainer trainer(std::move(pieces), specials, size, std::max<int64_t>(options.min_frequency, 1));
  Candidate best{};
  for (int64_t i = 0; i < merges && trainer.Next(&best); ++i) {
    const std::string& left = out.vocabulary[best.pair >> 32].first;
    const std::string& right = out.vocabulary[static_cast<uint32_t>(best.pair)].first;
    out.merges.emplace_back(left, right);
    trainer.Join(best, static_cast<uint32_t>(out.vocabulary.size()));
    add(left + right);
    if (options.progress) options.progress(i + 1, merges);
  }
  return out;
}

}  // namespace fathom::tokenizer
