#include "grammar/token_mask.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <limits>
#include <optional>

#include "core/error.h"

namespace fathom::grammar {
namespace {

using Bits = TokenTrie::Bits;
using Base = TokenTrie::Base;
using State = Machine::State;
constexpr float kForbidden = -std::numeric_limits<float>::infinity();

// Bits of four logits that are kept, by four bits of a set.
constexpr auto kKept = [] {
  std::array<std::array<uint32_t, 4>, 16> kept = {};
  for (uint32_t bits = 0; bits < 16; ++bits) {
    for (uint32_t i = 0; i < 4; ++i) kept[bits][i] = (bits >> i & 1) != 0 ? ~uint32_t{0} : 0;
  }
  return kept;
}();

// Those of 64 logits of which the bit is not set: one by one where they are few, else four at a time, which compilers
// make one instruction of.
void Forbid(uint64_t allowed, float* logits) {
  uint64_t out = ~allowed;
  for (int i = 0; i < 6; ++i) out &= out - 1;
  if (out == 0) {
    for (out = ~allowed; out != 0; out &= out - 1) logits[__builtin_ctzll(out)] = kForbidden;
    return;
  }
  constexpr auto kBits = std::bit_cast<uint32_t>(kForbidden);
  for (int i = 0; i < 64; i += 4) {
    const std::array<uint32_t, 4>& kept = kKept[allowed >> i & 15];
    std::array<uint32_t, 4> four;
    std::memcpy(four.data(), logits + i, sizeof(four));
    for (size_t j = 0; j < 4; ++j) four[j] = (four[j] & kept[j]) | (kBits & ~kept[j]);
    std::memcpy(logits + i, four.data(), sizeof(four));
  }
}

// A mask in the making: sets of bases, and single tokens.
class MaskMaker {
 public:
  MaskMaker(const TokenTrie& trie, Machine& machine, Loops& loops) : trie_(trie), machine_(machine), loops_(loops) {}

  // Adds the tokens below a node, `state` being that behind the node.
  void AddBelow(int32_t node, State state) {
    if (trie_.IsLarge(node) && LoopOf(state).next != Machine::kDead) {
      AddChain(node, state);
    } else {
      Walk(node + 1, trie_.End(node), state);
    }
  }

  struct Parts {
    std::shared_ptr<const Bits> bits;
    bool shared = true;  // with others
    std::vector<int32_t> more;
    int64_t count = 0;
  };
  Parts Finish() {
    Parts parts{.bits = shared_, .more = {}, .count = count_ + std::ssize(more_)};
    if (std::ssize(more_) > trie_.words() / 4) {
      Bits& bits = Own();
      for (const int32_t id : more_) bits[static_cast<size_t>(id) >> 6] |= uint64_t{1} << (id & 63);
      more_.clear();
    }
    parts.shared = !own_;
    if (own_) parts.bits = std::make_shared<const Bits>(std::move(*own_));
    parts.more = std::move(more_);
    parts.more.shrink_to_fit();
    return parts;
  }

 private:
  struct Range {
    int32_t begin, end;
  };

  const Machine::Loop& LoopOf(State state) {
    const auto at = loops_.find(state);
    if (at != loops_.end()) return at->second;
    return loops_.emplace(state, machine_.LoopOf(state)).first->second;
  }

  void AddAt(int32_t node, State state) {
    const std::span<const int32_t> ids = trie_.TokensOf(node);
    more_.insert(more_.end(), ids.begin(), ids.end());
    if (trie_.End(node) > node + 1) AddBelow(node, state);
  }

  // The tokens of sibling nodes and what is below them.
  void Walk(int32_t begin, int32_t end, State state) {
    if (begin == end) return;
    const int32_t above = trie_.Depth(begin) - 1;
    if (std::ssize(ways_) < trie_.longest() + 1) ways_.resize(static_cast<size_t>(trie_.longest()) + 1);
    std::vector<State> states = std::move(ways_);  // by depth; another walk may begin within this one
    states[static_cast<size_t>(above)] = state;
    for (int32_t i = begin; i < end;) {
      const auto depth = static_cast<size_t>(trie_.Depth(i));
      const State next = machine_.Next(states[depth - 1], trie_.Byte(i));
      if (next == Machine::kDead) {
        i = trie_.End(i);
        continue;
      }
      states[depth] = next;
      const std::span<const int32_t> ids = trie_.TokensOf(i);
      more_.insert(more_.end(), ids.begin(), ids.end());
      if (trie_.IsLarge(i)) {
        AddBelow(i, next);
        i = trie_.End(i);
      } else {
        ++i;
      }
    }
    ways_ = std::move(states);
  }

