#include "grammar/token_mask.h"

#include <algorithm>
#include <array>
#include <limits>
#include <optional>

#include "core/error.h"

namespace fathom::grammar {
namespace {

constexpr int64_t kFewLoopBytes = 16;  // a walk through the base's exits pays from there on
constexpr float kForbidden = -std::numeric_limits<float>::infinity();

// Bytes whose characters of more than one byte all lead from `state` to `target`, and whatever else follows them leads
// nowhere.
class Utf8Loop {
 public:
  Utf8Loop(Machine& machine, Machine::State state, Machine::State target)
      : machine_(machine), state_(state), target_(target) {}

  bool Holds(int lead) {
    if (lead < 0xC2 || lead > 0xF4) return false;
    const Machine::State next = machine_.Next(state_, static_cast<uint8_t>(lead));
    const int rest = lead < 0xE0 ? 1 : lead < 0xF0 ? 2 : 3;
    const uint8_t low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
    const uint8_t high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
    return low != 0x80 || high != 0xBF ? Check(next, rest, low, high) : Returns(next, rest);
  }

 private:
  // So many bytes 80..BF, and nothing else, lead from `at` to the target.
  bool Returns(Machine::State at, int rest) {
    if (rest == 0) return at == target_;
    auto& known = known_[rest];
    if (std::find(known.begin(), known.end(), at) != known.end()) return true;
    if (known.size() > 16 || !Check(at, rest, 0x80, 0xBF)) return false;
    known.push_back(at);
    return true;
  }
  bool Check(Machine::State at, int rest, uint8_t low, uint8_t high) {
    if (at == Machine::kDead) return false;
    for (int byte = 0; byte < 256; ++byte) {
      const Machine::State next = machine_.Next(at, static_cast<uint8_t>(byte));
      if (byte < low || byte > high ? next != Machine::kDead : !Returns(next, rest - 1)) return false;
    }
    return true;
  }

  Machine& machine_;
  const Machine::State state_, target_;
  std::vector<Machine::State> known_[4];
};

Loop FindLoop(Machine& machine, Machine::State state) {
  std::array<Machine::State, 256> next;
  std::vector<std::pair<Machine::State, int>> counts;
  for (int byte = 0; byte < 256; ++byte) {
    const Machine::State to = next[static_cast<size_t>(byte)] = machine.Next(state, static_cast<uint8_t>(byte));
    if (to == Machine::kDead) continue;
    const auto at = std::find_if(counts.begin(), counts.end(), [&](const auto& c) { return c.first == to; });
    if (at == counts.end()) {
      counts.push_back({to, 1});
    } else {
      ++at->second;
    }
  }
  const auto most =
      std::max_element(counts.begin(), counts.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
  if (most == counts.end() || most->second < kFewLoopBytes) return {};
  Loop loop{.bytes = {}, .next = most->first};
  bool above = false;
  for (int byte = 0; byte < 256; ++byte) {
    if (next[static_cast<size_t>(byte)] != loop.next) continue;
    loop.bytes.Add(static_cast<uint8_t>(byte));
    above = above || byte > 127;
  }
  if (above) return loop;
  loop.bytes.utf8 = true;
  Utf8Loop characters(machine, state, loop.next);
  for (int lead = 0x80; lead < 256; ++lead) {
    if (characters.Holds(lead)) loop.bytes.Add(static_cast<uint8_t>(lead));
  }
  return loop;
}

const Loop& LoopOf(Machine& machine, Machine::State state, Loops& loops) {
  const auto at = loops.find(state);
  if (at != loops.end()) return at->second;
  return loops.emplace(state, FindLoop(machine, state)).first->second;
}

}  // namespace

// way[k]: the state behind k characters of the loop's bytes, as long as the next one leads on by the same bytes.
void TokenMask::AddChain(const TokenTrie& trie, Machine& machine, Machine::State state, Loops& loops) {
  using Base = TokenTrie::Base;
  const Loop first = LoopOf(machine, state, loops);
  std::vector<Machine::State> way{state, first.next};
  bool endless = first.next == state;
  while (!endless && std::ssize(way) <= Base::kMaxChars) {
    const Loop& loop = LoopOf(machine, way.back(), loops);
    if (!(loop.bytes == first.bytes)) break;
    endless = loop.next == way.back();
    if (!endless) way.push_back(loop.next);
  }
  const auto base = trie.BaseOf(first.bytes);
  const int32_t chars = endless ? -1 : static_cast<int32_t>(way.size()) - 1;
  bits_ = base->Bits(chars);
  count_ = base->Count(chars);
  const auto behind = [&](int32_t n) { return way[std::min(static_cast<size_t>(n), way.size() - 1)]; };
  for (const Base::Place& exit : base->exits) {
    if (!endless && exit.chars > chars) break;
    trie.WalkFrom(exit.node, machine, behind(exit.chars), more_);
  }
  if (endless) return;
  const auto at = std::lower_bound(base->begins.begin(), base->begins.end(), chars,
                                   [](const Base::Place& p, int32_t n) { return p.chars < n; });
  for (auto it = at; it != base->begins.end() && it->chars == chars; ++it) {
    trie.WalkFrom(it->node, machine, behind(chars), more_);
  }
}

TokenMask TokenMask::Make(const TokenTrie& trie, Machine& machine, Machine::State state, Loops& loops) {
  TokenMask mask;
  if (LoopOf(machine, state, loops).next != Machine::kDead) {
    mask.AddChain(trie, machine, state, loops);
  } else {
    trie.Walk(machine, state, mask.more_);
  }
  mask.count_ += std::ssize(mask.more_);
  const int64_t words = (trie.vocab_size() + 63) / 64;
  if (std::ssize(mask.more_) > 2 * words) {
    auto own = mask.bits_ ? *mask.bits_ : std::vector<uint64_t>(static_cast<size_t>(words));
    for (int32_t id : mask.more_) own[static_cast<size_t>(id) >> 6] |= uint64_t{1} << (id & 63);
    mask.bits_ = std::make_shared<const std::vector<uint64_t>>(std::move(own));
    mask.shared_ = false;
    mask.more_ = {};
  } else {
    std::sort(mask.more_.begin(), mask.more_.end());
    mask.more_.shrink_to_fit();
  }
  return mask;
}

bool TokenMask::Allows(int32_t id) const {
  const size_t word = static_cast<size_t>(id) >> 6;
  if (bits_ && word < bits_->size() && ((*bits_)[word] >> (id & 63) & 1)) return true;
  return std::binary_search(more_.begin(), more_.end(), id);
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
      continue;
    }
    uint64_t out = n == 64 ? ~words[w] : ~words[w] & ((uint64_t{1} << n) - 1);
    for (; out != 0; out &= out - 1) logits[begin + static_cast<size_t>(__builtin_ctzll(out))] = kForbidden;
  }
  if (begin < logits.size()) std::fill(logits.begin() + static_cast<std::ptrdiff_t>(begin), logits.end(), kForbidden);
  auto from = kept.begin();
  for (int32_t id : more_) logits[static_cast<size_t>(id)] = *from++;
  for (int32_t id : also) logits[static_cast<size_t>(id)] = *from++;
}

CompiledGrammar::CompiledGrammar(std::unique_ptr<Machine> machine, std::shared_ptr<const TokenTrie> trie)
    : machine_(std::move(machine)), trie_(std::move(trie)) {
  FATHOM_CHECK(machine_ && trie_);
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
