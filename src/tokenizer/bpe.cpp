#include "tokenizer/bpe.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <functional>
#include <optional>

#include "core/utf8.h"

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

void Bpe::SetPair(uint32_t left, uint32_t right, uint32_t made) {
  const uint64_t key = uint64_t{left} << kPartBits | right;
  const uint64_t hash = key * kHash;
  pair_filter_[hash >> (pair_shift_ + 3)] |= uint64_t{1} << (hash >> (pair_shift_ - 3) & 63);
  uint64_t i = hash >> pair_shift_;
  while (pairs_[i] != kEmpty && pairs_[i] >> kPartBits != key) i = (i + 1) & pair_mask_;
  pairs_[i] = key << kPartBits | made;
}

Result<Bpe> Bpe::Make(const BpeSource& source) {
  Bpe out;
  if (source.merges.size() > kMaxMerges) {
    return Error("tokenizer.json: too many merges", fmt::format("{}", source.merges.size()),
                 fmt::format("at most {}", kMaxMerges));
  }
  const VocabularyMap map(source.vocabulary);
  TokenId most = 0;
  for (const auto& [name, id] : source.vocabulary) most = std::max(most, id);
  std::vector<uint32_t> part_of(most + 1, kNone);  // by token id: the part that the merges so far make of it
  const size_t parts = kBytes + source.merges.size();
  out.ids_.resize(parts);
  out.parts_.resize(parts);
  for (uint32_t b = 0, next = 256; b < kBytes; ++b) {
    std::string name;
    AppendUtf8(IsPrintableByte(static_cast<int>(b)) ? b : next++, name);
    out.ids_[b] = map.Find(name);
    if (out.ids_[b] < 0) {
      return Error("tokenizer.json: model.vocab is not byte-level",
                   fmt::format("no token for the byte 0x{:02X} (\"{}\")", b, name),
                   "a token for each of the 256 bytes");
    }
    out.parts_[b] = {b, b, kNone, 1};
    part_of[out.ids_[b]] = b;
  }

  const size_t slots = std::bit_ceil(source.merges.size() * 2 + 16);
  out.pair_filter_.assign(slots / 8, 0);
  out.pairs_.assign(slots, kEmpty);
  out.pair_mask_ = slots - 1;
  out.pair_shift_ = 64 - std::countr_zero(slots);
  out.one_pass_ = true;
  struct Ids {
    TokenId left, right;
  };
  std::vector<Ids> merges;
  merges.reserve(source.merges.size());
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
    merges.push_back({l, r});
    const auto part = static_cast<uint32_t>(kBytes + rank);
    out.ids_[part] = m;
    if (part_of[l] == kNone || part_of[r] == kNone || part_of[m] != kNone) {
      out.one_pass_ = false;  // not in order, or made twice
    } else {
      out.parts_[part] = {part_of[l], part_of[r], kNone, out.parts_[part_of[l]].length + out.parts_[part_of[r]].length};
    }
    if (part_of[m] == kNone) part_of[m] = part;
  }
  // Two merges that make the same token, or a merge of what only a later one makes: symbols are then named by the first
  // merge that makes the token. A pair named twice has the rank of the last, as in Hugging Face's map.
  for (size_t rank = 0; rank < merges.size(); ++rank) {
    const uint32_t l = part_of[merges[rank].left], r = part_of[merges[rank].right];
    if (l != kNone && r != kNone) out.SetPair(l, r, static_cast<uint32_t>(kBytes + rank));
  }
  if (out.one_pass_) out.one_pass_ = out.MakeTrie();
  if (!out.one_pass_) {
    out.canonical_.resize(parts);
    for (size_t part = 0; part < parts; ++part) out.canonical_[part] = part_of[out.ids_[part]];
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

// Do merges of rank below `limit` (as a part) cross the border between two neighbouring parts? Their histories are run
// backwards: always the younger of the two parts at the border is taken apart. What the pair at the border would make
// is made if it is of lower rank than the merges that took the two away; where it is the same merge, the leftmost
// happens first.
bool Bpe::Crossed(uint32_t left, uint32_t right, uint32_t limit) const {
  for (;;) {
    if (Pair(left, right) < limit) return true;  // kNone is never below
    if (left > right) {
      if (left < kBytes) return false;
      limit = left;
      left = parts_[left].right;
    } else {
      if (right < kBytes) return false;
      limit = right + 1;
      right = parts_[right].left;
    }
  }
}

uint32_t Bpe::Child(uint32_t node, unsigned char byte) const {
  const uint64_t key = uint64_t{node} << 8 | byte;
  for (uint64_t i = (key * kHash) >> child_shift_;; i = (i + 1) & child_mask_) {
    const uint64_t slot = children_[i];
    if (slot >> 32 == key) return static_cast<uint32_t>(slot);
    if (slot == kEmpty) return kNone;
  }
}

void Bpe::SetChild(uint32_t node, unsigned char byte, uint32_t child) {
  if ((child_count_ + 1) * 2 > children_.size()) {
    std::vector<uint64_t> old(std::max<size_t>(children_.size() * 2, 1024), kEmpty);
    std::swap(old, children_);
    child_mask_ = children_.size() - 1;
    child_shift_ = 64 - std::countr_zero(children_.size());
    child_count_ = 0;
    for (const uint64_t slot : old) {
      if (slot != kEmpty)
        SetChild(static_cast<uint32_t>(slot >> 40), static_cast<unsigned char>(slot >> 32),
                 static_cast<uint32_t>(slot));
    }
  }
  const uint64_t key = uint64_t{node} << 8 | byte;
  uint64_t i = (key * kHash) >> child_shift_;
  while (children_[i] != kEmpty) i = (i + 1) & child_mask_;
  children_[i] = key << 32 | child;
  ++child_count_;
}

// False if the trie would have more nodes than a slot can name.
bool Bpe::MakeTrie() {
  const auto parts = static_cast<uint32_t>(parts_.size());
  std::vector<uint8_t> stable(parts, 1);  // encodes to itself; only such parts are ever in an encoding
  std::vector<uint32_t> by_length;
  for (uint32_t t = kBytes; t < parts; ++t) {
    const Part& p = parts_[t];
    stable[t] = stable[p.left] && stable[p.right] && !Crossed(p.left, p.right, t);
    if (stable[t]) by_length.push_back(t);
  }
  // Shorter ones first: a part's own node is then always a new one, and may have the part's number.
  std::stable_sort(by_length.begin(), by_length.end(),
                   [&](uint32_t a, uint32_t b) { return parts_[a].length < parts_[b].length; });
  SetChild(0, 0, kNone);  // makes the table; the root's children are the bytes themselves, node 0 is the byte 0
  children_.assign(children_.size(), kEmpty);
  child_count_ = 0;
  uint32_t next_node = parts;
  std::string bytes;
  std::vector<uint32_t> todo;
  for (const uint32_t t : by_length) {
    bytes.clear();
    todo.assign(1, t);
    while (!todo.empty()) {  // the leaves of the part's tree, left to right
      const uint32_t x = todo.back();
      todo.pop_back();
      if (x < kBytes) {
        bytes += static_cast<char>(x);
      } else {
        todo.push_back(parts_[x].right);
        todo.push_back(parts_[x].left);
      }
    }
    auto node = static_cast<uint32_t>(static_cast<unsigned char>(bytes[0]));
    uint32_t prefix = node;
    for (size_t i = 1; i < bytes.size(); ++i) {
      const auto byte = static_cast<unsigned char>(bytes[i]);
      uint32_t child = Child(node, byte);
      if (child == kNone) {
        child = i + 1 == bytes.size() ? t : next_node++;
        if (child >= kMaxNodes) return false;
        SetChild(node, byte, child);
      }
      node = child;
      if (node < parts && node != t) prefix = node;
    }
    parts_[t].prefix = prefix;
  }
  two_bytes_.resize(kBytes * kBytes);
  for (uint32_t a = 0; a < kBytes; ++a) {
    for (uint32_t b = 0; b < kBytes; ++b) two_bytes_[a * kBytes + b] = Child(a, static_cast<unsigned char>(b));
  }
  three_bytes_.assign(1 << 16, kNone);
  for (uint32_t c = 0x800; c < 1 << 16; ++c) {
    const uint32_t node = two_bytes_[(0xE0 | c >> 12) * kBytes + (0x80 | (c >> 6 & 0x3F))];
    const uint32_t child = node == kNone ? kNone : Child(node, static_cast<unsigned char>(0x80 | (c & 0x3F)));
    if (child < parts) three_bytes_[c] = child;
  }
  return true;
}

// The longest part that the text from p on begins with.
uint32_t Bpe::Longest(const char* p, const char* end) const {
  const auto* s = reinterpret_cast<const unsigned char*>(p);
  const auto* e = reinterpret_cast<const unsigned char*>(end);
  uint32_t best = s[0];
  if (s + 1 == e) return best;
  const auto parts = static_cast<uint32_t>(parts_.size());
  uint32_t node = kNone;
  if (e - s >= 3 && s[0] >> 4 == 0xE && s[1] >> 6 == 2 && s[2] >> 6 == 2) {
    node = three_bytes_[(s[0] & 0xFu) << 12 | (s[1] & 0x3Fu) << 6 | (s[2] & 0x3Fu)];
  }
  if (node != kNone) {
    s += 3;
  } else {
    node = two_bytes_[s[0] * kBytes + s[1]];
    s += 2;
  }
  while (node != kNone) {
    if (node < parts) best = node;
    if (s == e) break;
    node = Child(node, *s++);
  }
  return best;
}

void Bpe::Encode(std::string_view piece, BpeScratch& scratch, std::vector<TokenId>& out) const {
  if (piece.empty()) return;
  FATHOM_CHECK(static_cast<int64_t>(piece.size()) <= kMaxPiece);
  if (ignore_merges_) {
    if (const TokenId id = whole_map_->Find(piece); id >= 0) {
      out.push_back(id);
      return;
    }
  }
  if (one_pass_) {
    EncodeInOnePass(piece, scratch, out);
  } else {
    EncodeByMerging(piece, scratch, out);
  }
}

void Bpe::EncodeInOnePass(std::string_view piece, BpeScratch& scratch, std::vector<TokenId>& out) const {
  auto& taken = scratch.parts;
  auto& dead = scratch.dead;  // positions that no encoding of the rest begins at
  taken.clear();
  dead.assign(piece.size() / 64 + 1, 0);
  const char* const end = piece.data() + piece.size();
  size_t at = 0;
  uint32_t part = Longest(piece.data(), end);
  for (;;) {
    const size_t after = at + parts_[part].length;
    const bool fits =
        (dead[after >> 6] >> (after & 63) & 1) == 0 && (taken.empty() || !Crossed(taken.back(), part, kNone));
    if (fits) {
      taken.push_back(part);
      at = after;
      if (at == piece.size()) break;
      part = Longest(piece.data() + at, end);
      continue;
    }
    part = parts_[part].prefix;
    while (part == kNone) {  // nothing may follow: take the last part back and shorten that
      FATHOM_CHECK(!taken.empty(), "every text has an encoding");
      dead[at >> 6] |= uint64_t{1} << (at & 63);
      at -= parts_[taken.back()].length;
      part = parts_[taken.back()].prefix;
      taken.pop_back();
    }
  }
  const size_t before = out.size();
  out.resize(before + taken.size());
  for (size_t i = 0; i < taken.size(); ++i) out[before + i] = ids_[taken[i]];
}

void Bpe::EncodeByMerging(std::string_view piece, BpeScratch& scratch, std::vector<TokenId>& out) const {
  if (piece.empty()) return;
  const auto n = static_cast<int32_t>(piece.size());
  auto& symbols = scratch.symbols;
  auto& heap = scratch.heap;
  symbols.resize(n);
  heap.clear();
  const std::greater<uint64_t> least_first;
  auto entry = [](uint32_t made, int32_t at) { return static_cast<uint64_t>(made) << 32 | static_cast<uint32_t>(at); };
  auto push = [&](int32_t at) {
    const uint32_t made = Pair(symbols[at].part, symbols[symbols[at].next].part);
    if (made != kNone) heap.push_back(entry(made, at));
    return made != kNone;
  };
  for (int32_t i = 0; i < n; ++i) symbols[i] = {static_cast<unsigned char>(piece[i]), i - 1, i + 1 < n ? i + 1 : -1};
  for (int32_t i = 0; i + 1 < n; ++i) push(i);
  std::make_heap(heap.begin(), heap.end(), least_first);
  while (!heap.empty()) {
    const auto made = static_cast<uint32_t>(heap.front() >> 32);
    const auto at = static_cast<int32_t>(heap.front() & 0xFFFFFFFFu);
    std::pop_heap(heap.begin(), heap.end(), least_first);
    heap.pop_back();
    BpeScratch::Symbol& s = symbols[at];
    // Entries are not withdrawn: this one counts only if its pair is still there.
    if (s.part == kNone || s.next < 0 || Pair(s.part, symbols[s.next].part) != made) continue;
    BpeScratch::Symbol& gone = symbols[s.next];
    s.part = canonical_.empty() ? made : canonical_[made];
    s.next = gone.next;
    gone.part = kNone;
    if (s.next >= 0) {
      symbols[s.next].previous = at;
      if (push(at)) std::push_heap(heap.begin(), heap.end(), least_first);
    }
    if (s.previous >= 0 && push(s.previous)) std::push_heap(heap.begin(), heap.end(), least_first);
  }
  for (int32_t i = 0; i >= 0; i = symbols[i].next) out.push_back(ids_[symbols[i].part]);
}

}  // namespace fathom::tokenizer
