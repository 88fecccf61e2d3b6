#include "train/schedule.h"

#include <fmt/format.h>

#include <cmath>

#include "core/error.h"

namespace fathom::train {
namespace {

constexpr double kPi = 3.14159265358979323846;
constexpr int64_t kMaxTokens = int64_t{1} << 60;
constexpr int64_t kMaxSteps = 100'000'000;

bool HasLength(const Segment& s) { return s.tokens > 0 || s.steps > 0 || s.until > 0; }

// The tokens of a segment that begins at token `first`.
int64_t LengthOf(const Segment& s, int64_t first) { return s.until > 0 ? s.until - first : s.tokens; }

// Calls visit(segment, value at its beginning, value at its end, first token) in order until it returns true.
template <class Visit>
void ForEachSegment(const Schedule& schedule, Visit&& visit) {
  double value = 0;
  int64_t first = 0;
  for (const Segment& s : schedule.segments) {
    double begin = s.from.value_or(value);
    const double end = s.to.value_or(begin);
    if (s.kind == SegmentKind::kConstant) begin = end;
    if (visit(s, begin, end, first)) return;
    value = end;
    first += LengthOf(s, first);
  }
}

}  // namespace

Schedule Schedule::Constant(double value) {
  Segment segment;
  segment.to = value;
  return {{segment}};
}

bool Schedule::IsConstant() const {
  const std::vector<double> corners = Corners();
  for (double c : corners) {
    if (c != corners.front()) return false;
  }
  return true;
}

double Schedule::At(int64_t tokens) const {
  double value = 0;
  ForEachSegment(*this, [&](const Segment& s, double begin, double end, int64_t first) {
    FATHOM_CHECK(s.steps == 0, "lengths in steps are resolved before a schedule is read");
    value = end;
    if (!HasLength(s)) return true;
    const int64_t length = LengthOf(s, first);
    if (tokens >= first + length) return false;
    const double x = static_cast<double>(tokens - first) / static_cast<double>(length);
    if (s.kind == SegmentKind::kLinear) value = begin + (end - begin) * x;
    if (s.kind == SegmentKind::kCosine) value = end + (begin - end) * (0.5 + 0.5 * std::cos(kPi * x));
    return true;
  });
  return value;
}

std::vector<double> Schedule::Corners() const {
  std::vector<double> corners;
  ForEachSegment(*this, [&](const Segment&, double begin, double end, int64_t) {
    corners.push_back(begin);
    corners.push_back(end);
    return false;
  });
  return corners;
}

void Validate(const Schedule& schedule, const std::string& key, double min, double max) {
  const auto fail = [&](size_t segment, const std::string& got, const std::string& expected) {
    throw Error{fmt::format("the schedule {} has no meaning", key), fmt::format("segment {}: {}", segment + 1, got),
                expected, "docs/train-recipe.md describes schedules"};
  };
  if (schedule.segments.empty())
    throw Error{fmt::format("the schedule {} has no segments", key), "", "a number or segments"};
  int64_t tokens = 0;
  for (size_t i = 0; i < schedule.segments.size(); ++i) {
    const Segment& s = schedule.segments[i];
    const bool last = i + 1 == schedule.segments.size();
    if (s.from && i > 0) fail(i, "from", "from in the first segment only: the others begin where the last ended");
    if (s.kind != SegmentKind::kConstant && !s.to) fail(i, "no to", "the value at which a line or a cosine ends");
    if (s.kind == SegmentKind::kConstant && s.from) fail(i, "from with kind constant", "to: the constant value");
    if (s.kind == SegmentKind::kConstant && !s.to && i == 0) fail(i, "no to", "to: the constant value");
    if (s.tokens < 0 || s.steps < 0 || s.until < 0) fail(i, "a negative length", "tokens, steps or until of 1 or more");
    if (s.steps > kMaxSteps) fail(i, fmt::format("{} steps", s.steps), fmt::format("at most {}", kMaxSteps));
    if (s.tokens > kMaxTokens - tokens) fail(i, fmt::format("{} tokens", s.tokens), "a length below 2^60 in all");
    if ((s.tokens > 0) + (s.steps > 0) + (s.until > 0) > 1)
      fail(i, "several lengths", "one of tokens, steps and until");
    if (!HasLength(s) && (!last || s.kind != SegmentKind::kConstant)) {
      fail(i, "no length", "tokens, steps or until, in all segments but a last constant one");
    }
    if (s.until > 0 && s.until <= tokens)
      fail(i, fmt::format("until {}", s.until), fmt::format("more than {}", tokens));
    tokens += LengthOf(s, tokens);
  }
  for (double value : schedule.Corners()) {
    if (!(value >= min && value <= max)) {
      throw Error{fmt::format("{} is out of range", key), fmt::format("{}", value), fmt::format("{} to {}", min, max)};
    }
  }
}

Schedule ResolveSteps(Schedule schedule, const std::string& key,
                      const std::function<int64_t(int64_t)>& tokens_of_step) {
  int64_t tokens = 0;
  for (Segment& s : schedule.segments) {
    if (s.until > 0 && s.until <= tokens) {
      throw Error{fmt::format("a segment of {} ends before it begins", key), fmt::format("until {}", s.until),
                  fmt::format("more than the {} tokens of the segments before it", tokens)};
    }
    for (; s.steps > 0; --s.steps) s.tokens += tokens_of_step(tokens + s.tokens);
    tokens += LengthOf(s, tokens);
  }
  return schedule;
}

}  // namespace fathom::train
