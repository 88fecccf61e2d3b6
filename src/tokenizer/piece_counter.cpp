#include "tokenizer/piece_counter.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <deque>
#include <exception>

#include "core/utf8.h"
#include "tokenizer/published_scanner.h"

namespace fathom::tokenizer {
namespace {

constexpr int kShardBits = 6;
constexpr size_t kShards = size_t{1} << kShardBits;

uint64_t Load8(const char* p) {
  uint64_t x;
  std::memcpy(&x, p, 8);
  return x;
}
uint64_t Load4(const char* p) {
  uint32_t x;
  std::memcpy(&x, p, 4);
  return x;
}
uint64_t Mix(uint64_t a, uint64_t b) {
  const auto product = static_cast<unsigned __int128>(a) * b;
  return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
}

uint64_t HashPiece(const char* p, size_t n) {  // n >= 1
  constexpr uint64_t kA = 0x9E3779B97F4A7C15u, kB = 0xD1B54A32D192ED03u;
  uint64_t h = n * kB;
  const size_t size = n;
  for (; n > 16; p += 16, n -= 16) h = Mix(Load8(p) ^ kA ^ h, Load8(p + 8) ^ kB);
  uint64_t low = 0, high = 0;
  if (n >= 8) {
    low = Load8(p);
    high = Load8(p + n - 8);
  } else if (n >= 4) {
    low = Load4(p);
    high = Load4(p + n - 4);
  } else {
    low = static_cast<unsigned char>(p[0]) | uint64_t{static_cast<unsigned char>(p[n / 2])} << 8 |
          uint64_t{static_cast<unsigned char>(p[n - 1])} << 16;
  }
  return Mix(Mix(low ^ kA ^ h, high ^ kB), kA ^ size);
}

struct Counted {
  const char* bytes;
  uint64_t hash;
  uint32_t length, count;
};

unsigned char At(const std::string& s, size_t i) { return static_cast<unsigned char>(s[i]); }
bool IsAsciiLetter(unsigned char c) { return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z'); }

// May the text be cut before position p (3 <= p, p + 3 <= its size) without changing any piece? After a line end: the
// arms that take one stop behind it, or go on with white space, of which the lead bytes 0xC2, 0xE1, 0xE2 and U+30xx may
// be the beginning. Between "a" and " b": a run of letters ends before the space. Between U+3002 and a CJK character:
// the second step cuts there.
bool SafeCut(const std::string& text, size_t p) {
  const unsigned char before = At(text, p - 1), next = At(text, p);
  if (before == '\n') {
    if (next < 0x80) return next > ' ' && next != 0x7F;
    return next >= 0xC3 && next != 0xE1 && next != 0xE2 && (next != 0xE3 || At(text, p + 1) > 0x80);
  }
  if (next == ' ') return IsAsciiLetter(before) && IsAsciiLetter(At(text, p + 1));
  return next >= 0xE5 && next <= 0xE8 && before == 0x82 && At(text, p - 2) == 0x80 && At(text, p - 3) == 0xE3 &&
         NextUtf8Part(std::string_view(text).substr(p)).valid;
}

}  // namespace

// The pieces of one task, distinct, by shard.
struct PieceCounter::Task {
  std::vector<Counted> pieces;
  std::array<uint32_t, kShards + 1> begin{};  // of each shard in `pieces`
  std::deque<std::string> repaired;           // text that pieces point into
};

// A table that counts the pieces of one task; small enough for a core's own cache.
class PieceCounter::Local {
 public:
  void Add(const char* p, size_t n) {
    const uint64_t hash = HashPiece(p, n);
    for (size_t i = hash & mask_;; i = (i + 1) & mask_) {
      const uint32_t at = slots_[i];
      if (at == 0) {
        counted_.push_back({p, hash, static_cast<uint32_t>(n), 1});
        slots_[i] = static_cast<uint32_t>(counted_.size());
        if (counted_.size() * 2 > mask_) Grow();
        return;
      }
      Counted& c = counted_[at - 1];
      if (c.hash == hash && c.length == n && std::memcmp(c.bytes, p, n) == 0) {
        ++c.count;
        return;
      }
    }
  }
  void MoveTo(Task& task) {
    for (const Counted& c : counted_) ++task.begin[(c.hash >> (64 - kShardBits)) + 1];
    for (size_t s = 0; s < kShards; ++s) task.begin[s + 1] += task.begin[s];
    std::array<uint32_t, kShards + 1> at = task.begin;
    task.pieces.resize(counted_.size());
    for (const Counted& c : counted_) task.pieces[at[c.hash >> (64 - kShardBits)]++] = c;
    counted_.clear();
    std::fill(slots_.begin(), slots_.end(), 0);
  }

