// How well a model predicts text: cross-entropy of every token of a document after its first, the
// multi-token-prediction modules' beside it.
//
// A document longer than a window is read in windows that begin half a window apart; of each but the first only the
// second half is scored, so that a token has at least half a window of context, or all there is. Each token is scored
// once.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/context.h"
#include "model/objective.h"

namespace fathom::eval {

// Inputs [begin, begin + length) of a document's ids; scored are the targets [scored, begin + length].
struct TextWindow {
  int64_t begin = 0, length = 0, scored = 0;
};
// Of a document of `ids` ids; none for fewer than two.
std::vector<TextWindow> TextWindows(int64_t ids, int64_t window);

struct TextLoss {
  int64_t documents = 0, tokens = 0, bytes = 0;  // tokens: scored; bytes: of the text
  double nats = 0;                               // sum over the tokens
  // Of the first module: sum over the tokens that it predicts, and how often its likeliest token is the main model's,
  // both given the real text.
  double mtp_nats = 0;
  int64_t mtp_tokens = 0, mtp_agreed = 0;

  void Add(const TextLoss& other);
  double nats_per_token() const;
  double bits_per_byte() const;
  double perplexity() const;       // a token
  double byte_perplexity() const;  // a byte
  double mtp_nats_per_token() const;
  double mtp_agreement() const;
};

class TextMeter {
 public:
  // The transformer has at least `window` positions.
  TextMeter(const model::Transformer& transformer, Context& ctx, model::Compute compute, int64_t window);
  // ids: a document with what begins and ends it; `bytes` of its text.
  TextLoss Measure(std::span<const int32_t> ids, int64_t bytes);

 private:
  model::ObjectiveSums Run(std::span<const int32_t> ids, std::span<const uint8_t> learned, Arena& arena, Arena& tape,
                           model::TargetCounts* targets);
  const model::Transformer& transformer_;
  Context& ctx_;
  model::Compute compute_;
  int64_t window_;
  Arena arena_, tape_;
};

}  // namespace fathom::eval
