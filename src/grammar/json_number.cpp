#include "grammar/json_number.h"

#include <fmt/format.h>

#include <algorithm>

namespace fathom::grammar {
namespace {

constexpr NumberWalker::State kUnknownNumber = -2;
// Of a number without conditions: 10^200 x 10^99 and 10^300 are within a double's range.
constexpr size_t kMaxPlainDigits = 200;

// Rounded down; beyond it JSON's readers fail or read an infinity.
const Decimal& LargestDouble() {
  static const Decimal largest = Decimal::Of(false, "1797", 305);
  return largest;
}

int SlotOf(uint8_t byte) {
  if (byte >= '0' && byte <= '9') return byte - '0';
  switch (byte) {
    case '-':
      return 10;
    case '+':
      return 11;
    case '.':
      return 12;
    case 'e':
      return 13;
    case 'E':
      return 14;
    default:
      return -1;
  }
}

bool IsDigit(uint8_t byte) { return byte >= '0' && byte <= '9'; }

// k x 10^scale on the allowed side of a bound on magnitudes: the least or the largest such k (nullopt: none).
std::optional<Natural> InUnits(const NumberRule::Bound& bound, int64_t scale, bool least) {
  const Decimal& value = bound.value;
  if (value.exponent >= scale) {
    const Natural exact(value.digits, value.exponent - scale);
    if (!bound.exclusive) return exact;
    if (least) return exact + Natural(1);
    if (exact.IsZero()) return std::nullopt;
    return exact - Natural(1);
  }
  const int64_t kept = static_cast<int64_t>(value.digits.size()) - (scale - value.exponent);
  const Natural below(kept > 0 ? std::string_view(value.digits).substr(0, static_cast<size_t>(kept)) : "", 0);
  return least ? below + Natural(1) : below;
}

// The k of which k x 10^scale is a multiple of `step` are the multiples of this.
Natural StepInUnits(const Decimal& step, int64_t scale) {
  if (step.exponent >= scale) return {step.digits, step.exponent - scale};
  const Natural digits(step.digits, 0);
  return digits / Gcd(digits, Natural("1", scale - step.exponent));
}

Natural MultiplesUpTo(const Natural& last, const Natural& step) { return last / step + Natural(1); }

// In from..last, 0 among them.
Natural CountMultiples(const Natural& from, const Natural& last, const Natural& step) {
  const Natural all = MultiplesUpTo(last, step);
  return from.IsZero() ? all : all - MultiplesUpTo(from - Natural(1), step);
}

// Does the nearest double keep that a large decimal is a multiple? All doubles from 2^53 on are whole numbers.
bool DoublesKeep(const Decimal& step) {
  Natural power(1);
  for (int64_t k = 0; k < -step.exponent; k++) power = power * Natural(5);
  return step.exponent <= 0 && (step.digits == "1" || power.Digits() == step.digits);
}

}  // namespace

void NumberRule::AtLeast(const Bound& bound) {
  if (!least || bound.value > least->value || (bound.value == least->value && bound.exclusive)) least = bound;
}

void NumberRule::AtMost(const Bound& bound) {
  if (!most || bound.value < most->value || (bound.value == most->value && bound.exclusive)) most = bound;
}

void NumberRule::MultipleOf(const Decimal& of) { step = step ? CommonMultiple(*step, of) : of; }

void NumberRule::Only(const std::vector<Decimal>& values) {
  if (!only) {
    only = values;
    return;
  }
  std::erase_if(*only, [&](const Decimal& v) { return !std::binary_search(values.begin(), values.end(), v); });
}

void NumberRule::Except(const std::vector<Decimal>& values) {
  except.insert(except.end(), values.begin(), values.end());
  std::sort(except.begin(), except.end());
  except.erase(std::unique(except.begin(), except.end()), except.end());
}

bool NumberRule::Contains(const Decimal& value) const {
  if (least && (value < least->value || (least->exclusive && value == least->value))) return false;
  if (most && (value > most->value || (most->exclusive && value == most->value))) return false;
  if (only && !std::binary_search(only->begin(), only->end(), value)) return false;
  if (std::binary_search(except.begin(), except.end(), value)) return false;
  for (const Decimal& not_step : not_steps) {
    if (IsMultiple(value, not_step)) return false;
  }
  return !step || IsMultiple(value, *step);
}

std::string NumberRule::Key() const {
  std::string key;
  for (const auto* bound : {&least, &most}) {
    if (*bound) key += fmt::format("{}{}", (*bound)->exclusive ? 'x' : 'b', (*bound)->value.Text());
    key += ';';
  }
  if (step) key += step->Text();
  for (const Decimal& value : not_steps) key += fmt::format("!{}", value.Text());
  if (only) {
    key += '=';
    for (const Decimal& value : *only) key += fmt::format("{},", value.Text());
  }
  key += '-';
  for (const Decimal& value : except) key += fmt::format("{},", value.Text());
  return key;
}

NumberWalker::NumberWalker(NumberRule rule) : rule_(std::move(rule)), any_(rule_.IsAny()) {
  if (rule_.only) {
    std::erase_if(*rule_.only, [&](const Decimal& value) { return !rule_.Contains(value); });
    if (rule_.only->empty()) return;
    rule_.AtLeast({rule_.only->front()});
    rule_.AtMost({rule_.only->back()});
  }
  if (rule_.step && !DoublesKeep(*rule_.step)) {
    const Decimal exact = Decimal::Of(false, "9007199254740992", 0);
    rule_.AtLeast({exact.Negated()});
    rule_.AtMost({exact});
  }
  if (!rule_.not_steps.empty()) {
    const Decimal exact = Decimal::Of(false, "1", 9);
    rule_.AtLeast({exact.Negated()});
    rule_.AtMost({exact});
  }
  int64_t places = 0, position = 1;
  const auto compare_with = [&](const Decimal& value) {
    position = std::max(position, value.Position());
    places = std::max(places, -value.exponent);
    comparands_.push_back(value.digits);
  };
  if (rule_.least) compare_with(rule_.least->value);
  if (rule_.most) compare_with(rule_.most->value);
  for (const Decimal& value : rule_.except) compare_with(value);
  if (rule_.step) places = std::max(places, -rule_.step->exponent);
  for (const Decimal& value : rule_.not_steps) places = std::max(places, -value.exponent);
  if (rule_.only) {
    for (const Decimal& value : *rule_.only) places = std::max(places, -value.exponent);
  }
  if (!any_) {
    rule_.AtLeast({LargestDouble().Negated()});
    rule_.AtMost({LargestDouble()});
  }
  // 15 digits near the bounds: what doubles tell apart, so that a reader's rounding does not reach a bound.
  fraction_digits_ = std::max(std::min<int64_t>(places + 1, 60), 15 - position);
  comparands_.push_back(LargestDouble().digits);

  for (const bool negative : {false, true}) {
    Side& side = sides_[negative];
    const auto& least = negative ? rule_.most : rule_.least;
    const auto& most = negative ? rule_.least : rule_.most;
    const auto magnitude = [&](const NumberRule::Bound& bound) {
      return NumberRule::Bound{negative ? bound.value.Negated() : bound.value, bound.exclusive};
    };
    if (least && !magnitude(*least).value.negative) side.least = magnitude(*least);
    if (most) {
      side.most = magnitude(*most);
      side.empty = side.most->value.negative;
    }
  }
  start_ = Intern(Text{});
}

Decimal NumberWalker::ValueOf(const Text& text) const {
  return Decimal::Of(text.negative, text.whole + text.fraction, -static_cast<int64_t>(text.fraction.size()));
}

bool NumberWalker::AcceptsText(const Text& text) const {
  switch (text.phase) {
    case Phase::kWhole:
    case Phase::kFraction:
      return any_ || rule_.Contains(ValueOf(text));
    case Phase::kExponent: {
      if (any_) return true;
      const auto& allowed = exponents_[static_cast<size_t>(text.exponents)];
      return std::binary_search(allowed.begin(), allowed.end(), text.down ? -text.written : text.written);
    }
    default:
      return false;
  }
}

NumberWalker::State NumberWalker::Next(State state, uint8_t byte) {
  const int slot = SlotOf(byte);
  if (slot < 0 || state == kDead) return kDead;
  const State known = states_[static_cast<size_t>(state)].next[static_cast<size_t>(slot)];
  if (known != kUnknownNumber) return known;
  const auto after = After(states_[static_cast<size_t>(state)].text, byte);
  const State next = after ? Intern(*after) : kDead;
  states_[static_cast<size_t>(state)].next[static_cast<size_t>(slot)] = next;
  return next;
}

std::optional<NumberWalker::Text> NumberWalker::After(const Text& text, uint8_t byte) {
  Text after = text;
  const bool has_digits = text.phase == Phase::kWhole || text.phase == Phase::kFraction;
  if (byte == '-' && text.phase == Phase::kStart) {
    after.phase = Phase::kSign;
    after.negative = true;
  } else if (IsDigit(byte) && (text.phase == Phase::kStart || text.phase == Phase::kSign)) {
    after.phase = Phase::kWhole;
    after.whole = static_cast<char>(byte);
  } else if (IsDigit(byte) && text.phase == Phase::kWhole && text.whole != "0") {
    if (text.whole.size() >= (any_ ? kMaxPlainDigits : kMaxWholeDigits)) return std::nullopt;
    after.whole += static_cast<char>(byte);
  } else if (byte == '.' && text.phase == Phase::kWhole) {
    after.phase = Phase::kPoint;
  } else if (IsDigit(byte) && (text.phase == Phase::kPoint || text.phase == Phase::kFraction)) {
    after.phase = Phase::kFraction;
    if (any_) return after;
    if (static_cast<int64_t>(text.fraction.size()) >= fraction_digits_) return std::nullopt;
    after.fraction += static_cast<char>(byte);
  } else if ((byte == 'e' || byte == 'E') && has_digits && (any_ || text.whole.size() == 1)) {
    after.phase = Phase::kE;
    if (any_) return after;
    exponents_.push_back(Exponents(text));
    after.exponents = static_cast<int32_t>(exponents_.size()) - 1;
  } else {
    return AfterExponent(text, byte);
  }
  return after;
}

std::optional<NumberWalker::Text> NumberWalker::AfterExponent(const Text& text, uint8_t byte) {
  Text after = text;
  if ((byte == '+' || byte == '-') && text.phase == Phase::kE) {
    after.phase = Phase::kESign;
    after.down = byte == '-';
  } else if (IsDigit(byte) &&
             (text.phase == Phase::kE || text.phase == Phase::kESign || text.phase == Phase::kExponent)) {
    after.phase = Phase::kExponent;
    const bool third = text.written_digits == 2;
    if (text.written_digits >= 3) return std::nullopt;
    if (any_ && third && (text.whole.size() > 1 || text.written >= 30)) return std::nullopt;
    after.written = text.written * 10 + (byte - '0');
    after.written_digits++;
  } else {
    return std::nullopt;
  }
  return after;
}

NumberWalker::State NumberWalker::Intern(const Text& text) {
  std::string key = KeyOf(text);
  const auto found = ids_.find(key);
  if (found != ids_.end()) return found->second;
  State state = kDead;
  if (any_ || Live(text)) {
    state = static_cast<State>(states_.size());
    StateData data{.text = text, .accepts = AcceptsText(text), .next = {}};
    data.next.fill(kUnknownNumber);
    states_.push_back(std::move(data));
  }
  ids_.emplace(std::move(key), state);
  return state;
}

// Equal keys: the same ways to go on. What counts of the digits: how many, how they compare with the bounds' digits,
// and for steps (c x 10^q) the zeros at the end and what lies before them modulo c.
std::string NumberWalker::KeyOf(const Text& text) const {
  std::string key = {static_cast<char>('a' + static_cast<int>(text.phase)), text.negative ? '-' : '+',
                     text.whole == "0" ? '0' : '1'};
  if (any_) {
    if (text.phase == Phase::kWhole) return fmt::format("{}{}", key, text.whole.size());
    const bool more = text.written_digits == 1 ? text.written < 3 : text.written < 30;
    return fmt::format("{}{}{}{}", key, text.whole.size() == 1 ? 's' : 'm', text.written_digits, more ? '<' : '>');
  }
  if (text.exponents >= 0) {
    key += fmt::format("{}{}/{}:", text.down ? '-' : '+', text.written, text.written_digits);
    for (const int16_t exponent : exponents_[static_cast<size_t>(text.exponents)]) key += fmt::format("{},", exponent);
    return key;
  }
  if (rule_.only) return key + text.whole + "." + text.fraction;
  std::string digits = text.whole + text.fraction;
  const size_t lead = std::min(digits.find_first_not_of('0'), digits.size());
  digits.erase(0, lead);
  key += fmt::format("{}.{}.{}", text.whole.size(), text.fraction.size(), lead);
  // The largest double is far from all that is written without an exponent.
  const size_t compared = comparands_.size() - (text.whole.size() > 1 ? 1 : 0);
  for (size_t c = 0; c < compared; c++) {
    const std::string& other = comparands_[c];
    char relation = '=';
    for (size_t i = 0; i < digits.size() && relation == '='; i++) {
      const char at = i < other.size() ? other[i] : '0';
      if (digits[i] != at) relation = digits[i] < at ? '<' : '>';
    }
    key += relation;
  }
  std::vector<Decimal> steps = rule_.not_steps;
  if (rule_.step) steps.push_back(*rule_.step);
  for (const Decimal& step : steps) {
    const size_t last = digits.find_last_not_of('0');
    if (last == std::string::npos) {
      key += 'z';
      continue;
    }
    auto zeros = static_cast<int64_t>(digits.size() - last - 1);
    if (step.digits == "1" && text.whole.size() > 1) {
      const auto needed = static_cast<int64_t>(text.fraction.size()) + step.exponent;
      zeros = std::min(zeros, std::max<int64_t>(needed, 0));
    }
    key += fmt::format("z{}", zeros);
    if (step.digits != "1") {
      key += fmt::format("%{}",
                         (Natural(std::string_view(digits).substr(0, last + 1), 0) % Natural(step.digits, 0)).Digits());
    }
  }
  return key;
}

bool NumberWalker::Live(const Text& text) {
  switch (text.phase) {
    case Phase::kStart: {
      Text negative = text;
      negative.phase = Phase::kSign;
      negative.negative = true;
      if (Live(negative)) return true;
      [[fallthrough]];
    }
    case Phase::kSign:
      for (char digit = '0'; digit <= '9'; digit++) {
        Text next = text;
        next.phase = Phase::kWhole;
        next.whole = digit;
        if (Live(next)) return true;
      }
      return false;
    case Phase::kWhole:
    case Phase::kPoint:
    case Phase::kFraction:
      if (sides_[text.negative].empty) return false;
      return AcceptsText(text) || ExistsPlain(text) || (text.whole.size() == 1 && ExistsScientific(text));
    default:
      return ExponentLive(text);
  }
}

bool NumberWalker::ExistsPlain(const Text& text) const {
  const Side& side = sides_[text.negative];
  const auto fraction = static_cast<int64_t>(text.fraction.size());
  const auto whole = static_cast<int64_t>(text.whole.size());
  int64_t first = 0, last = 0;  // digits of the whole part yet to come
  if (text.phase == Phase::kWhole && text.whole != "0") {
    last = static_cast<int64_t>(kMaxWholeDigits) - whole;
    if (side.most) last = std::min(last, side.most->value.Position() - whole);
    if (side.least) first = std::max<int64_t>(0, side.least->value.Position() - whole);
  }
  const std::string digits = text.whole + text.fraction;
  const Natural prefix(digits, 0);
  for (int64_t more = first; more <= last; more++) {
    const Natural unit("1", more + fraction_digits_ - fraction);
    if (Exists(text.negative, prefix * unit, (prefix + Natural(1)) * unit, -fraction_digits_)) return true;
  }
  return false;
}

bool NumberWalker::ExistsScientific(const Text& text) const {
  const Side& side = sides_[text.negative];
  const Decimal value = ValueOf(text);
  const auto fraction = static_cast<int64_t>(text.fraction.size());
  const Natural prefix(text.whole + text.fraction, 0), unit("1", fraction_digits_ - fraction);
  const Natural from = prefix * unit, end = (prefix + Natural(1)) * unit;
  if (Exists(text.negative, from, end, -fraction_digits_)) return true;
  const int64_t largest = value.IsZero() ? -fraction : value.Position();  // of the mantissa's Position()
  const int64_t smallest = value.IsZero() ? -fraction_digits_ : value.Position();
  int64_t low = -kMaxScientific, high = kMaxScientific;
  if (side.least && !side.least->value.IsZero()) low = std::max(low, side.least->value.Position() - largest);
  if (rule_.step) low = std::max(low, rule_.step->Position() - largest);
  if (side.most) high = std::min(high, side.most->value.Position() - smallest);
  const int64_t near = std::clamp<int64_t>(0, std::min(low, high), high);
  for (int64_t away = 0; near + away <= high || near - away >= low; away++) {
    for (const int64_t exponent : {near + away, near - away}) {
      if (exponent < low || exponent > high) continue;
      if (Exists(text.negative, from, end, exponent - fraction_digits_)) return true;
    }
  }
  return false;
}

bool NumberWalker::Exists(bool negative, const Natural& from, const Natural& end, int64_t scale) const {
  const Side& side = sides_[negative];
  if (side.empty) return false;
  Natural first = from, last = end - Natural(1);
  if (side.least) {
    const auto least = InUnits(*side.least, scale, true);
    if (least && *least > first) first = *least;
  }
  if (side.most) {
    const auto most = InUnits(*side.most, scale, false);
    if (!most) return false;
    if (*most < last) last = *most;
  }
  if (last < first) return false;
  const auto inside = [&](const Decimal& value) {
    if ((value.negative != negative && !value.IsZero()) || (!value.IsZero() && value.exponent < scale)) return false;
    const Natural units(value.digits, value.IsZero() ? 0 : value.exponent - scale);
    return units >= first && units <= last;
  };
  if (rule_.only) return std::any_of(rule_.only->begin(), rule_.only->end(), inside);
  const Natural step = rule_.step ? StepInUnits(*rule_.step, scale) : Natural(1);
  Natural count = CountMultiples(first, last, step);
  for (const Decimal& not_step : rule_.not_steps) {
    const Natural other = StepInUnits(not_step, scale);
    count = count - CountMultiples(first, last, step / Gcd(step, other) * other);
  }
  uint64_t excepted = 0;
  for (const Decimal& value : rule_.except) {
    if (!inside(value) || (rule_.step && !IsMultiple(value, *rule_.step))) continue;
    const bool counted = std::none_of(rule_.not_steps.begin(), rule_.not_steps.end(),
                                      [&](const Decimal& not_step) { return IsMultiple(value, not_step); });
    excepted += counted ? 1 : 0;
  }
  return count > Natural(excepted);
}

std::vector<int16_t> NumberWalker::Exponents(const Text& text) const {
  std::vector<int16_t> allowed;
  const Decimal value = ValueOf(text);
  const Side& side = sides_[text.negative];
  int64_t low = -kMaxScientific, high = kMaxScientific;
  if (!value.IsZero()) {
    if (side.least && !side.least->value.IsZero()) {
      low = std::max(low, side.least->value.Position() - value.Position());
    }
    if (side.most) high = std::min(high, side.most->value.Position() - value.Position());
    if (rule_.step) low = std::max(low, rule_.step->exponent - value.exponent);
  }
  for (int64_t exponent = low; exponent <= high; exponent++) {
    Decimal scaled = value;
    if (!value.IsZero()) scaled.exponent += exponent;
    if (rule_.Contains(scaled)) allowed.push_back(static_cast<int16_t>(exponent));
  }
  return allowed;
}

bool NumberWalker::ExponentLive(const Text& text) const {
  const auto& allowed = exponents_[static_cast<size_t>(text.exponents)];
  const auto any_in = [&](int low, int high) {
    const auto at = std::lower_bound(allowed.begin(), allowed.end(), low);
    return at != allowed.end() && *at <= high;
  };
  if (text.phase == Phase::kE) return !allowed.empty();
  if (text.phase == Phase::kESign) return text.down ? any_in(-kMaxScientific, 0) : any_in(0, kMaxScientific);
  int unit = 1;
  for (int more = text.written_digits; more <= 3; more++, unit *= 10) {
    const int low = text.written * unit, high = low + unit - 1;
    if (text.down ? any_in(-high, -low) : any_in(low, high)) return true;
  }
  return false;
}

}  // namespace fathom::grammar
