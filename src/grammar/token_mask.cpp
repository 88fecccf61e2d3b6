#include "grammar/token_mask.h"

#include <algorithm>
#include <limits>
#include <optional>

#include "core/error.h"

namespace fathom::grammar {
namespace {

constexpr int64_t kFewLoopBytes = 16;  // a walk through the base's exits pays from there on
constexpr float kForbidden = -std::numeric_limits<float>::infinity();

// Whether every character of more than one byte leads from `state` back to it, and nothing else of bytes above 127
// leads anywhere.
class Utf8Loop {
 public:
  Utf8Loop(Machine& machine, Machine::State state) : machine_(machine), state_(state) {}

  bool Holds() {
    for (int lead = 0x80; lead < 0x100; ++lead) {
      const auto byte = static_cast<uint8_t>(lead);
      const Machine::State next = machine_.Next(state_, byte);
      const int rest = lead < 0xC2 || lead > 0xF4 ? 0 : lead < 0xE0 ? 1 : lead < 0xF0 ? 2 : 3;
      if (rest == 0) {
        if (next != Machine::kDead) return false;
        continue;
      }
      const uint8_t low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
      const uint8_t high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
      if (low != 0x80 || high != 0xBF ? !Check(next, rest, low, high) : !Returns(next, rest)) return false;
    }
    return true;
  }

 private:
  // So many bytes 80..BF, and nothing else, lead from `at` to the state.
  bool Returns(Machine::State at, int rest) {
    if (rest == 0) return at == state_;
    auto& known = known_[rest];
    if (std::find(known.begin(), known.end(), at) != known.end()) return true;
    if (known.size() > 8 || !Check(at, rest, 0x80, 0xBF)) return false;
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
  const Machine::State state_;
  std::vector<Machine::State> known_[4];
};

LoopBytes LoopOf(Machine& machine, Machine::State state) {
  LoopBytes loop;
  bool above = false;
  for (int byte = 0; byte < 256; ++byte) {
    if (machine.Next(state, static_cast<uint8_t>(byte)) != state) continue;
    loop.Add(static_cast<uint8_t>(byte));
    above = above || byte > 127;
  }
  if (loop.count() >= kFewLoopBytes && !above) loop.utf8 = Utf8Loop(machine, state).Holds();
  return loop;
}

}  // namespace

TokenMask TokenMask::Make(const TokenTrie& trie, Machine& machine, Machine::State state) {
  TokenMask mask;
  const LoopBytes loop = LoopOf(machine, state);
  if (loop.count() >= kFewLoopBytes) {
    mask.base_ = trie.BaseOf(loop);
    mask.count_ = mask.base_->count;
    trie.WalkExits(*mask.base_, machine, state, mask.more_);
  } else {
    trie.Walk(machine, state, mask.more_);
  }
  mask.count_ += std::ssize(mask.more_);
  const int64_t words = (trie.vocab_size() + 63) / 64;
  if (std::ssize(mask.more_) > 2 * words) {
    mask.own_ = mask.base_ ? mask.base_->bits : std::vector<uint64_t>(static_cast<size_t>(words));
    for (int32_t id : mask.more_) mask.own_[static_cast<size_t>(id) >> 6] |= uint64_t{1} << (id & 63);
    mask.base_ = nullptr;
    mask.more_ = {};
  } else {
    std::sort(mask.more_.begin(), mask.more_.end());
    mask.more_.shrink_to_fit();
  }
  return mask;
}

bool TokenMask::Allows(int32_t id) const {
  const std::span<const uint64_t> words = bits();
  const size_t word = static_cast<size_t>(id) >> 6;
  if (word < words.size() && (words[word] >> (id & 63) & 1)) return true;
  return std::binary_search(more_.begin(), more_.end(), id);
}

int64_t TokenMask::bytes() const {
  return static_cast<int64_t>(sizeof(*this) + own_.size() * sizeof(own_[0]) + more_.size() * sizeof(more_[0]));
}

void TokenMask::Apply(std::span<float> logits, std::span<const int32_t> also) const {
  std::vector<float> kept;
  kept.reserve(more_.size() + also.size());
  for (int32_t id : more_) kept.push_back(logits[static_cast<size_t>(id)]);
  for (int32_t id : also) kept.push_back(logits[static_cast<size_t>(id)]);
  const std::span<const uint64_t> words = bits();
  size_t begin = 0;
  for (size_t w = 0; w < words.size() && begin < logits.size(); ++w, begin += 64) {
    if (words[w] == ~uint64_t{0}) continue;
    const size_t end = std::min(begin + 64, logits.size());
    for (size_t i = begin; i < end; ++i) {
      logits[i] = words[w] >> (i - begin) & 1 ? logits[i] : kForbidden;
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
    made = TokenMask::Make(*trie_, *machine_, state);
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
