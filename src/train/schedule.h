// What changes while a model is trained: the learning rate, the batch size, the weight of the MTP loss and the speed of
// the router's bias, each a piecewise function of the tokens seen (V3 report 4.2). Pure: a run that is resumed, or that
// skipped a step, finds the same values at the same token.
//
// A schedule is a list of segments, each beginning where the last ended, in tokens and in value. At a border the value
// is that of the segment that begins there. After the last segment its last value holds.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace fathom::train {

enum class SegmentKind : uint8_t {
  kConstant,  // `to`, or without it the value at which the last segment ended
  kLinear,    // a straight line to `to`
  kCosine,    // half a period of a cosine to `to`
};

struct Segment {
  SegmentKind kind = SegmentKind::kConstant;
  std::optional<double> from;  // where the first segment begins; 0 without it. Others begin where the last ended.
  std::optional<double> to;
  int64_t tokens = 0;  // its length in tokens,
  int64_t steps = 0;   // or in steps,
  int64_t until = 0;   // or the number of tokens seen at which it ends. None of them: to the end (the last, constant)
};

// v(key, field) for every field.
template <class S, class Visitor>
void VisitSegmentFields(S& s, Visitor&& v) {
  v("kind", s.kind);
  v("from", s.from);
  v("to", s.to);
  v("tokens", s.tokens);
  v("steps", s.steps);
  v("until", s.until);
}

struct Schedule {
  std::vector<Segment> segments;

  static Schedule Constant(double value);
  bool IsConstant() const;
  // The value when `tokens` tokens have been seen. Lengths in steps must have been resolved.
  double At(int64_t tokens) const;
  // The values at which segments begin and end: among them the least and the greatest of the schedule.
  std::vector<double> Corners() const;
};

// Throws Error naming `key` for a schedule without a meaning: no segments, a `from` after the first, a line or cosine
// without `to`, a length missing before the last segment, of two kinds, or negative; an end before its beginning;
// values outside [min, max].
void Validate(const Schedule& schedule, const std::string& key, double min, double max);

// The same schedule with every length in steps replaced by the tokens of these steps, tokens_of_step(t) being those of
// the step that begins when t tokens have been seen. Throws Error naming `key` where a segment's `until` comes too
// early.
Schedule ResolveSteps(Schedule schedule, const std::string& key, const std::function<int64_t(int64_t)>& tokens_of_step);

}  // namespace fathom::train