  // way[k]: the state behind k characters: the first one of the state's loop, the others of the next state's as long as
  // it leads on by the same bytes.
  void AddChain(int32_t root, State state) {
    const Machine::Loop first = LoopOf(state);
    std::vector<State> way{state, first.next};
    bool endless = first.next == state;
    LoopBytes rest = first.bytes;
    if (!endless) {
      const Machine::Loop& second = LoopOf(first.next);
      if (second.next != Machine::kDead && second.bytes.utf8 == rest.utf8) rest = second.bytes;
    }
    while (!endless && std::ssize(way) <= Base::kMaxChars) {
      const Machine::Loop& loop = LoopOf(way.back());
      if (loop.next == Machine::kDead || !(loop.bytes == rest)) break;
      endless = loop.next == way.back();
      if (!endless) way.push_back(loop.next);
    }
    const auto base = trie_.BaseOf(root, rest);
    const int32_t chars = endless ? Base::kAnyChars : static_cast<int32_t>(way.size()) - 1;
    AddBits(base->Tokens(chars), base->Count(chars));
    const std::vector<Range> others = TakeOut(root, state, first.bytes, rest);
    for (int32_t c = 0; c <= chars; ++c) {
      const State behind = way[std::min(static_cast<size_t>(c), way.size() - 1)];
      AddPlaces(base->exits, c, behind, others);
      if (c == chars && !endless) AddPlaces(base->begins, c, behind, others);
    }
  }

  // What begins with a byte of `rest` that is none of `first` goes its own way.
  std::vector<Range> TakeOut(int32_t root, State state, const LoopBytes& first, const LoopBytes& rest) {
    std::vector<Range> out;
    if (first == rest) return out;
    for (int32_t i = root + 1; i < trie_.End(root); i = trie_.End(i)) {
      const uint8_t byte = trie_.Byte(i);
      if (!rest.Has(byte) || first.Has(byte)) continue;
      out.push_back({i, trie_.End(i)});
      Bits& bits = Own();
      for (const int32_t id : trie_.TokensOf(i, trie_.End(i))) {
        uint64_t& word = bits[static_cast<size_t>(id) >> 6];
        count_ -= static_cast<int64_t>(word >> (id & 63) & 1);
        word &= ~(uint64_t{1} << (id & 63));
      }
      const State next = machine_.Next(state, byte);
      if (next != Machine::kDead) AddAt(i, next);
    }
    return out;
  }

  void AddPlaces(const Base::Places& places, int32_t chars, State state, const std::vector<Range>& others) {
    for (const Base::Places::Group& group : places.Groups(chars)) {
      const State next = machine_.Next(state, group.byte);
      if (next == Machine::kDead) continue;
      auto other = others.begin();  // nodes ascend as the ranges do
      for (int32_t place = group.begin; place < group.end; ++place) {
        const int32_t node = places.Node(place);
        while (other != others.end() && other->end <= node) ++other;
        if (other == others.end() || other->begin > node) AddAt(node, next);
      }
    }
  }

  void AddBits(const std::shared_ptr<const Bits>& bits, int64_t n) {
    count_ += n;
    if (!shared_ && !own_) {
      shared_ = bits;
      return;
    }
    Bits& all = Own();
    for (size_t w = 0; w < all.size(); ++w) all[w] |= (*bits)[w];
  }

  Bits& Own() {
    if (!own_) own_ = shared_ ? *shared_ : Bits(static_cast<size_t>(trie_.words()), 0);
    shared_ = nullptr;
    return *own_;
  }

