#include "tokenizer/bpe.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <functional>
#include <optional>

#include "tokenizer/unicode.h"

namespace fathom::tokenizer {
namespace {

uint64_t HashBytes(std::string_view s) {
  uint64_t h = 0x9E3779B97F4A7C15u ^ s.size();
  size_t i = 0;
  for (; i + 8 <= s.size(); i += 8) {
    uint64_t w;
    std::memcpy(&w, s.data() + i, 8);
    h = (h ^ w) * 0xD6E8FEB86659FD93u;
    h ^= h >> 32;
  }
  uint64_t tail = 0;
  if (i < s.size()) std::memcpy(&tail, s.data() + i, s.size() - i);
  h = (h ^ tail) * 0xD6E8FEB86659FD93u;
  return h ^ h >> 29;
}

bool IsPrintableByte(int b) { return (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b <= 0xAC) || (b >= 0xAE && b <= 0xFF); }

// The byte that a character of a token string stands for, or -1.
int ByteOfChar(uint32_t c) {
  static const std::array<int16_t, 512> table = [] {
    std::array<int16_t, 512> t{};
    t.fill(-1);
    int next = 256;
    for (int b = 0; b < 256; ++b) t[IsPrintableByte(b) ? b : next++] = static_cast<int16_t>(b);
    return t;
  }();
  return c < table.size() ? table[c] : -1;
}

// The bytes of a token string, or nothing if a character stands for no byte.
std::optional<std::string> ByteLevelBytes(std::string_view token) {
  std::string out;
  for (size_t i = 0; i < token.size();) {
    const CodePoint c = DecodeUtf8(token.data() + i);
    const int byte = ByteOfChar(c.value);
    if (byte < 0) return std::nullopt;
    out += static_cast<char>(byte);
    i += c.length;
  }
  return out;
}

}  // namespace

std::string BytesOfTokenString(std::string_view token) {
  std::optional<std::string> bytes = ByteLevelBytes(token);
  return bytes ? *std::move(bytes) : std::string(token);
}

VocabularyMap::VocabularyMap(const std::vector<std::pair<std::string, TokenId>>& entries) : entries_(entries.data()) {
  slots_.resize(std::bit_ceil(entries.size() * 2 + 2));
  for (size_t k = 0; k < entries.size(); ++k) {
    const uint64_t hash = HashBytes(entries[k].first);
    size_t i = hash & (slots_.size() - 1);
    while (slots_[i].index >= 0 && (slots_[i].hash != hash || entries[slots_[i].index].first != entries[k].first)) {
      i = (i + 1) & (slots_.size() - 1);
    }
    slots_[i] = {hash, static_cast<int32_t>(k)};  // the last of equal strings stays
  }
}

TokenId VocabularyMap::Find(std::string_view token) const {
  const uint64_t hash = HashBytes(token);
  for (size_t i = hash & (slots_.size() - 1); slots_[i].index >= 0; i = (i + 1) & (slots_.size() - 1)) {
    const auto& entry = entries_[slots_[i].index];
    if (slots_[i].hash == hash && entry.first == token) return entry.second;
  }
  return -1;
}

Result<Bpe> Bpe::Make(const BpeSource& source) {
  Bpe out;
  const VocabularyMap map(source.vocabulary);
  for (int b = 0, next = 256; b < 256; ++b) {
    std::string name;
    AppendUtf8(IsPrintableByte(b) ? b : next++, name);
    out.byte_ids_[b] = map.Find(name);
    if (out.byte_ids_[b] < 0) {
      return Error("tokenizer.json: model.vocab is not byte-level",
                   fmt::format("no token for the byte 0x{:02X} (\"{}\")", b, name),
                   "a token for each of the 256 bytes");
    }
  }
  const size_t slots = std::bit_ceil(source.merges.size() * 2 + 2);
  out.pairs_.assign(slots, {0, kNoMerge});
  out.mask_ = slots - 1;
  out.shift_ = 64 - std::countr_zero(slots);
  out.merged_.resize(source.merges.size());
  std::string joined;
  for (size_t rank = 0; rank < source.merges.size(); ++rank) {
    const auto& [left, right] = source.merges[rank];
    joined.assign(left).append(right);
    const TokenId l = map.Find(left), r = map.Find(right), m = map.Find(joined);
    if (l < 0 || r < 0 || m < 0) {
      return Error("tokenizer.json: a merge names a token that is not in model.vocab",
                   fmt::format("merge {}: \"{}\" and \"{}\", joined \"{}\"", rank, left, right, joined),
                   "all three in model.vocab");
    }
    out.merged_[rank] = m;
    const uint64_t key = PairKey(l, r);
    uint64_t i = (key * 0x9E3779B97F4A7C15u) >> out.shift_;
    while (out.pairs_[i].rank != kNoMerge && out.pairs_[i].pair != key) i = (i + 1) & out.mask_;
    out.pairs_[i] = {key, static_cast<uint32_t>(rank)};  // a pair named twice: the last, as in Hugging Face's map
  }
  out.byte_pair_rank_.resize(256 * 256);
  for (int a = 0; a < 256; ++a) {
    for (int b = 0; b < 256; ++b) out.byte_pair_rank_[a * 256 + b] = out.Rank(out.byte_ids_[a], out.byte_ids_[b]);
  }
  if (source.ignore_merges) {
    out.ignore_merges_ = true;
    for (const auto& [token, id] : source.vocabulary) {
      if (std::optional<std::string> bytes = ByteLevelBytes(token)) out.whole_.emplace_back(*std::move(bytes), id);
    }
    out.whole_map_ = std::make_unique<VocabularyMap>(out.whole_);
  }
  return out;
}

void Bpe::Encode(std::string_view piece, BpeScratch& scratch, std::vector<TokenId>& out) const {
  if (piece.size() == 1) {
    out.push_back(byte_ids_[static_cast<unsigned char>(piece[0])]);
    return;
  }
  if (ignore_merges_) {
    if (const TokenId id = whole_map_->Find(piece); id >= 0) {
      out.push_back(id);
      return;
    }
  }
  if (piece.size() <= kShort) {
    EncodeShort(piece, out);
  } else {
    FATHOM_CHECK(static_cast<int64_t>(piece.size()) <= kMaxPiece);
    EncodeLong(piece, scratch, out);
  }
}

void Bpe::EncodeShort(std::string_view piece, std::vector<TokenId>& out) const {
  const int n = static_cast<int>(piece.size());
  const auto* bytes = reinterpret_cast<const unsigned char*>(piece.data());
  TokenId ids[kShort];
  int32_t ranks[kShort];  // of the pair that begins here
  uint8_t next[kShort], previous[kShort];
  for (int i = 0; i < n; ++i) {
    ids[i] = byte_ids_[bytes[i]];
    ranks[i] = i + 1 < n ? static_cast<int32_t>(byte_pair_rank_[bytes[i] * 256 + bytes[i + 1]]) : INT32_MAX;
    next[i] = static_cast<uint8_t>(i + 1);
    previous[i] = static_cast<uint8_t>(i - 1);
  }
  for (;;) {
    int32_t least = INT32_MAX;
    for (int i = 0; i < n; ++i) least = std::min(least, ranks[i]);
    if (least == INT32_MAX) break;
    int at = 0;
    while (ranks[at] != least) ++at;
    const int gone = next[at];
    ids[at] = merged_[least];
    ranks[gone] = INT32_MAX;
    next[at] = next[gone];
    if (next[at] < n) {
      previous[next[at]] = static_cast<uint8_t>(at);
      ranks[at] = static_cast<int32_t>(Rank(ids[at], ids[next[at]]));
    } else {
      ranks[at] = INT32_MAX;
    }
    if (at > 0) ranks[previous[at]] = static_cast<int32_t>(Rank(ids[previous[at]], ids[at]));
  }
  for (int i = 0; i < n; i = next[i]) out.push_back(ids[i]);
}

void Bpe::EncodeLong(std::string_view piece, BpeScratch& scratch, std::vector<TokenId>& out) const {
  const auto n = static_cast<int32_t>(piece.size());
  const auto* bytes = reinterpret_cast<const unsigned char*>(piece.data());
  auto& symbols = scratch.symbols;
  auto& heap = scratch.heap;
  symbols.resize(n);
  heap.clear();
  auto entry = [](uint32_t rank, int32_t at) { return static_cast<uint64_t>(rank) << 32 | static_cast<uint32_t>(at); };
  for (int32_t i = 0; i < n; ++i) {
    symbols[i] = {byte_ids_[bytes[i]], i - 1, i + 1 < n ? i + 1 : -1};
    if (i + 1 == n) break;
    const uint32_t rank = byte_pair_rank_[bytes[i] * 256 + bytes[i + 1]];
    if (rank != kNoMerge) heap.push_back(entry(rank, i));
  }
  const std::greater<uint64_t> least_first;
  std::make_heap(heap.begin(), heap.end(), least_first);
  auto push = [&](TokenId left, TokenId right, int32_t at) {
    const uint32_t rank = Rank(left, right);
    if (rank == kNoMerge) return;
    heap.push_back(entry(rank, at));
    std::push_heap(heap.begin(), heap.end(), least_first);
  };
  while (!heap.empty()) {
    const auto rank = static_cast<uint32_t>(heap.front() >> 32);
    const auto at = static_cast<int32_t>(heap.front() & 0xFFFFFFFFu);
    std::pop_heap(heap.begin(), heap.end(), least_first);
    heap.pop_back();
    auto& s = symbols[at];
    // Entries are not withdrawn: this one counts only if its pair is still there.
    if (s.id < 0 || s.next < 0 || Rank(s.id, symbols[s.next].id) != rank) continue;
    auto& gone = symbols[s.next];
    s.id = merged_[rank];
    s.next = gone.next;
    gone.id = -1;
    if (s.next >= 0) {
      symbols[s.next].previous = at;
      push(s.id, symbols[s.next].id, at);
    }
    if (s.previous >= 0) push(symbols[s.previous].id, s.id, s.previous);
  }
  for (int32_t i = 0; i >= 0; i = symbols[i].next) out.push_back(symbols[i].id);
  constexpr size_t kKeep = 1 << 16;  // a scratch is kept for the next piece: not the memory of a huge one
  if (symbols.capacity() > kKeep) symbols = {};
  if (heap.capacity() > kKeep) heap = {};
}

}  // namespace fathom::tokenizer
