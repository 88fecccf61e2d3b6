#include "grammar/token_trie.h"

#include <algorithm>
#include <array>
#include <string>

namespace fathom::grammar {
namespace {

constexpr size_t kLongestToken = 1024;  // longer ones are never allowed

// Of a character's first bytes, as far as they say what may follow (Unicode 16, table 3-7).
struct Utf8Progress {
  int rest = 0;
  uint8_t low = 0x80, high = 0xBF;

  // False: the byte cannot stand here.
  bool Take(uint8_t byte) {
    if (rest > 0) {
      if (byte < low || byte > high) return false;
      --rest;
      low = 0x80;
      high = 0xBF;
      return true;
    }
    if (byte < 0xC2 || byte > 0xF4) return false;
    rest = byte < 0xE0 ? 1 : byte < 0xF0 ? 2 : 3;
    if (byte == 0xE0) low = 0xA0;
    if (byte == 0xED) high = 0x9F;
    if (byte == 0xF0) low = 0x90;
    if (byte == 0xF4) high = 0x8F;
    return true;
  }
};

// What a JSON string holds but for escapes.
LoopBytes JsonStringBytes() {
  LoopBytes loop{.utf8 = true};
  for (int byte = 0x20; byte <= 0xF4; ++byte) {
    if (byte != '"' && byte != '\\' && (byte < 0x80 || byte >= 0xC2)) loop.Add(static_cast<uint8_t>(byte));
  }
  return loop;
}

}  // namespace

TokenTrie::TokenTrie(const tokenizer::Tokenizer& tokenizer, int64_t vocab_size) : vocab_size_(vocab_size) {
  std::vector<std::pair<std::string_view, int32_t>> tokens;
  for (int32_t id = 0; id < std::min(vocab_size, tokenizer.vocab_size()); ++id) {
    if (tokenizer.IsToken(id) && !tokenizer.IsSpecial(id)) tokens.push_back({tokenizer.TokenBytes(id), id});
  }
  Build(tokens);
  BaseOf(kRoot, JsonStringBytes());  // what most grammars will ask for
}

TokenTrie::TokenTrie(const std::vector<std::string>& tokens) : vocab_size_(std::ssize(tokens)) {
  std::vector<std::pair<std::string_view, int32_t>> all;
  for (const std::string& t : tokens) all.push_back({t, static_cast<int32_t>(all.size())});
  Build(all);
}

void TokenTrie::Build(const std::vector<std::pair<std::string_view, int32_t>>& tokens) {
  offsets_.assign(static_cast<size_t>(vocab_size_) + 1, 0);
  std::vector<std::pair<std::string_view, int32_t>> sorted;
  for (const auto& [bytes, id] : tokens) {
    if (bytes.empty() || bytes.size() > kLongestToken) continue;
    sorted.push_back({bytes, id});
    offsets_[static_cast<size_t>(id) + 1] = static_cast<uint32_t>(bytes.size());
    longest_ = std::max<int64_t>(longest_, std::ssize(bytes));
  }
  for (size_t i = 1; i < offsets_.size(); ++i) offsets_[i] += offsets_[i - 1];
  text_.resize(offsets_.back());
  for (const auto& [bytes, id] : sorted)
    std::copy(bytes.begin(), bytes.end(), text_.begin() + offsets_[static_cast<size_t>(id)]);

  // std::string_view compares as unsigned bytes.
  std::sort(sorted.begin(), sorted.end());
  std::vector<int32_t> open;  // the nodes on the way to the last one
  std::string_view last;
  const auto close = [&](size_t depth) {
    for (; open.size() > depth; open.pop_back())
      skips_[static_cast<size_t>(open.back())] = static_cast<int32_t>(bytes_.size());
  };
  for (const auto& [bytes, id] : sorted) {
    size_t common = 0;
    while (common < std::min(last.size(), bytes.size()) && last[common] == bytes[common]) ++common;
    close(common);
    for (size_t i = common; i < bytes.size(); ++i) {
      open.push_back(static_cast<int32_t>(bytes_.size()));
      bytes_.push_back(static_cast<uint8_t>(bytes[i]));
      depths_.push_back(static_cast<uint16_t>(i + 1));
      skips_.push_back(0);
      firsts_.push_back(static_cast<int32_t>(ids_.size()));
    }
    ids_.push_back(id);
    last = bytes;
  }
  close(0);
  firsts_.push_back(static_cast<int32_t>(ids_.size()));
  for (int32_t i = 0; i < End(kRoot); i = End(i)) {
    if (Byte(i) == ' ' && IsLarge(i)) blank_ = i;
  }
}

std::span<const uint8_t> TokenTrie::BytesOf(int32_t id) const {
  if (id < 0 || id >= vocab_size_) return {};
  const uint32_t begin = offsets_[static_cast<size_t>(id)], end = offsets_[static_cast<size_t>(id) + 1];
  return std::span(text_).subspan(begin, end - begin);
}

void TokenTrie::Base::Places::Finish() {
  constexpr size_t kKeys = (kAnyChars + 1) * 256;
  std::vector<int32_t> begins(kKeys + 1, 0);
  for (const auto& [key, node] : found_) ++begins[static_cast<size_t>(key) + 1];
  for (size_t key = 0; key < kKeys; ++key) {
    if (key % 256 == 0) firsts_[key / 256] = groups_.size();
    if (begins[key + 1] == 0) {
      begins[key + 1] = begins[key];
      continue;
    }
    begins[key + 1] += begins[key];
    groups_.push_back({static_cast<uint8_t>(key % 256), begins[key], begins[key + 1]});
  }
  firsts_.back() = groups_.size();
  nodes_.resize(found_.size());
  for (const auto& [key, node] : found_) nodes_[static_cast<size_t>(begins[static_cast<size_t>(key)]++)] = node;
  found_ = {};
}

std::shared_ptr<const TokenTrie::Base> TokenTrie::MakeBase(int32_t root, const LoopBytes& loop) const {
  auto base = std::make_shared<Base>();
  base->root = root;
  base->loop = loop;
  struct Way {
    Utf8Progress progress;
    int32_t chars = 0;  // begun
  };
  constexpr int32_t kAny = Base::kAnyChars;
  std::vector<Way> ways(static_cast<size_t>(longest_) + 1);
  std::array<std::vector<int32_t>, kAny + 1> by_chars;  // ids
  const int32_t top = Depth(root) + 1, end = End(root);
  for (int32_t i = root + 1; i < end;) {
    const auto n = static_cast<size_t>(i);
    Way way = ways[static_cast<size_t>(depths_[n] - top)];
    const bool within = way.progress.rest > 0;
    const uint8_t byte = bytes_[n];
    const bool first = !within && loop.Has(byte);
    const int32_t before = std::min(way.chars, kAny);
    if (within || (first && loop.utf8 && byte > 127) ? !way.progress.Take(byte) : !first) {
      if (!within) base->exits.Add(before, byte, i);  // within a character no other byte leads on
      i = skips_[n];
      continue;
    }
    if (!within) {
      if (before < kAny) base->begins.Add(before, byte, i);
      ++way.chars;
    }
    ways[static_cast<size_t>(depths_[n] - top) + 1] = way;
    std::vector<int32_t>& ids = by_chars[static_cast<size_t>(std::min(way.chars, kAny))];
    const std::span<const int32_t> own = TokensOf(i);
    ids.insert(ids.end(), own.begin(), own.end());
    ++i;
  }
  base->exits.Finish();
  base->begins.Finish();
  Bits bits(static_cast<size_t>(words()), 0);
  for (size_t c = 0; c < by_chars.size(); ++c) {
    for (int32_t id : by_chars[c]) bits[static_cast<size_t>(id) >> 6] |= uint64_t{1} << (id & 63);
    base->counts_[c] = (c > 0 ? base->counts_[c - 1] : 0) + std::ssize(by_chars[c]);
    base->bits_[c] = by_chars[c].empty() && c > 0 ? base->bits_[c - 1] : std::make_shared<const Bits>(bits);
  }
  return base;
}

std::shared_ptr<const TokenTrie::Base> TokenTrie::BaseOf(int32_t root, const LoopBytes& loop) const {
  const std::scoped_lock lock(mutex_);
  const auto at =
      std::find_if(bases_.begin(), bases_.end(), [&](const auto& b) { return b->root == root && b->loop == loop; });
  if (at != bases_.end()) {
    bases_.splice(bases_.begin(), bases_, at);
  } else {
    if (bases_.size() >= kMaxBases) bases_.pop_back();
    bases_.push_front(MakeBase(root, loop));
  }
  return bases_.front();
}

}  // namespace fathom::grammar