  const TokenTrie& trie_;
  Machine& machine_;
  Loops& loops_;
  std::shared_ptr<const Bits> shared_;  // of a base, alone
  std::optional<Bits> own_;
  std::vector<int32_t> more_;
  int64_t count_ = 0;        // of those in the sets
  std::vector<State> ways_;  // of Walk
};

}  // namespace

TokenMask TokenMask::Make(const TokenTrie& trie, Machine& machine, Machine::State state, Loops& loops) {
  MaskMaker maker(trie, machine, loops);
  if (state != Machine::kDead) maker.AddBelow(TokenTrie::kRoot, state);
  MaskMaker::Parts parts = maker.Finish();
  TokenMask mask;
  mask.bits_ = std::move(parts.bits);
  mask.shared_ = parts.shared;
  mask.more_ = std::move(parts.more);
  mask.count_ = parts.count;
  return mask;
}

bool TokenMask::Allows(int32_t id) const {
  const size_t word = static_cast<size_t>(id) >> 6;
  if (bits_ && word < bits_->size() && ((*bits_)[word] >> (id & 63) & 1)) return true;
  return std::find(more_.begin(), more_.end(), id) != more_.end();
}

int64_t TokenMask::bytes() const {
  return static_cast<int64_t>(sizeof(*this) + (shared_ ? 0 : bits_->size() * sizeof((*bits_)[0])) +
                              more_.size() * sizeof(more_[0]));
}

void TokenMask::Apply(std::span<float> logits, std::span<const int32_t> also) const {
  std::vector<float> kept;
  kept.reserve(more_.size() + also.size());
  for (int32_t id : more_) kept.push_back(logits[static_cast<size_t>(id)]);
  for (int32_t id : also) kept.push_back(logits[static_cast<size_t>(id)]);
  const std::span<const uint64_t> words = bits_ ? std::span<const uint64_t>(*bits_) : std::span<const uint64_t>();
  size_t begin = 0;
  for (size_t w = 0; w < words.size() && begin < logits.size(); ++w, begin += 64) {
    if (words[w] == ~uint64_t{0}) continue;
    const size_t n = std::min<size_t>(64, logits.size() - begin);
    if (words[w] == 0) {
      std::fill_n(logits.begin() + static_cast<std::ptrdiff_t>(begin), n, kForbidden);
    } else if (n == 64) {
      Forbid(words[w], logits.data() + begin);
    } else {
      for (size_t i = 0; i < n; ++i) {
        if ((words[w] >> i & 1) == 0) logits[begin + i] = kForbidden;
      }
    }
  }
  if (begin < logits.size()) std::fill(logits.begin() + static_cast<std::ptrdiff_t>(begin), logits.end(), kForbidden);
  auto from = kept.begin();
  for (int32_t id : more_) logits[static_cast<size_t>(id)] = *from++;
  for (int32_t id : also) logits[static_cast<size_t>(id)] = *from++;
}

CompiledGrammar::CompiledGrammar(std::unique_ptr<Machine> machine, std::shared_ptr<const TokenTrie> trie)
    : machine_(std::move(machine)), trie_(std::move(trie)) {
  FATHOM_CHECK(machine_ && trie_);
  try {
    for (const LoopBytes& loop : machine_->LikelyLoops(kLikelyLoops)) {
      trie_->BaseOf(TokenTrie::kRoot, loop);
      if (trie_->blank() && !loop.Has(' ')) trie_->BaseOf(*trie_->blank(), loop);  // words, behind a space
    }
  } catch (const Error&) {  // of a state that is too large: the answer that reaches it says so, if one does
  }
}

Machine::State CompiledGrammar::Start() {
  const std::scoped_lock lock(mutex_);
  return machine_->Start();
}

Machine::State CompiledGrammar::After(Machine::State state, std::span<const uint8_t> bytes) {
  const std::scoped_lock lock(mutex_);
  for (uint8_t byte : bytes) {
    if (state == Machine::kDead) break;
    state = machine_->Next(state, byte);
  }
  return state;
}

Machine::State CompiledGrammar::After(Machine::State state, int32_t token) {
  const std::span<const uint8_t> bytes = trie_->BytesOf(token);
  return bytes.empty() ? Machine::kDead : After(state, bytes);
}

bool CompiledGrammar::Accepts(Machine::State state) {
  const std::scoped_lock lock(mutex_);
  return state != Machine::kDead && machine_->Accepts(state);
}

std::shared_ptr<const TokenMask> CompiledGrammar::MaskOf(Machine::State state) {
  const std::scoped_lock lock(mutex_);
  std::shared_ptr<const TokenMask>& mask = masks_[state];
  if (mask) return mask;
  std::optional<TokenMask> made;
  try {
    made = TokenMask::Make(*trie_, *machine_, state, loops_);
  } catch (...) {
    masks_.erase(state);
    throw;
  }
  mask = std::make_shared<const TokenMask>(std::move(*made));
  mask_bytes_ += mask->bytes();
  const std::shared_ptr<const TokenMask> result = mask;
  if (mask_bytes_ > kMaxBytes) {
    masks_.clear();
    mask_bytes_ = 0;
  }
  return result;
}

Matcher::Matcher(std::shared_ptr<CompiledGrammar> grammar, std::vector<int32_t> ends)
    : grammar_(std::move(grammar)), ends_(std::move(ends)) {
  std::sort(ends_.begin(), ends_.end());
  ends_.erase(std::unique(ends_.begin(), ends_.end()), ends_.end());
  states_.push_back(grammar_->Start());
}

bool Matcher::IsEnd(int32_t token) const { return std::binary_search(ends_.begin(), ends_.end(), token); }

bool Matcher::Complete() const { return ended() || grammar_->Accepts(state()); }

bool Matcher::Accept(int32_t token) {
  Machine::State next = Machine::kDead;
  if (IsEnd(token) && Complete()) {
    next = kEnded;
  } else if (!ended()) {
    next = grammar_->After(state(), token);
  }
  if (next == Machine::kDead) return false;
  states_.push_back(next);
  return true;
}

bool Matcher::Allows(int32_t token) {
  if (IsEnd(token) && Complete()) return true;
  return !ended() && grammar_->After(state(), token) != Machine::kDead;
}

void Matcher::Rollback(int64_t tokens) {
  FATHOM_CHECK(tokens >= 0 && tokens < std::ssize(states_));
  states_.resize(states_.size() - static_cast<size_t>(tokens));
}

bool Matcher::OnlyEnd() { return ended() || (grammar_->Accepts(state()) && grammar_->MaskOf(state())->none()); }

bool Matcher::Stuck() {
  if (ended()) return false;
  if (state() == Machine::kDead) return true;
  return (ends_.empty() || !grammar_->Accepts(state())) && grammar_->MaskOf(state())->none();
}

void Matcher::Apply(std::span<float> logits) {
  const std::span<const int32_t> none;
  if (ended() || state() == Machine::kDead) return TokenMask().Apply(logits, ends_);
  grammar_->MaskOf(state())->Apply(logits, grammar_->Accepts(state()) ? std::span<const int32_t>(ends_) : none);
}

}  // namespace fathom::grammar
