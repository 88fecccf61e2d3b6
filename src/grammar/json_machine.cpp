#include "grammar/json_machine.h"

#include <algorithm>
#include <bit>

namespace fathom::grammar {
namespace {

constexpr std::array<const char*, 3> kWords = {"null", "false", "true"};

template <class Bytes>
void AddBytes(Bytes& set, std::string_view bytes) {
  for (const char c : bytes) set[static_cast<uint8_t>(c) / 64] |= uint64_t{1} << static_cast<uint8_t>(c) % 64;
}

}  // namespace

JsonMachine::JsonMachine(std::shared_ptr<const JsonForms> forms) : forms_(std::move(forms)) {
  frames_.push_back({});
  prefixes_.push_back({0, 0, 0});
  const Demand& root = forms_->demands[static_cast<size_t>(forms_->root)];
  if (!root.live) return;
  out_ = {Intern({.reads = Reads::kValue, .rule = forms_->root, .below = 0})};
  start_ = InternState(out_);
}

template <class T>
int32_t JsonMachine::IdOf(IdTable& ids, std::vector<T>& all, uint64_t hash, const T& thing, size_t bytes_behind) {
  const int32_t found = ids.Find(hash, [&](int32_t id) { return all[static_cast<size_t>(id)] == thing; });
  if (found >= 0) return found;
  const auto id = static_cast<int32_t>(all.size());
  all.push_back(thing);
  ids.Add(hash, id);
  bytes_ += static_cast<int64_t>(sizeof(T) + bytes_behind) + IdTable::kBytesEach;
  return id;
}

JsonMachine::FrameId JsonMachine::Intern(const Frame& frame) {
  uint64_t hash = HashWord(kHashSeed, static_cast<uint64_t>(frame.reads) << 32 | static_cast<uint32_t>(frame.rule));
  hash = HashWord(hash, static_cast<uint64_t>(frame.at) << 32 | static_cast<uint32_t>(frame.more));
  hash = HashWord(hash, frame.character);
  hash = HashWord(hash, static_cast<uint64_t>(frame.below));
  return IdOf(frame_ids_, frames_, hash, frame);
}

Machine::State JsonMachine::InternState(std::vector<FrameId>& threads) {
  if (threads.empty()) return kDead;
  std::sort(threads.begin(), threads.end());
  threads.erase(std::unique(threads.begin(), threads.end()), threads.end());
  uint64_t hash = kHashSeed;
  for (const FrameId id : threads) hash = HashWord(hash, static_cast<uint64_t>(id));
  const State found =
      state_ids_.Find(hash, [&](State id) { return states_[static_cast<size_t>(id)].threads == threads; });
  if (found >= 0) return found;
  bytes_ += static_cast<int64_t>(threads.size() * sizeof(FrameId) + sizeof(StateData)) + IdTable::kBytesEach;
  if (bytes_ > kMaxBytes) {
    throw Error{"a JSON schema's machine has taken its memory", std::to_string(states_.size()) + " states",
                "at most " + std::to_string(kMaxBytes) + " bytes"};
  }
  const bool accepts = std::any_of(threads.begin(), threads.end(), [&](FrameId id) { return AcceptsThread(id); });
  const auto id = static_cast<State>(states_.size());
  states_.push_back({.threads = threads, .accepts = accepts});
  state_ids_.Add(hash, id);
  return id;
}

bool JsonMachine::AcceptsThread(FrameId id) const {
  const Frame& frame = frames_[static_cast<size_t>(id)];
  if (frame.reads == Reads::kEnd) return true;
  return frame.reads == Reads::kNumber && frame.below == 0 && walkers_.at(frame.rule)->Accepts(frame.at);
}

bool JsonMachine::Accepts(State state) const { return state != kDead && states_[static_cast<size_t>(state)].accepts; }

Machine::State JsonMachine::Next(State state, uint8_t byte) {
  if (state == kDead) return kDead;
  StateData& data = states_[static_cast<size_t>(state)];
  const size_t word = byte / 64;
  const uint64_t bit = uint64_t{1} << byte % 64;
  if (!data.row) {
    data.row = std::make_unique<Row>();
    bytes_ += static_cast<int64_t>(sizeof(Row));
    ByteSet readable = {};
    for (const FrameId id : data.threads) AddReadable(id, readable);
    for (size_t i = 0; i < readable.size(); i++) data.row->known[i] = ~readable[i];
  }
  Row& row = *data.row;
  const auto rank = [&] { return static_cast<int64_t>(row.before[word]) + std::popcount(row.live[word] & (bit - 1)); };
  if ((row.known[word] & bit) != 0) return (row.live[word] & bit) != 0 ? row.next[static_cast<size_t>(rank())] : kDead;
  out_.clear();
  for (const FrameId id : data.threads) Step(id, byte);
  const State next = InternState(out_);
  row.known[word] |= bit;
  if (next != kDead) {
    row.next.insert(row.next.begin() + rank(), next);
    row.live[word] |= bit;
    for (size_t i = word + 1; i < row.before.size(); i++) row.before[i]++;
    bytes_ += static_cast<int64_t>(sizeof(State));
  }
  return next;
}

NumberWalker& JsonMachine::WalkerOf(int32_t rule) {
  auto& walker = walkers_[rule];
  if (!walker) walker = std::make_unique<NumberWalker>(forms_->numbers[static_cast<size_t>(rule)]);
  return *walker;
}

int32_t JsonMachine::MembersId(const Members& members) {
  uint64_t hash = HashWord(kHashSeed, static_cast<uint64_t>(members.all) * 2 + (members.other ? 1 : 0));
  for (const uint64_t word : members.seen) hash = HashWord(hash, word);
  return IdOf(member_ids_, members_, hash, members, members.seen.size() * sizeof(uint64_t));
}

int32_t JsonMachine::PositionId(const ArrayPosition& position) {
  return IdOf(position_ids_, positions_, HashWord(kHashSeed, position.Key()), position);
}

int32_t JsonMachine::PrefixId(const Prefix& prefix) {
  if (prefix.begin >= prefix.end) return 0;
  const uint64_t hash =
      HashWord(HashWord(kHashSeed, static_cast<uint64_t>(prefix.begin) << 32 | static_cast<uint32_t>(prefix.end)),
               static_cast<uint64_t>(prefix.depth));
  return IdOf(prefix_ids_, prefixes_, hash, prefix);
}

void JsonMachine::AddReadable(FrameId id, ByteSet& bytes) const {
  constexpr std::string_view kValueBytes = "\"[{-0123456789ntf";
  const Frame& frame = frames_[static_cast<size_t>(id)];
  switch (frame.reads) {
    case Reads::kEnd:
      return;
    case Reads::kValue:
      AddBytes(bytes, kValueBytes);
      AddBytes(bytes, " ");
      return;
    case Reads::kWord:
      AddBytes(bytes,
               std::string_view(kWords[static_cast<size_t>(frame.rule)]).substr(static_cast<size_t>(frame.at), 1));
      return;
    case Reads::kNumber:
      AddBytes(bytes, "0123456789.eE+-");
      return AddReadable(frame.below, bytes);
    case Reads::kString:
    case Reads::kKey:
      return AddReadableInText(frame, bytes);
    case Reads::kArray:
      AddBytes(bytes, frame.at == kBehindValue ? ",]" : "] ");
      if (frame.at != kBehindValue) AddBytes(bytes, kValueBytes);
      return;
    case Reads::kObject:
      AddBytes(bytes, frame.at == kBehindValue ? ",}" : "\"} ");
      return;
    case Reads::kColon:
      AddBytes(bytes, ":");
      return;
  }
}

void JsonMachine::Step(FrameId id, uint8_t byte) {
  const Frame frame = frames_[static_cast<size_t>(id)];
  switch (frame.reads) {
    case Reads::kEnd:
      return;
    case Reads::kValue:
      StepValue(frame, byte);
      return;
    case Reads::kWord:
      StepWord(frame, byte);
      return;
    case Reads::kNumber: {
      NumberWalker& walker = WalkerOf(frame.rule);
      const NumberWalker::State next = walker.Next(frame.at, byte);
      if (next != NumberWalker::kDead) {
        Frame after = frame;
        after.at = next;
        out_.push_back(Intern(after));
      } else if (walker.Accepts(frame.at)) {
        Step(frame.below, byte);
      }
      return;
    }
    case Reads::kString:
      StepString(frame, byte);
      return;
    case Reads::kArray:
      StepArray(frame, byte);
      return;
    case Reads::kObject:
      StepObject(frame, byte);
      return;
    case Reads::kKey:
      StepKey(frame, byte);
      return;
    case Reads::kColon:
      if (byte == ':')
        out_.push_back(Intern({.reads = Reads::kValue, .rule = frame.rule, .at = 1, .below = frame.below}));
      return;
  }
}

void JsonMachine::StepValue(const Frame& frame, uint8_t byte) {
  if (byte == ' ') {
    if (frame.at == 0) return;
    Frame after = frame;
    after.at = 0;
    out_.push_back(Intern(after));
    return;
  }
  ValueType type;
  switch (byte) {
    case 'n':
      type = ValueType::kNull;
      break;
    case 't':
    case 'f':
      type = ValueType::kBool;
      break;
    case '"':
      type = ValueType::kString;
      break;
    case '[':
      type = ValueType::kArray;
      break;
    case '{':
      type = ValueType::kObject;
      break;
    default:
      if (byte != '-' && (byte < '0' || byte > '9')) return;
      type = ValueType::kNumber;
  }
  for (const Form& form : forms_->demands[static_cast<size_t>(frame.rule)].forms[static_cast<size_t>(type)]) {
    BeginForm(form, frame.below, byte);
  }
}

void JsonMachine::BeginForm(const Form& form, FrameId below, uint8_t byte) {
  Frame frame{.rule = form.rule, .below = below};
  switch (form.type) {
    case ValueType::kNull:
    case ValueType::kBool:
      frame.reads = Reads::kWord;
      frame.rule = form.type == ValueType::kNull ? 0 : 1 + form.rule;
      frame.at = 1;
      if (kWords[static_cast<size_t>(frame.rule)][0] != static_cast<char>(byte)) return;
      break;
    case ValueType::kNumber: {
      NumberWalker& walker = WalkerOf(form.rule);
      frame.reads = Reads::kNumber;
      frame.at = walker.Next(walker.Start(), byte);
      if (frame.at == NumberWalker::kDead) return;
      break;
    }
    case ValueType::kString: {
      const TextRule& rule = forms_->texts[static_cast<size_t>(form.rule)];
      frame.reads = Reads::kString;
      frame.at = rule.counted ? 0 : rule.dfa.start();
      break;
    }
    case ValueType::kArray:
      frame.reads = Reads::kArray;
      frame.at = kOpened;
      frame.more = PositionId({});
      break;
    case ValueType::kObject:
      frame.reads = Reads::kObject;
      frame.at = kOpened;
      frame.more = MembersId(
          {.seen = std::vector<uint64_t>((forms_->objects[static_cast<size_t>(form.rule)].names.size() + 63) / 64)});
      break;
  }
  out_.push_back(Intern(frame));
}

void JsonMachine::StepWord(const Frame& frame, uint8_t byte) {
  const char* word = kWords[static_cast<size_t>(frame.rule)];
  if (word[frame.at] != static_cast<char>(byte)) return;
  if (word[frame.at + 1] == '\0') {
    out_.push_back(frame.below);
    return;
  }
  Frame after = frame;
  after.at++;
  out_.push_back(Intern(after));
}

void JsonMachine::StepString(const Frame& frame, uint8_t byte) {
  if (frame.character == 0 && byte == '"') {
    const TextRule& rule = forms_->texts[static_cast<size_t>(frame.rule)];
    if (rule.counted ? frame.at >= rule.least : rule.dfa.ClassOf(frame.at) >= 0) out_.push_back(frame.below);
  } else if (const auto after = InText(frame, byte)) {
    out_.push_back(Intern(*after));
  }
}

bool JsonMachine::HasItem(const ArrayRule& rule, const ArrayPosition& position) const {
  for (const ArrayRule::Choice& choice : rule.ItemsAt(position.index)) {
    ArrayPosition next = position;
    if (Advance(rule, choice, next) && (rule.counters.empty() || rule.live.contains(next.Key()))) return true;
  }
  return false;
}

void JsonMachine::StepArray(const Frame& frame, uint8_t byte) {
  const ArrayRule& rule = forms_->arrays[static_cast<size_t>(frame.rule)];
  const ArrayPosition position = positions_[static_cast<size_t>(frame.more)];
  Frame after = frame;
  if (byte == ']' && (frame.at == kOpened || frame.at == kBehindValue)) {
    if (MayEnd(rule, position)) out_.push_back(frame.below);
  } else if (frame.at == kBehindValue) {
    after.at = kBehindComma;
    if (byte == ',' && HasItem(rule, position)) out_.push_back(Intern(after));
  } else if (byte == ' ') {
    after.at = kBehindSpace;
    if (frame.at == kBehindComma) out_.push_back(Intern(after));
  } else {
    after.at = kBehindValue;
    for (const ArrayRule::Choice& choice : rule.ItemsAt(position.index)) {
      ArrayPosition next = position;
      if (!Advance(rule, choice, next) || (!rule.counters.empty() && !rule.live.contains(next.Key()))) continue;
      after.more = PositionId(next);
      StepValue({.reads = Reads::kValue, .rule = choice.demand, .below = Intern(after)}, byte);
    }
  }
}

bool JsonMachine::Feasible(const ObjectRule& rule, const Members& members) const {
  if (rule.least == 0 && rule.most < 0) return true;
  int64_t needed = 0, possible = 0;
  for (size_t i = 0; i < rule.names.size(); i++) {
    const bool seen = (members.seen[i / 64] >> i % 64 & 1) != 0;
    if (seen || rule.of_name[i] == kNoValue) continue;
    needed += rule.required[i] ? 1 : 0;
    possible++;
  }
  const bool other = rule.free.start() != TextDfa::kDead && !members.other;
  const int64_t slots = rule.most < 0 ? rule.least + needed : rule.most - members.all;
  const int64_t distinct = members.named + (members.other ? 1 : 0);
  return needed <= slots && distinct + std::min(slots, possible + (other ? 1 : 0)) >= rule.least;
}

JsonMachine::Members JsonMachine::With(const ObjectRule& rule, const Members& members, int32_t name) const {
  Members after = members;
  if (name >= 0) {
    after.seen[static_cast<size_t>(name) / 64] |= uint64_t{1} << name % 64;
    after.named++;
  } else if (rule.least > 0) {
    after.other = true;
  }
  if (rule.most >= 0) after.all++;
  return after;
}

bool JsonMachine::MayAdd(const ObjectRule& rule, const Members& members, int32_t name) const {
  if (name >= 0) {
    const auto i = static_cast<size_t>(name);
    if (rule.of_name[i] == kNoValue || (members.seen[i / 64] >> i % 64 & 1) != 0) return false;
  } else if (rule.free.start() == TextDfa::kDead) {
    return false;
  }
  return (rule.least == 0 && rule.most < 0) || Feasible(rule, With(rule, members, name));
}

bool JsonMachine::MayGoOn(const ObjectRule& rule, const Members& members) const {
  if (MayAdd(rule, members, -1)) return true;
  for (size_t i = 0; i < rule.names.size(); i++) {
    if (MayAdd(rule, members, static_cast<int32_t>(i))) return true;
  }
  return false;
}

bool JsonMachine::MayClose(const ObjectRule& rule, const Members& members) const {
  for (size_t i = 0; i < rule.names.size(); i++) {
    if (rule.required[i] && (members.seen[i / 64] >> i % 64 & 1) == 0) return false;
  }
  return members.named + (members.other ? 1 : 0) >= rule.least;
}

void JsonMachine::StepObject(const Frame& frame, uint8_t byte) {
  const ObjectRule& rule = ObjectOf(frame);
  const Members& members = members_[static_cast<size_t>(frame.more)];
  Frame after = frame;
  if (byte == '}') {
    if ((frame.at == kOpened || frame.at == kBehindValue) && MayClose(rule, members)) out_.push_back(frame.below);
  } else if (byte == ',') {
    after.at = kBehindComma;
    if (frame.at == kBehindValue && MayGoOn(rule, members)) out_.push_back(Intern(after));
  } else if (byte == ' ') {
    after.at = kBehindSpace;
    if (frame.at == kBehindComma) out_.push_back(Intern(after));
  } else if (byte == '"' && frame.at != kBehindValue && MayGoOn(rule, members)) {
    after.at = kBehindValue;
    Frame key{.reads = Reads::kKey, .rule = frame.rule, .at = TextDfa::kDead, .below = Intern(after)};
    if (MayAdd(rule, members, -1)) key.at = rule.free.start();
    key.more = PrefixId({0, static_cast<int32_t>(rule.names.size()), 0});
    out_.push_back(Intern(key));
  }
}

void JsonMachine::StepKey(const Frame& frame, uint8_t byte) {
  if (frame.character != 0 || byte != '"') {
    if (const auto after = InText(frame, byte)) out_.push_back(Intern(*after));
    return;
  }
  const ObjectRule& rule = ObjectOf(frame);
  const Members& members = MembersOf(frame);
  const Prefix prefix = prefixes_[static_cast<size_t>(frame.more)];
  const bool named = prefix.begin < prefix.end &&
                     rule.names[static_cast<size_t>(prefix.begin)].size() == static_cast<size_t>(prefix.depth);
  const int32_t name = named ? prefix.begin : -1;
  DemandId demand;
  if (named) {
    if (!MayAdd(rule, members, name)) return;
    demand = rule.of_name[static_cast<size_t>(name)];
  } else {
    const int32_t of_class = rule.free.ClassOf(frame.at);
    if (of_class < 0) return;
    demand = rule.of_class[static_cast<size_t>(of_class)];
  }
  Frame object = frames_[static_cast<size_t>(frame.below)];
  object.more = MembersId(With(rule, members, name));
  out_.push_back(Intern({.reads = Reads::kColon, .rule = demand, .below = Intern(object)}));
}

const JsonMachine::Members& JsonMachine::MembersOf(const Frame& key) const {
  return members_[static_cast<size_t>(frames_[static_cast<size_t>(key.below)].more)];
}

}  // namespace fathom::grammar
