// Exact numbers: natural numbers of any size, and the decimals that JSON texts and schemas write.
#pragma once

#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace fathom::grammar {

class Natural {
 public:
  Natural() = default;
  explicit Natural(uint64_t value);
  // `digits` (decimal, may be empty: 0) x 10^zeros.
  Natural(std::string_view digits, int64_t zeros);

  bool IsZero() const { return limbs_.empty(); }
  std::strong_ordering operator<=>(const Natural& other) const;
  bool operator==(const Natural& other) const = default;
  Natural operator+(const Natural& other) const;
  Natural operator-(const Natural& other) const;  // of no larger one
  Natural operator*(const Natural& other) const;
  Natural operator/(const Natural& other) const { return DivMod(other).first; }  // of no 0; towards 0
  Natural operator%(const Natural& other) const { return DivMod(other).second; }
  // quotient, rest
  std::pair<Natural, Natural> DivMod(const Natural& other) const;
  std::string Digits() const;  // "" of 0

 private:
  void Trim();
  std::vector<uint32_t> limbs_;  // of 10^9, the least first, no 0 at the end
};
Natural Gcd(Natural a, Natural b);

// (-1)^negative x digits x 10^exponent. digits: neither begins nor ends with 0; 0 is no digits, exponent 0, not
// negative.
struct Decimal {
  // Larger exponents (of the value's first or last digit) are not taken: what a few bytes could ask for is bounded.
  static constexpr int64_t kMaxExponent = 400;

  bool negative = false;
  std::string digits = {};
  int64_t exponent = 0;

  // A JSON number; nullopt: beyond kMaxExponent.
  static std::optional<Decimal> Read(std::string_view json);
  static Decimal Of(bool negative, std::string_view digits, int64_t exponent);

  bool IsZero() const { return digits.empty(); }
  // Digits before the point of a value >= 1; <= 0: zeros behind the point.
  int64_t Position() const { return static_cast<int64_t>(digits.size()) + exponent; }
  Decimal Negated() const;
  std::strong_ordering operator<=>(const Decimal& other) const;
  bool operator==(const Decimal& other) const = default;
  std::string Text() const;
};
// Is `value` an integer multiple of `step` (not 0)?
bool IsMultiple(const Decimal& value, const Decimal& step);
// The least common multiple, positive.
Decimal CommonMultiple(const Decimal& a, const Decimal& b);

}  // namespace fathom::grammar
