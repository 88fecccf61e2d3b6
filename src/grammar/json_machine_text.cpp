// The machine within strings and keys: bytes and escapes to characters. A character of which some bytes are read is
// kept as what has been read (Frame::character: a Begun in the low bits, then a count, then a value), but where all
// that it may become leads to the same: then only the form of the rest is kept, so that plain strings take few states.
#include <algorithm>

#include "core/hex.h"
#include "grammar/char_set.h"
#include "grammar/json_machine.h"

namespace fathom::grammar {
namespace {

enum class Begun : uint8_t {
  kNothing,
  kBytes,     // count: bytes to come; value: what has come
  kAnyBytes,  // count: continuation bytes to come, whichever
  kEscape,    // behind a backslash
  kHex,       // count: digits read; value
  kAnyHex,    // count: digits to come, whichever
  kLow,       // behind \uD8xx: count: 0 a backslash comes, 1 a u, 2.. digits; value: high surrogate << 16 | digits
  kAnyLow,    // count: 0..1 the high surrogate's last digits come, 2 backslash, 3 u, 4.. digits; whichever
};

uint64_t Packed(Begun begun, int count, uint32_t value = 0) {
  return static_cast<uint64_t>(begun) | static_cast<uint64_t>(count) << 4 | static_cast<uint64_t>(value) << 8;
}
Begun BegunOf(uint64_t character) { return static_cast<Begun>(character & 15); }
int CountIn(uint64_t character) { return static_cast<int>(character >> 4 & 15); }
uint32_t ValueIn(uint64_t character) { return static_cast<uint32_t>(character >> 8); }

constexpr uint32_t kHighSurrogates = 0xD800, kLowSurrogates = 0xDC00, kBehindSurrogates = 0xE000;

uint32_t CharacterOf(uint32_t high, uint32_t low) {
  return 0x10000 + ((high - kHighSurrogates) << 10) + (low - kLowSurrogates);
}

// What each byte of a text and the rest of a character lead to, or:
constexpr int32_t kNowhere = -1, kApart = -2;
using Behind = std::array<int32_t, 256>;

template <class Over>
Behind BehindEach(const Over& over) {
  Behind behind;
  behind.fill(kNowhere);
  for (int byte = 0x20; byte <= 0xF4; ++byte) {
    const std::optional<CharRange> range = CharactersFrom(static_cast<uint8_t>(byte));
    if (!range || byte == '"' || byte == '\\') continue;
    const TextDfa::Onward onward = over(range->first, range->last);
    if (onward.live) behind[static_cast<size_t>(byte)] = onward.uniform ? onward.to : kApart;
  }
  return behind;
}

Machine::Loop LoopOfDfa(const TextDfa& dfa, int32_t state) {
  Behind behind = BehindEach([&](uint32_t first, uint32_t last) { return dfa.Over(state, first, last); });
  std::replace(behind.begin(), behind.end(), kApart, Machine::kDead);
  Machine::Loop loop = MostCommonLoop(behind);
  loop.bytes.utf8 = true;
  return loop;
}

}  // namespace

void JsonMachine::AddReadableInText(const Frame& frame, ByteSet& bytes) {
  constexpr uint64_t kHexLow = 0x03FF000000000000, kHexHigh = 0x0000007E0000007E;  // 0-9, A-F and a-f
  switch (BegunOf(frame.character)) {
    case Begun::kNothing:
      bytes[0] |= ~uint64_t{0} << 0x20;
      bytes[1] = ~uint64_t{0};
      bytes[3] = ~uint64_t{0};
      return;
    case Begun::kBytes:
    case Begun::kAnyBytes:
      bytes[2] = ~uint64_t{0};
      return;
    case Begun::kEscape:
      bytes[0] |= uint64_t{1} << '"' | uint64_t{1} << '/';
      for (const char c : {'\\', 'b', 'f', 'n', 'r', 't', 'u'}) bytes[1] |= uint64_t{1} << (c - 64);
      return;
    default:
      bytes[0] |= kHexLow;
      bytes[1] |= kHexHigh | uint64_t{1} << ('\\' - 64) | uint64_t{1} << ('u' - 64);
  }
}

// A state reads text where its first thread does: all of them have read the same.
Machine::Loop JsonMachine::LoopOf(State state) {
  const std::vector<FrameId>& threads = states_[static_cast<size_t>(state)].threads;
  std::vector<Behind> behind;
  for (const FrameId id : threads) {
    const Frame& frame = frames_[static_cast<size_t>(id)];
    if ((frame.reads != Reads::kString && frame.reads != Reads::kKey) || frame.character != 0) return {};
    behind.push_back(BehindEach([&](uint32_t first, uint32_t last) { return Over(frame, first, last); }));
  }
  std::array<State, 256> next;
  next.fill(kDead);
  for (size_t byte = 0; byte < next.size(); ++byte) {
    bool apart = false;
    const bool as_before =
        byte > 0 && std::all_of(behind.begin(), behind.end(), [&](const Behind& b) { return b[byte] == b[byte - 1]; });
    if (as_before) {
      next[byte] = next[byte - 1];
      continue;
    }
    out_.clear();
    for (size_t i = 0; i < threads.size(); ++i) {
      const int32_t to = behind[i][byte];
      apart = apart || to == kApart;
      if (to < 0) continue;
      Frame after = frames_[static_cast<size_t>(threads[i])];
      after.at = to;
      after.more = 0;  // of a key: no name begins like it
      out_.push_back(Intern(after));
    }
    if (!apart) next[byte] = InternState(out_);
  }
  Loop loop = MostCommonLoop(next);
  loop.bytes.utf8 = true;
  return loop;
}

std::vector<LoopBytes> JsonMachine::LikelyLoops(size_t most) {
  constexpr int32_t kMostStates = 512;  // of one automaton
  int32_t left = 4096;                  // of all of them
  std::vector<LoopBytes> loops;
  const auto add = [&](const TextDfa& dfa) {
    const int32_t states = std::min({dfa.states(), kMostStates, left});
    left -= states;
    for (int32_t state = 0; state < states && loops.size() < most; ++state) {
      const Loop loop = LoopOfDfa(dfa, state);
      if (loop.next == kDead || !(LoopOfDfa(dfa, loop.next).bytes == loop.bytes)) continue;
      if (std::find(loops.begin(), loops.end(), loop.bytes) == loops.end()) loops.push_back(loop.bytes);
    }
  };
  for (const TextRule& rule : forms_->texts) add(rule.dfa);
  for (const ObjectRule& rule : forms_->objects) add(rule.free);
  return loops;
}

std::optional<JsonMachine::Frame> JsonMachine::InText(const Frame& frame, uint8_t byte) {
  switch (BegunOf(frame.character)) {
    case Begun::kNothing:
      if (byte < 0x20 || byte == '"') return std::nullopt;
      if (byte == '\\') {
        if (!Over(frame, 0, kMaxChar).live) return std::nullopt;
        Frame after = frame;
        after.character = Packed(Begun::kEscape, 0);
        return after;
      }
      if (byte < 0x80) return Read(frame, byte);
      if (byte >= 0xC2 && byte <= 0xDF) return BeginUtf8(frame, 1, byte & 0x1F);
      if (byte >= 0xE0 && byte <= 0xEF) return BeginUtf8(frame, 2, byte & 0x0F);
      if (byte >= 0xF0 && byte <= 0xF4) return BeginUtf8(frame, 3, byte & 0x07);
      return std::nullopt;
    case Begun::kBytes:
    case Begun::kAnyBytes:
      return InUtf8(frame, byte);
    case Begun::kLow:
    case Begun::kAnyLow:
      return InLowSurrogate(frame, byte);
    default:
      return InEscape(frame, byte);
  }
}

std::optional<JsonMachine::Frame> JsonMachine::InUtf8(const Frame& frame, uint8_t byte) {
  if (byte < 0x80 || byte > 0xBF) return std::nullopt;
  const int rest = CountIn(frame.character) - 1;
  if (BegunOf(frame.character) == Begun::kAnyBytes) {
    Frame after = frame;
    after.character = rest > 0 ? Packed(Begun::kAnyBytes, rest) : 0;
    return after;
  }
  // Overlong forms: behind F0 and E0.
  if (ValueIn(frame.character) == 0 && byte < (rest == 2 ? 0x90 : 0xA0)) return std::nullopt;
  const uint32_t value = ValueIn(frame.character) << 6 | (byte & 0x3Fu);
  if (rest > 0) return BeginUtf8(frame, rest, value);
  return Read(frame, value);
}

// `value`: of the bytes read; `rest` bytes come.
std::optional<JsonMachine::Frame> JsonMachine::BeginUtf8(const Frame& frame, int rest, uint32_t value) {
  const uint32_t least = value << 6 * rest, most = least | ((1u << 6 * rest) - 1);
  uint32_t first = least, last = std::min(most, kMaxChar);
  // The value is 0 behind E0 and F0 only.
  if (value == 0) first = rest == 2 ? 0x800 : 0x10000;
  if (first >= kHighSurrogates && first < kBehindSurrogates) {
    last = std::min(last, kHighSurrogates - 1);
  }
  if (first < kHighSurrogates && last >= kHighSurrogates && last < kBehindSurrogates) last = kHighSurrogates - 1;
  if (first > last) return std::nullopt;
  const TextDfa::Onward onward = Over(frame, first, last);
  if (!onward.live) return std::nullopt;
  Frame after = frame;
  if (onward.uniform && first == least && last == most) {
    after.at = onward.to;
    after.more = 0;
    after.character = Packed(Begun::kAnyBytes, rest);
  } else {
    after.character = Packed(Begun::kBytes, rest, value);
  }
  return after;
}

std::optional<JsonMachine::Frame> JsonMachine::InEscape(const Frame& frame, uint8_t byte) {
  Frame after = frame;
  const int count = CountIn(frame.character);
  if (BegunOf(frame.character) == Begun::kEscape) {
    after.character = 0;
    switch (byte) {
      case '"':
      case '\\':
      case '/':
        return Read(after, byte);
      case 'b':
        return Read(after, '\b');
      case 'f':
        return Read(after, '\f');
      case 'n':
        return Read(after, '\n');
      case 'r':
        return Read(after, '\r');
      case 't':
        return Read(after, '\t');
      case 'u':
        return BeginHex(after, 0, 0);
      default:
        return std::nullopt;
    }
  }
  const int digit = HexDigit(static_cast<char>(byte));
  if (digit < 0) return std::nullopt;
  if (BegunOf(frame.character) == Begun::kAnyHex) {
    after.character = count > 1 ? Packed(Begun::kAnyHex, count - 1) : 0;
    return after;
  }
  after.character = 0;
  return BeginHex(after, count + 1, ValueIn(frame.character) << 4 | static_cast<uint32_t>(digit));
}

// `digits` of \uXXXX are read, their value is `value`.
std::optional<JsonMachine::Frame> JsonMachine::BeginHex(const Frame& frame, int digits, uint32_t value) {
  const int rest = 4 - digits;
  const uint32_t first = value << 4 * rest, last = first | ((1u << 4 * rest) - 1);
  const uint32_t high_first = std::max(first, kHighSurrogates), high_last = std::min(last, kLowSurrogates - 1);
  const bool surrogates = first < kBehindSurrogates && last >= kHighSurrogates;
  Frame after = frame;
  if (!surrogates) {
    if (rest == 0) return Read(frame, value);
    const TextDfa::Onward onward = Over(frame, first, last);
    if (!onward.live) return std::nullopt;
    after.character = Packed(Begun::kHex, digits, value);
    if (onward.uniform) {
      after.at = onward.to;
      after.more = 0;
      after.character = Packed(Begun::kAnyHex, rest);
    }
    return after;
  }
  bool live = false;
  if (first < kHighSurrogates) live |= Over(frame, first, kHighSurrogates - 1).live;
  if (last >= kBehindSurrogates) live |= Over(frame, kBehindSurrogates, last).live;
  if (high_first <= high_last) {
    const TextDfa::Onward onward =
        Over(frame, CharacterOf(high_first, kLowSurrogates), CharacterOf(high_last, kBehindSurrogates - 1));
    live |= onward.live;
    if (onward.live && onward.uniform && high_first == first && high_last == last) {
      after.at = onward.to;
      after.more = 0;
      after.character = Packed(Begun::kAnyLow, digits - 2);
      return after;
    }
  }
  if (!live) return std::nullopt;
  after.character = rest > 0 ? Packed(Begun::kHex, digits, value) : Packed(Begun::kLow, 0, value << 16);
  return after;
}

std::optional<JsonMachine::Frame> JsonMachine::InLowSurrogate(const Frame& frame, uint8_t byte) {
  const bool any = BegunOf(frame.character) == Begun::kAnyLow;
  const int count = CountIn(frame.character), stage = any ? count : count + 2;
  const int digit = HexDigit(static_cast<char>(byte));
  if (stage == 2 ? byte != '\\' : stage == 3 ? byte != 'u' : digit < 0) return std::nullopt;
  if (stage == 4 && digit != 0xD) return std::nullopt;
  if (stage == 5 && digit < 0xC) return std::nullopt;
  Frame after = frame;
  if (any) {
    after.character = count < 7 ? Packed(Begun::kAnyLow, count + 1) : 0;
    return after;
  }
  const uint32_t value = ValueIn(frame.character);
  const uint32_t high = value >> 16;
  uint32_t low = value & 0xFFFF;
  if (stage >= 4) low = low << 4 | static_cast<uint32_t>(digit);
  if (stage == 7) {
    after.character = 0;
    return Read(after, CharacterOf(high, low));
  }
  if (stage >= 5) {
    const int rest = 4 * (7 - stage);
    const uint32_t first = low << rest, last = first | ((1u << rest) - 1);
    if (!Over(frame, CharacterOf(high, first), CharacterOf(high, last)).live) return std::nullopt;
  }
  after.character = Packed(Begun::kLow, count + 1, high << 16 | low);
  return after;
}

std::optional<JsonMachine::Frame> JsonMachine::Read(const Frame& frame, uint32_t character) {
  Frame after = frame;
  after.character = 0;
  if (frame.reads == Reads::kString) {
    const TextDfa::Onward onward = Over(frame, character, character);
    if (!onward.live) return std::nullopt;
    after.at = onward.to;
    return after;
  }
  const ObjectRule& rule = ObjectOf(frame);
  const Prefix prefix = Narrow(rule, prefixes_[static_cast<size_t>(frame.more)], character, character);
  const int32_t free = rule.free.Next(frame.at, character);
  if (!KeyLive(rule, MembersOf(frame), prefix, free)) return std::nullopt;
  after.at = free;
  after.more = PrefixId({prefix.begin, prefix.end, prefix.depth + 1});
  return after;
}

TextDfa::Onward JsonMachine::Over(const Frame& frame, uint32_t first, uint32_t last) {
  if (frame.reads == Reads::kKey) return OverKey(frame, first, last);
  const TextRule& rule = forms_->texts[static_cast<size_t>(frame.rule)];
  if (!rule.counted) return rule.dfa.Over(frame.at, first, last);
  const bool more = rule.most < 0 || frame.at < rule.most;
  const int64_t next = rule.most < 0 ? std::min<int64_t>(frame.at + 1, rule.least) : frame.at + 1;
  return {.live = more, .uniform = true, .to = static_cast<int32_t>(next)};
}

TextDfa::Onward JsonMachine::OverKey(const Frame& frame, uint32_t first, uint32_t last) {
  const ObjectRule& rule = ObjectOf(frame);
  const Prefix prefix = Narrow(rule, prefixes_[static_cast<size_t>(frame.more)], first, last);
  TextDfa::Onward onward = rule.free.Over(frame.at, first, last);
  if (prefix.begin >= prefix.end) return onward;
  const Members& members = MembersOf(frame);
  for (int32_t name = prefix.begin; name < prefix.end; name++) {
    if (MayAdd(rule, members, name)) return {.live = true};
  }
  // Only names that were there: another one must differ from each of them.
  const int64_t names = prefix.end - prefix.begin;
  const bool live = rule.free.AnyEdge(frame.at, first, last, [&](uint32_t from, uint32_t to, int32_t next) {
    if (static_cast<int64_t>(to) - from >= names) return true;
    for (uint32_t character = from; character <= to; character++) {
      const Prefix one = Narrow(rule, prefixes_[static_cast<size_t>(frame.more)], character, character);
      if (KeyLive(rule, members, {one.begin, one.end, one.depth + 1}, next)) return true;
    }
    return false;
  });
  return {.live = live};
}

JsonMachine::Prefix JsonMachine::Narrow(const ObjectRule& rule, const Prefix& prefix, uint32_t first,
                                        uint32_t last) const {
  const auto depth = static_cast<size_t>(prefix.depth);
  const auto names = rule.names.begin();
  const auto begin = std::partition_point(names + prefix.begin, names + prefix.end, [&](const std::u32string& name) {
    return name.size() <= depth || name[depth] < first;
  });
  const auto end =
      std::partition_point(begin, names + prefix.end, [&](const std::u32string& name) { return name[depth] <= last; });
  return {static_cast<int32_t>(begin - names), static_cast<int32_t>(end - names), prefix.depth};
}

bool JsonMachine::KeyLive(const ObjectRule& rule, const Members& members, const Prefix& prefix, int32_t free) const {
  int64_t excluded = 0;
  for (int32_t name = prefix.begin; name < prefix.end; name++) {
    if (MayAdd(rule, members, name)) return true;
    excluded += rule.otherwise_free[static_cast<size_t>(name)] ? 1 : 0;
  }
  return rule.free.Count(free) > excluded;
}

}  // namespace fathom::grammar
