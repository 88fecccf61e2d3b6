// Speculative decoding: what a draft is, and which drafts are kept.
//
// Two ways to verify a drafted token d against the model's distribution p, both exact for greedy decoding and with the
// distribution of plain sampling:
//   rejection  d was drawn from q; it is kept with probability min(1, p(d) / q(d)), else a token is drawn from
//              max(0, p - q) (Leviathan et al. 2023, arXiv 2211.17192, algorithm 1). Keeps the most.
//   coupled    the token that plain sampling would draw here (the same seed and position) is drawn; d is kept if it is
//              that token. The answer is then the same with and without speculation, token by token.
// A draft is drawn with the draw that plain sampling would use at its position: that is what makes coupled drafts
// agree. Rejection decides and replaces by two other draws, so it stays exact. See docs/speculation.md.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/sampler.h"

namespace fathom::engine {

enum class Verification : uint8_t { kRejection, kCoupled };

struct Draft {
  int32_t id = 0;
  Distribution q;  // what it was drawn from; kCoupled and greedy: empty
};

// Draws the draft `ahead` places (0: the next token) behind what the sampler has accepted. logits (V,) are scratch.
Draft DrawDraft(const Sampler& sampler, int64_t ahead, std::span<float> logits, Verification how);

// The next token where `draft` was proposed (null: no draft), given the model's logits (V,), used as scratch; the
// sampler accepts it. `kept`: it is the draft.
struct Verified {
  int32_t id;
  bool kept;
};
Verified Verify(Sampler& sampler, std::span<float> logits, const Draft* draft, Verification how);

// How many drafts pay: from the measured seconds of a step of n rows, of a draft for n sequences, and from the share of
// drafts that are kept. `best` compares tokens a second for k = 0 .. max_drafts:
//   n (1 + a + a^2 + .. + a^k) / (t(n (1 + k)) + k td(n)).
class SpeculationGain {
 public:
  SpeculationGain();
  // Means that follow the latest steps; between the counts of rows that were measured times are interpolated, beyond
  // the largest they grow with the rows.
  void AddStep(int64_t rows, double seconds);
  void AddDraft(int64_t sequences, double seconds);
  void AddOutcome(int64_t drafted,
                  int64_t kept);  // of one sequence in one step; drafts behind a rejected one count not

  double StepSeconds(int64_t rows) const;
  double DraftSeconds(int64_t sequences) const;
  // Of a draft whose predecessors were kept: of the latest ones, and of an expectation, to which it returns in the
  // course of some hundred steps without drafts. So what was given up is tried again.
  double Acceptance() const;
  // The fewest of equals; max_drafts while steps or drafts were never measured.
  int64_t Best(int64_t sequences, int64_t max_drafts) const;
  double TokensPerSecond(int64_t sequences, int64_t drafts) const;

 private:
  struct Times {
    std::vector<std::pair<int64_t, double>> mean;  // by rows, ascending
    void Add(int64_t rows, double seconds);
    double At(int64_t rows) const;
  };
  Times steps_, drafts_;
  double kept_ = 0, tried_ = 0;
};

}  // namespace fathom::engine
