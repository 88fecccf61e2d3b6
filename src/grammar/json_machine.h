// A compiled schema at work. A state is a set of threads, one of each way in which the text so far may fulfil the
// schema (anyOf's alternatives); a thread is a stack of frames, the topmost reads, those below wait. Frames and sets
// are interned, so that equal configurations are one state. As every frame was only pushed where it can be finished, no
// thread is ever without a way to the end.
#pragma once

#include <array>
#include <deque>
#include <memory>
#include <optional>
#include <unordered_map>
#include <vector>

#include "grammar/hash.h"
#include "grammar/json_forms.h"
#include "grammar/machine.h"

namespace fathom::grammar {

class JsonMachine final : public Machine {
 public:
  // What states may take in all; Next throws Error where more is needed.
  static constexpr int64_t kMaxBytes = int64_t{192} << 20;

  explicit JsonMachine(std::shared_ptr<const JsonForms> forms);

  State Start() override { return start_; }
  State Next(State state, uint8_t byte) override;
  bool Accepts(State state) const override;
  Loop LoopOf(State state) override;
  std::vector<LoopBytes> LikelyLoops(size_t most) override;
  int64_t states() const { return static_cast<int64_t>(states_.size()); }

 private:
  using FrameId = int32_t;
  enum class Reads : uint8_t { kEnd, kValue, kWord, kNumber, kString, kArray, kObject, kKey, kColon };
  // Where it stands in an array or an object.
  enum Place : int32_t { kOpened, kBehindValue, kBehindComma, kBehindSpace };
  // The fields `at`, `character`, `more` by what is read:
  //   kValue   rule: a demand    at: a space may come          kWord   rule: null, false, true   at: letters read
  //   kNumber  at: the walker's state                          kString at: of the text           character: begun
  //   kArray   at: Place         more: of positions_           kObject at: Place                 more: of members_
  //   kKey     at: of free names character: begun              more: of prefixes_                kColon rule: a demand
  struct Frame {
    Reads reads = Reads::kEnd;
    int32_t rule = 0, at = 0;
    uint64_t character = 0;
    int32_t more = 0;
    FrameId below = -1;
    bool operator==(const Frame&) const = default;
  };
  // An object's properties so far.
  struct Members {
    std::vector<uint64_t> seen = {};  // bits of the names
    int64_t named = 0, all = 0;       // all: only counted where it matters
    bool other = false;               // one that the schema does not mention
    bool operator==(const Members&) const = default;
  };
  // The names begin..end begin with a key's characters so far, `depth` of them; none: begin = end = 0.
  struct Prefix {
    int32_t begin, end, depth;
    bool operator==(const Prefix&) const = default;
  };
  using ByteSet = std::array<uint64_t, 4>;
  struct Row {
    ByteSet known = {}, live = {};
    std::array<uint8_t, 4> before = {};  // live bytes in the words before each
    std::vector<State> next = {};        // of the live bytes
  };
  struct StateData {
    std::vector<FrameId> threads;  // ascending
    bool accepts = false;
    std::unique_ptr<Row> row = nullptr;
  };

  // The place of `thing` in `all`, where it is put if it is not there; `bytes_behind`: of memory that it holds
  // elsewhere.
  template <class T>
  int32_t IdOf(IdTable& ids, std::vector<T>& all, uint64_t hash, const T& thing, size_t bytes_behind = 0);
  FrameId Intern(const Frame& frame);
  State InternState(std::vector<FrameId>& threads);  // orders them
  bool AcceptsThread(FrameId id) const;
  NumberWalker& WalkerOf(int32_t rule);

  // Adds the bytes that the thread may read, and maybe others.
  void AddReadable(FrameId id, ByteSet& bytes) const;
  static void AddReadableInText(const Frame& frame, ByteSet& bytes);
  void Step(FrameId id, uint8_t byte);  // adds to out_
  void StepValue(const Frame& frame, uint8_t byte);
  void BeginForm(const Form& form, FrameId below, uint8_t byte);
  void StepWord(const Frame& frame, uint8_t byte);
  void StepString(const Frame& frame, uint8_t byte);
  void StepArray(const Frame& frame, uint8_t byte);
  void StepObject(const Frame& frame, uint8_t byte);
  void StepKey(const Frame& frame, uint8_t byte);
  bool HasItem(const ArrayRule& rule, const ArrayPosition& position) const;

  // One byte of a character, of a string or a key; nullopt: dead.
  std::optional<Frame> InText(const Frame& frame, uint8_t byte);
  std::optional<Frame> InUtf8(const Frame& frame, uint8_t byte);
  std::optional<Frame> InEscape(const Frame& frame, uint8_t byte);
  std::optional<Frame> InLowSurrogate(const Frame& frame, uint8_t byte);
  std::optional<Frame> BeginUtf8(const Frame& frame, int rest, uint32_t value);
  std::optional<Frame> BeginHex(const Frame& frame, int digits, uint32_t value);
  std::optional<Frame> Read(const Frame& frame, uint32_t character);
  TextDfa::Onward Over(const Frame& frame, uint32_t first, uint32_t last);
  TextDfa::Onward OverKey(const Frame& frame, uint32_t first, uint32_t last);

  const ObjectRule& ObjectOf(const Frame& frame) const { return forms_->objects[static_cast<size_t>(frame.rule)]; }
  const Members& MembersOf(const Frame& key) const;
  bool Feasible(const ObjectRule& rule, const Members& members) const;
  bool MayAdd(const ObjectRule& rule, const Members& members, int32_t name) const;  // name < 0: another one
  Members With(const ObjectRule& rule, const Members& members, int32_t name) const;
  bool MayGoOn(const ObjectRule& rule, const Members& members) const;
  bool MayClose(const ObjectRule& rule, const Members& members) const;
  int32_t MembersId(const Members& members);
  int32_t PositionId(const ArrayPosition& position);
  int32_t PrefixId(const Prefix& prefix);
  Prefix Narrow(const ObjectRule& rule, const Prefix& prefix, uint32_t first, uint32_t last) const;
  // Can a key go on that has come to `prefix` and the state `free` of other names?
  bool KeyLive(const ObjectRule& rule, const Members& members, const Prefix& prefix, int32_t free) const;

  std::shared_ptr<const JsonForms> forms_;
  std::vector<Frame> frames_;
  IdTable frame_ids_, state_ids_, member_ids_, position_ids_, prefix_ids_;
  std::deque<StateData> states_;
  std::vector<Members> members_;
  std::vector<ArrayPosition> positions_;
  std::vector<Prefix> prefixes_;
  std::unordered_map<int32_t, std::unique_ptr<NumberWalker>> walkers_;
  std::vector<FrameId> out_;
  int64_t bytes_ = 0;
  State start_ = kDead;
};

}  // namespace fathom::grammar
