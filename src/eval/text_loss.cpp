#include "eval/text_loss.h"

#include <algorithm>
#include <cmath>

namespace fathom::eval {
namespace {

double Over(double sum, int64_t count) { return count > 0 ? sum / static_cast<double>(count) : 0; }

}  // namespace

std::vector<TextWindow> TextWindows(int64_t ids, int64_t window) {
  FATHOM_CHECK(window >= 2);
  std::vector<TextWindow> windows;
  const int64_t targets = ids - 1;  // at 1 .. targets
  int64_t done = 0;
  for (int64_t begin = 0; done < targets; begin += window / 2) {
    const int64_t length = std::min(window, targets - begin);
    windows.push_back({begin, length, done + 1});
    done = begin + length;
  }
  return windows;
}

void TextLoss::Add(const TextLoss& other) {
  documents += other.documents;
  tokens += other.tokens;
  bytes += other.bytes;
  nats += other.nats;
  mtp_nats += other.mtp_nats;
  mtp_tokens += other.mtp_tokens;
  mtp_agreed += other.mtp_agreed;
}
double TextLoss::nats_per_token() const { return Over(nats, tokens); }
double TextLoss::bits_per_byte() const { return Over(nats, bytes) / std::log(2.0); }
double TextLoss::perplexity() const { return std::exp(nats_per_token()); }
double TextLoss::byte_perplexity() const { return std::exp(Over(nats, bytes)); }
double TextLoss::mtp_nats_per_token() const { return Over(mtp_nats, mtp_tokens); }
double TextLoss::mtp_agreement() const { return Over(static_cast<double>(mtp_agreed), mtp_tokens); }

TextMeter::TextMeter(const model::Transformer& transformer, Context& ctx, model::Compute compute, int64_t window)
    : transformer_(transformer),
      ctx_(ctx),
      compute_(compute),
      window_(window),
      arena_(Arena::Planner()),
      tape_(Arena::Planner()) {
  const std::vector<int32_t> ids(static_cast<size_t>(window) + 1);
  Arena arena = Arena::Planner(), tape = Arena::Planner();
  model::TargetCounts targets;
  Run(ids, {}, arena, tape, &targets);
  arena_ = Arena(arena.HighWater());
  tape_ = Arena(tape.HighWater());
}

model::ObjectiveSums TextMeter::Run(std::span<const int32_t> ids, std::span<const uint8_t> learned, Arena& arena,
                                    Arena& tape, model::TargetCounts* targets) {
  const model::TrainSequences batch{
      .ids = ids, .sequences = 1, .length = static_cast<int64_t>(ids.size()) - 1, .starts = {}, .learned = learned};
  *targets = model::CountTargets(batch, transformer_.mtp_depth());
  const model::ObjectiveScale scale{.targets = *targets, .sequences = 1};
  return model::ForwardBackward(transformer_, ctx_, arena, tape,
                                {.batch = &batch, .scale = &scale, .compute = compute_});
}

TextLoss TextMeter::Measure(std::span<const int32_t> ids, int64_t bytes) {
  TextLoss loss{.documents = 1, .bytes = bytes};
  for (const TextWindow& w : TextWindows(static_cast<int64_t>(ids.size()), window_)) {
    const std::span<const int32_t> part = ids.subspan(static_cast<size_t>(w.begin), static_cast<size_t>(w.length) + 1);
    std::vector<uint8_t> learned(part.size(), 0);
    std::fill(learned.begin() + (w.scored - w.begin), learned.end(), uint8_t{1});
    model::TargetCounts targets;
    const model::ObjectiveSums sums = Run(part, learned, arena_, tape_, &targets);
    loss.tokens += targets.main;
    loss.nats += sums.main;
    if (sums.mtp.empty()) continue;
    loss.mtp_tokens += targets.mtp.front();
    loss.mtp_nats += sums.mtp.front();
    loss.mtp_agreed += sums.accepted.front();
  }
  return loss;
}

}  // namespace fathom::eval