 private:
  void Grow() {
    slots_.assign(slots_.size() * 2, 0);
    mask_ = slots_.size() - 1;
    for (size_t k = 0; k < counted_.size(); ++k) {
      size_t i = counted_[k].hash & mask_;
      while (slots_[i] != 0) i = (i + 1) & mask_;
      slots_[i] = static_cast<uint32_t>(k + 1);
    }
  }
  std::vector<uint32_t> slots_ = std::vector<uint32_t>(1 << 13);  // index + 1, 0: empty
  size_t mask_ = (1 << 13) - 1;
  std::vector<Counted> counted_;
};

// The corpus' counts of the pieces of one shard; owns their bytes.
class PieceCounter::Shard {
 public:
  void Add(const Counted& c) {
    const auto hash = static_cast<uint32_t>(c.hash);
    for (size_t i = hash & mask_;; i = (i + 1) & mask_) {
      Slot& slot = slots_[i];
      if (slot.length == 0) {
        slot = {Keep(c.bytes, c.length), c.count, c.length, hash};
        if (++used_ * 3 > slots_.size() * 2) Grow();
        return;
      }
      if (slot.hash == hash && slot.length == c.length && std::memcmp(slot.bytes, c.bytes, c.length) == 0) {
        slot.count += c.count;
        return;
      }
    }
  }
  void AppendTo(std::vector<PieceCount>& out) const {
    for (const Slot& s : slots_) {
      if (s.length > 0) out.push_back({{s.bytes, s.length}, s.count});
    }
  }
  size_t size() const { return used_; }

 private:
  static constexpr size_t kBlock = 1 << 16;
  struct Slot {
    const char* bytes = nullptr;
    int64_t count = 0;
    uint32_t length = 0;  // 0: empty
    uint32_t hash = 0;
  };

  const char* Keep(const char* bytes, size_t n) {
    if (n > left_) {
      left_ = std::max(n, kBlock);
      blocks_.push_back(std::make_unique<char[]>(left_));
      next_ = blocks_.back().get();
    }
    char* kept = next_;
    std::memcpy(kept, bytes, n);
    next_ += n;
    left_ -= n;
    return kept;
  }
  void Grow() {
    std::vector<Slot> old(slots_.size() * 2);
    old.swap(slots_);
    mask_ = slots_.size() - 1;
    for (const Slot& s : old) {
      if (s.length == 0) continue;
      size_t i = s.hash & mask_;
      while (slots_[i].length != 0) i = (i + 1) & mask_;
      slots_[i] = s;
    }
  }

