#include "grammar/json_decimal.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace fathom::grammar {
namespace {

constexpr uint32_t kLimb = 1'000'000'000;
constexpr size_t kLimbDigits = 9;

std::strong_ordering CompareMagnitudes(const Decimal& a, const Decimal& b) {
  if (a.IsZero() || b.IsZero()) return !a.IsZero() <=> !b.IsZero();
  if (a.Position() != b.Position()) return a.Position() <=> b.Position();
  return a.digits.compare(b.digits) <=> 0;  // no zeros at the end: a prefix is less
}

}  // namespace

Natural::Natural(uint64_t value) {
  for (; value != 0; value /= kLimb) limbs_.push_back(static_cast<uint32_t>(value % kLimb));
}

Natural::Natural(std::string_view digits, int64_t zeros) {
  std::string all(digits);
  all.append(static_cast<size_t>(zeros), '0');
  for (size_t end = all.size(); end > 0;) {
    const size_t begin = end > kLimbDigits ? end - kLimbDigits : 0;
    uint32_t limb = 0;
    for (size_t i = begin; i < end; i++) limb = limb * 10 + static_cast<uint32_t>(all[i] - '0');
    limbs_.push_back(limb);
    end = begin;
  }
  Trim();
}

void Natural::Trim() {
  while (!limbs_.empty() && limbs_.back() == 0) limbs_.pop_back();
}

std::strong_ordering Natural::operator<=>(const Natural& other) const {
  if (limbs_.size() != other.limbs_.size()) return limbs_.size() <=> other.limbs_.size();
  return std::lexicographical_compare_three_way(limbs_.rbegin(), limbs_.rend(), other.limbs_.rbegin(),
                                                other.limbs_.rend());
}

Natural Natural::operator+(const Natural& other) const {
  Natural sum;
  uint32_t carry = 0;
  for (size_t i = 0; i < std::max(limbs_.size(), other.limbs_.size()) || carry != 0; i++) {
    uint32_t limb = carry;
    if (i < limbs_.size()) limb += limbs_[i];
    if (i < other.limbs_.size()) limb += other.limbs_[i];
    carry = limb >= kLimb;
    sum.limbs_.push_back(carry != 0 ? limb - kLimb : limb);
  }
  return sum;
}

Natural Natural::operator-(const Natural& other) const {
  Natural rest = *this;
  uint32_t borrow = 0;
  for (size_t i = 0; i < rest.limbs_.size(); i++) {
    const uint32_t take = borrow + (i < other.limbs_.size() ? other.limbs_[i] : 0);
    borrow = rest.limbs_[i] < take;
    rest.limbs_[i] = rest.limbs_[i] + (borrow != 0 ? kLimb : 0) - take;
  }
  rest.Trim();
  return rest;
}

Natural Natural::operator*(const Natural& other) const {
  Natural product;
  product.limbs_.assign(limbs_.size() + other.limbs_.size(), 0);
  for (size_t i = 0; i < limbs_.size(); i++) {
    uint64_t carry = 0;
    for (size_t k = 0; k < other.limbs_.size() || carry != 0; k++) {
      const uint64_t at = product.limbs_[i + k] + carry +
                          (k < other.limbs_.size() ? uint64_t{limbs_[i]} * other.limbs_[k] : uint64_t{0});
      product.limbs_[i + k] = static_cast<uint32_t>(at % kLimb);
      carry = at / kLimb;
    }
  }
  product.Trim();
  return product;
}

std::pair<Natural, Natural> Natural::DivMod(const Natural& other) const {
  Natural quotient, rest;
  if (*this < other) return {quotient, *this};
  quotient.limbs_.assign(limbs_.size(), 0);
  if (other.limbs_.size() == 1) {
    uint64_t carry = 0;
    for (size_t i = limbs_.size(); i-- > 0;) {
      carry = carry * kLimb + limbs_[i];
      quotient.limbs_[i] = static_cast<uint32_t>(carry / other.limbs_[0]);
      carry %= other.limbs_[0];
    }
    quotient.Trim();
    return {quotient, Natural(carry)};
  }
  for (size_t i = limbs_.size(); i-- > 0;) {
    rest.limbs_.insert(rest.limbs_.begin(), limbs_[i]);
    rest.Trim();
    uint32_t low = 0, high = kLimb - 1;  // the largest limb whose product fits, by halving
    while (low < high) {
      const uint32_t middle = low + (high - low + 1) / 2;
      if (other * Natural(middle) <= rest) {
        low = middle;
      } else {
        high = middle - 1;
      }
    }
    quotient.limbs_[i] = low;
    if (low != 0) rest = rest - other * Natural(low);
  }
  quotient.Trim();
  return {quotient, rest};
}

std::string Natural::Digits() const {
  std::string text;
  for (size_t i = limbs_.size(); i-- > 0;) {
    const std::string limb = std::to_string(limbs_[i]);
    if (!text.empty()) text.append(kLimbDigits - limb.size(), '0');
    text += limb;
  }
  return text;
}

Natural Gcd(Natural a, Natural b) {
  while (!b.IsZero()) a = std::exchange(b, a % b);
  return a;
}

Decimal Decimal::Of(bool negative, std::string_view digits, int64_t exponent) {
  while (!digits.empty() && digits.front() == '0') digits.remove_prefix(1);
  while (!digits.empty() && digits.back() == '0') {
    digits.remove_suffix(1);
    exponent++;
  }
  if (digits.empty()) return {};
  return {negative, std::string(digits), exponent};
}

std::optional<Decimal> Decimal::Read(std::string_view json) {
  const bool negative = !json.empty() && json[0] == '-';
  std::string digits;
  int64_t exponent = 0;
  bool fraction = false;
  for (size_t i = negative ? 1 : 0; i < json.size(); i++) {
    const char c = json[i];
    if (c == '.') {
      fraction = true;
    } else if (c == 'e' || c == 'E') {
      int64_t written = 0;
      const bool down = i + 1 < json.size() && json[i + 1] == '-';
      for (size_t k = i + 1; k < json.size(); k++) {
        if (json[k] >= '0' && json[k] <= '9') written = std::min<int64_t>(written * 10 + (json[k] - '0'), 1 << 30);
      }
      exponent += down ? -written : written;
      break;
    } else {
      digits += c;
      if (fraction) exponent--;
    }
  }
  Decimal value = Of(negative, digits, exponent);
  if (!value.IsZero() && (value.Position() > kMaxExponent || value.exponent < -kMaxExponent)) return std::nullopt;
  return value;
}

std::string Decimal::Text() const { return fmt::format("{}{}e{}", negative ? "-" : "", digits, exponent); }

Decimal Decimal::Negated() const { return {!negative && !IsZero(), digits, exponent}; }

std::strong_ordering Decimal::operator<=>(const Decimal& other) const {
  if (negative != other.negative) return other.negative <=> negative;
  return negative ? CompareMagnitudes(other, *this) : CompareMagnitudes(*this, other);
}

bool IsMultiple(const Decimal& value, const Decimal& step) {
  const int64_t least = std::min(value.exponent, step.exponent);
  return value.IsZero() ||
         (Natural(value.digits, value.exponent - least) % Natural(step.digits, step.exponent - least)).IsZero();
}

Decimal CommonMultiple(const Decimal& a, const Decimal& b) {
  const int64_t least = std::min(a.exponent, b.exponent);
  const Natural x(a.digits, a.exponent - least), y(b.digits, b.exponent - least);
  return Decimal::Of(false, (x / Gcd(x, y) * y).Digits(), least);
}

}  // namespace fathom::grammar
