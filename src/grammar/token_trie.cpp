#include "grammar/token_trie.h"

#include <algorithm>
#include <array>
#include <string>

namespace fathom::grammar {
namespace {

constexpr size_t kMaxBases = 16;
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
  BaseOf(JsonStringBytes())->Bits(-1);  // what most grammars will ask for
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
}

std::span<const uint8_t> TokenTrie::BytesOf(int32_t id) const {
  if (id < 0 || id >= vocab_size_) return {};
  const uint32_t begin = offsets_[static_cast<size_t>(id)], end = offsets_[static_cast<size_t>(id) + 1];
  return std::span(text_).subspan(begin, end - begin);
}

void TokenTrie::WalkBelow(int32_t begin, int32_t end, Machine& machine, Machine::State state,
                          std::vector<int32_t>& ids) const {
  const auto at = [](int32_t i) { return static_cast<size_t>(i); };
  const int base = depths_[at(begin)] - 1;
  std::array<Machine::State, kLongestToken + 1> states;  // by depth below `begin`
  states[0] = state;
  for (int32_t i = begin; i < end;) {
    const auto depth = static_cast<size_t>(depths_[at(i)] - base);
    const Machine::State next = machine.Next(states[depth - 1], bytes_[at(i)]);
    if (next == Machine::kDead) {
      i = skips_[at(i)];
      continue;
    }
    states[depth] = next;
    for (int32_t t = firsts_[at(i)]; t < firsts_[at(i) + 1]; ++t) ids.push_back(ids_[at(t)]);
    ++i;
  }
}

void TokenTrie::Walk(Machine& machine, Machine::State state, std::vector<int32_t>& ids) const {
  if (!bytes_.empty()) WalkBelow(0, static_cast<int32_t>(bytes_.size()), machine, state, ids);
}

std::shared_ptr<const TokenTrie::Base> TokenTrie::MakeBase(const LoopBytes& loop) const {
  auto base = std::make_shared<Base>();
  base->loop = loop;
  base->words = (vocab_size_ + 63) / 64;
  struct Way {
    Utf8Progress progress;
    int32_t chars = 0;  // begun
  };
  constexpr int32_t kMost = Base::kMaxChars;
  std::vector<Way> ways(static_cast<size_t>(longest_) + 1);
  std::vector<std::vector<int32_t>> by_chars(kMost + 2);
  const auto nodes = static_cast<int32_t>(bytes_.size());
  for (int32_t i = 0; i < nodes;) {
    const auto n = static_cast<size_t>(i);
    Way way = ways[depths_[n] - 1u];
    const bool within = way.progress.rest > 0;
    const uint8_t byte = bytes_[n];
    const bool first = !within && loop.Has(byte);
    if (within || (first && loop.utf8 && byte > 127) ? !way.progress.Take(byte) : !first) {
      if (!within) base->exits.push_back({i, way.chars});  // within a character no other byte leads on
      i = skips_[n];
      continue;
    }
    if (!within) {
      if (way.chars <= kMost) base->begins.push_back({i, way.chars});
      ++way.chars;
    }
    ways[depths_[n]] = way;
    std::vector<int32_t>& ids = by_chars[static_cast<size_t>(std::min(way.chars, kMost + 1))];
    ids.insert(ids.end(), ids_.begin() + firsts_[n], ids_.begin() + firsts_[n + 1]);
    ++i;
  }
  const auto fewer = [](const Base::Place& a, const Base::Place& b) { return a.chars < b.chars; };
  std::stable_sort(base->exits.begin(), base->exits.end(), fewer);
  std::stable_sort(base->begins.begin(), base->begins.end(), fewer);
  for (const std::vector<int32_t>& ids : by_chars) {
    base->ids_.insert(base->ids_.end(), ids.begin(), ids.end());
    base->up_to_.push_back(std::ssize(base->ids_));
  }
  base->bits_.resize(by_chars.size());
  return base;
}

int64_t TokenTrie::Base::Count(int32_t chars) const {
  return chars < 0 ? up_to_.back() : up_to_[static_cast<size_t>(chars)];
}

std::shared_ptr<const std::vector<uint64_t>> TokenTrie::Base::Bits(int32_t chars) const {
  const std::scoped_lock lock(mutex_);
  auto& bits = bits_[chars < 0 ? bits_.size() - 1 : static_cast<size_t>(chars)];
  if (!bits) {
    auto made = std::make_shared<std::vector<uint64_t>>(static_cast<size_t>(words));
    for (int64_t i = 0; i < Count(chars); ++i) {
      const auto id = static_cast<size_t>(ids_[static_cast<size_t>(i)]);
      (*made)[id >> 6] |= uint64_t{1} << (id & 63);
    }
    bits = std::move(made);
  }
  return bits;
}

std::shared_ptr<const TokenTrie::Base> TokenTrie::BaseOf(const LoopBytes& loop) const {
  const std::scoped_lock lock(mutex_);
  const auto at = std::find_if(bases_.begin(), bases_.end(), [&](const auto& b) { return b->loop == loop; });
  if (at != bases_.end()) {
    std::rotate(bases_.begin(), at, at + 1);
    return bases_.front();
  }
  if (bases_.size() >= kMaxBases) bases_.pop_back();
  bases_.insert(bases_.begin(), MakeBase(loop));
  return bases_.front();
}

}  // namespace fathom::grammar