  std::vector<Slot> slots_ = std::vector<Slot>(64);
  size_t mask_ = 63, used_ = 0;
  std::vector<std::unique_ptr<char[]>> blocks_;
  char* next_ = nullptr;
  size_t left_ = 0;
};

PieceCounter::PieceCounter(ThreadPool& pool)
    : pool_(pool),
      batch_bytes_(std::max<size_t>(16, 4 * pool.size()) * kLongestSegment),
      shards_(kShards),
      locals_(pool.size()) {}
PieceCounter::~PieceCounter() = default;

void PieceCounter::Append(std::string_view bytes) {
  bytes_ += static_cast<int64_t>(bytes.size());
  while (!bytes.empty()) {
    const size_t n = std::min(bytes.size(), batch_bytes_);
    buffer_.append(bytes.substr(0, n));
    bytes.remove_prefix(n);
    if (buffer_.size() >= batch_bytes_) CountBatch(false);
  }
}

void PieceCounter::EndDocument() {
  if (static_cast<size_t>(bytes_) == document_begin_) return;
  document_begin_ = static_cast<size_t>(bytes_);
  ends_.push_back(buffer_.size());
  ++documents_;
}

// Cuts buffer_[begin, end), which is the rest of a document or, if that has not `ended`, as much of it as is there.
// What must wait for more begins at *rest.
void PieceCounter::Cut(size_t begin, size_t end, bool ended, std::vector<std::string_view>& segments,
                       size_t* rest) const {
  constexpr size_t kAhead = 4;  // bytes that SafeCut may look at
  const std::string_view text = buffer_;
  while (begin < end) {
    const size_t left = end - begin;
    if (ended && left <= kSegment) {
      segments.push_back(text.substr(begin, left));
      begin = end;
      break;
    }
    if (!ended && left < kLongestSegment + kAhead) break;
    const size_t last = std::min(begin + kLongestSegment, end - kAhead);
    size_t cut = begin + kSegment;
    while (cut < last && !SafeCut(buffer_, cut)) ++cut;
    if (cut >= last && left <= kLongestSegment) {
      cut = end;
    } else if (cut >= last) {
      cut = begin + kLongestSegment;
      for (int i = 0; i < 3 && (At(buffer_, cut) & 0xC0) == 0x80; ++i) --cut;
    }
    segments.push_back(text.substr(begin, cut - begin));
    begin = cut;
  }
  *rest = begin;
}

void PieceCounter::CountBatch(bool all) {
  std::vector<std::string_view> segments;
  size_t begin = 0, rest = 0;
  for (const size_t end : ends_) {
    Cut(begin, end, true, segments, &rest);
    begin = end;
  }
  if (!all) Cut(begin, buffer_.size(), false, segments, &rest);
  if (rest < begin) rest = begin;
  CountSegments(segments);
  buffer_.erase(0, rest);
  ends_.clear();
}

void PieceCounter::CountSegments(std::span<const std::string_view> segments) {
  std::vector<size_t> begins = {0};  // of the tasks' segments
  for (size_t i = 0, bytes = 0; i < segments.size(); ++i) {
    bytes += segments[i].size();
    if (bytes < kSegment && i + 1 < segments.size()) continue;
    begins.push_back(i + 1);
    bytes = 0;
  }
  std::vector<Task> tasks(begins.size() - 1);
  std::atomic<int64_t> repaired{0};
  std::vector<std::exception_ptr> failed(pool_.size());
  auto guarded = [&](int thread, auto&& work) {
    try {
      work();
    } catch (...) {
      failed[thread] = std::current_exception();
    }
  };
  auto rethrow = [&] {
    for (const std::exception_ptr& e : failed) {
      if (e) std::rethrow_exception(e);
    }
  };
  pool_.ParallelFor(static_cast<int64_t>(tasks.size()), [&](int64_t t, int thread) {
    guarded(thread, [&] {
      for (size_t i = begins[t]; i < begins[t + 1]; ++i) {
        std::string_view text = segments[i];
        if (!IsUtf8(text)) {
          text = tasks[t].repaired.emplace_back(Utf8Lossy(text));
          repaired.fetch_add(1, std::memory_order_relaxed);
        }
        const PublishedScanner scanner(text);
        for (const char *p = text.data(), *end = p + text.size(); p != end;) {
          const char* next = scanner.Next(p);
          locals_[thread].Add(p, static_cast<size_t>(next - p));
          p = next;
        }
      }
      locals_[thread].MoveTo(tasks[t]);
    });
  });
  rethrow();
  pool_.ParallelFor(static_cast<int64_t>(kShards), [&](int64_t s, int thread) {
    guarded(thread, [&] {
      for (const Task& task : tasks) {
        for (uint32_t i = task.begin[s]; i < task.begin[s + 1]; ++i) shards_[s].Add(task.pieces[i]);
      }
    });
  });
  rethrow();
  repaired_ += repaired.load();
}

std::vector<PieceCount> PieceCounter::Pieces() {
  CountBatch(true);
  size_t count = 0;
  for (const Shard& s : shards_) count += s.size();
  std::vector<PieceCount> pieces;
  pieces.reserve(count);
  for (const Shard& s : shards_) s.AppendTo(pieces);
  return pieces;
}

}  // namespace fathom::tokenizer
