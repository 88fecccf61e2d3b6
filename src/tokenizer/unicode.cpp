#include "tokenizer/unicode.h"

#include <iterator>

namespace fathom::tokenizer {
namespace {

constexpr auto kL = CharClass::kL, kM = CharClass::kM, kP = CharClass::kP, kS = CharClass::kS, kN = CharClass::kN,
               kW = CharClass::kW, kNd = CharClass::kNd;
#include "tokenizer/unicode_classes.inc"

}  // namespace

const std::vector<ClassRange>& ClassRanges() {
  static const std::vector<ClassRange> ranges(std::begin(kClassRanges), std::end(kClassRanges));
  return ranges;
}

const std::vector<ClassRange>& ClassRangesSinceUnicode14() {
  static const std::vector<ClassRange> ranges(std::begin(kSinceUnicode14), std::end(kSinceUnicode14));
  return ranges;
}

}  // namespace fathom::tokenizer
