#include "engine/sampler.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>

#include "core/rng.h"
#include "kernels/logit_ops.h"

namespace fathom::engine {

void Validate(const SamplingParams& p, int64_t vocab_size) {
  const auto require = [](bool ok, std::string_view field, double got, std::string_view expected) {
    if (!ok) throw Error(fmt::format("{} is out of range", field), fmt::format("{}", got), std::string(expected));
  };
  require(p.temperature >= 0 && std::isfinite(p.temperature), "temperature", p.temperature, "0 or more");
  require(p.top_k >= 0, "top_k", static_cast<double>(p.top_k), "0 (off) or more");
  require(p.top_p > 0 && p.top_p <= 1, "top_p", p.top_p, "more than 0, at most 1");
  require(p.min_p >= 0 && p.min_p < 1, "min_p", p.min_p, "at least 0, less than 1");
  require(p.repetition_penalty > 0 && std::isfinite(p.repetition_penalty), "repetition_penalty", p.repetition_penalty,
          "more than 0");
  require(std::fabs(p.presence_penalty) <= 2, "presence_penalty", p.presence_penalty, "-2 to 2");
  require(std::fabs(p.frequency_penalty) <= 2, "frequency_penalty", p.frequency_penalty, "-2 to 2");
  for (const auto& [id, bias] : p.logit_bias) {
    require(std::fabs(bias) <= 100, "logit_bias", bias, "-100 to 100");
    require(id >= 0 && id < vocab_size, "a token of logit_bias", id, fmt::format("0 to {}", vocab_size - 1));
  }
}

namespace {

using Candidate = std::pair<float, int32_t>;  // logit, id

bool Likelier(const Candidate& a, const Candidate& b) {
  return a.first != b.first ? a.first > b.first : a.second < b.second;
}

std::vector<float> Maxima(std::span<const float> x, Isa isa) {
  const auto n = static_cast<int64_t>(x.size());
  std::vector<float> maxima(static_cast<size_t>(kernels::MaximaCount(n)));
  kernels::Maxima(isa, maxima.data(), x.data(), n);
  return maxima;
}

int32_t ArgMax(std::span<const float> x, std::span<const float> maxima) {
  return static_cast<int32_t>(kernels::ArgMax(x.data(), std::ssize(x), maxima.data()));
}

// The sum of all e^((x - top) scale); sums: of each kBlock. y: these, or null.
double ExpSums(Isa isa, float* y, std::vector<double>& sums, std::span<const float> x, float top, float scale) {
  const auto n = static_cast<int64_t>(x.size());
  sums.resize(static_cast<size_t>((n + kernels::kExpSumOf - 1) / kernels::kExpSumOf));
  kernels::ExpSums(isa, y, sums.data(), x.data(), n, top, scale);
  double all = 0;
  for (double sum : sums) all += sum;
  return all;
}

std::vector<Candidate> AtLeast(Isa isa, std::span<const float> x, float floor) {
  std::vector<Candidate> found;
  kernels::ForEachAtLeast(isa, x.data(), std::ssize(x), floor, [&](int32_t id) {
    found.push_back({x[static_cast<size_t>(id)], id});
    return true;
  });
  return found;
}

// The n largest, largest first. The n-th largest of the blocks' maxima is not above the n-th largest value: what lies
// below it needs no look.
std::vector<Candidate> Largest(Isa isa, std::span<const float> x, std::span<const float> maxima, int64_t n) {
  float floor = -std::numeric_limits<float>::infinity();
  if (n < static_cast<int64_t>(maxima.size())) {
    std::vector<float> m(maxima.begin(), maxima.end());
    std::nth_element(m.begin(), m.begin() + n - 1, m.end(), std::greater<>());
    floor = m[static_cast<size_t>(n - 1)];
  }
  std::vector<Candidate> found = AtLeast(isa, x, floor);
  if (n < static_cast<int64_t>(found.size())) {
    std::nth_element(found.begin(), found.begin() + n - 1, found.end(), Likelier);
    found.resize(static_cast<size_t>(n));
  }
  std::sort(found.begin(), found.end(), Likelier);
  return found;
}

// Leaves the smallest set of the likeliest that weighs `wanted` together, the one that crosses it included; in the
// order in which they were. Halving, so in linear time; the first cuts near the front, where the likely ones are few.
template <class Weight>
void KeepNucleus(std::vector<Candidate>& candidates, double wanted, const Weight& weight) {
  std::vector<Candidate> order = candidates;
  const auto at = [&](size_t i) { return order.begin() + static_cast<std::ptrdiff_t>(i); };
  // The first `low` weigh less than wanted, the first `high` do not (or are all).
  size_t low = 0, high = order.size(), step = std::max<size_t>(64, high / 16);
  double before = 0;
  while (high - low > 1) {
    const size_t middle = low + std::min(step, (high - low) / 2);
    std::nth_element(at(low), at(middle), at(high), Likelier);
    double mass = 0;
    for (size_t i = low; i < middle; ++i) mass += weight(order[i]);
    if (before + mass >= wanted) {
      high = middle;
    } else {
      low = middle;
      before += mass;
      step *= 4;
    }
  }
  const Candidate last = order[low];
  std::erase_if(candidates, [&](const Candidate& c) { return Likelier(last, c); });
}

}  // namespace

int32_t ArgMax(std::span<const float> logits, Isa isa) {
  FATHOM_CHECK(!logits.empty());
  return ArgMax(logits, Maxima(logits, isa));
}

double LogSumExp(std::span<const float> logits, Isa isa) {
  const float top = logits[static_cast<size_t>(ArgMax(logits, isa))];
  if (!std::isfinite(top)) return top;
  std::vector<double> sums;
  return top + std::log(ExpSums(isa, nullptr, sums, logits, top, 1.0f));
}

std::vector<std::pair<int32_t, float>> TopLogprobs(std::span<const float> logits, double log_sum, int64_t n, Isa isa) {
  std::vector<std::pair<int32_t, float>> top;
  if (n <= 0) return top;
  for (const auto& [logit, id] : Largest(isa, logits, Maxima(logits, isa), n)) {
    top.push_back({id, static_cast<float>(logit - log_sum)});
  }
  return top;
}

int32_t DistributionView::At(double u) const {
  double left = u * sum;
  size_t begin = 0, end = weights.size();
  if (ids.empty()) {
    size_t block = 0;
    while (block + 1 < block_sums.size() && left >= block_sums[block]) left -= block_sums[block++];
    begin = block * kBlock;
    end = std::min(end, begin + kBlock);
  }
  // Rounding may leave a rest behind the last weight: it is that of the last token that has any.
  size_t at = begin;
  for (size_t i = begin; i < end; ++i) {
    if (weights[i] <= 0) continue;
    at = i;
    left -= weights[i];
    if (left < 0) break;
  }
  return Id(at);
}

double DistributionView::Probability(int32_t id) const {
  if (ids.empty()) return weights[static_cast<size_t>(id)] / sum;
  const auto at = std::find(ids.begin(), ids.end(), id);
  return at == ids.end() ? 0 : weights[static_cast<size_t>(at - ids.begin())] / sum;
}

Sampler::Sampler(const SamplingParams& params, std::span<const int32_t> prompt, int64_t vocab_size, Isa isa)
    : params_(params), vocab_size_(vocab_size), isa_(isa) {
  Validate(params, vocab_size);
  if (params.repetition_penalty == 1.0) return;
  seen_.resize(static_cast<size_t>(vocab_size));
  for (int32_t id : prompt) See(id);
}

void Sampler::See(int32_t id) {
  if (seen_[static_cast<size_t>(id)]) return;
  seen_[static_cast<size_t>(id)] = true;
  seen_ids_.push_back(id);
}

void Sampler::Accept(int32_t id) {
  ++step_;
  if (params_.repetition_penalty != 1.0) See(id);
  if (params_.presence_penalty != 0 || params_.frequency_penalty != 0) ++answer_[id];
}

void Sampler::Penalise(std::span<float> logits) const {
  for (const auto& [id, bias] : params_.logit_bias) logits[static_cast<size_t>(id)] += bias;
  const float penalty = static_cast<float>(params_.repetition_penalty);
  for (int32_t id : seen_ids_) {
    float& logit = logits[static_cast<size_t>(id)];
    logit = logit > 0 ? logit / penalty : logit * penalty;
  }
  for (const auto& [id, count] : answer_) {
    logits[static_cast<size_t>(id)] -=
        static_cast<float>(params_.presence_penalty + params_.frequency_penalty * static_cast<double>(count));
  }
}

// Selection compares logits, not weights: rounding makes equals of some.
DistributionView Sampler::Distribute(std::span<float> logits, Distribution& storage) const {
  FATHOM_CHECK(static_cast<int64_t>(logits.size()) == vocab_size_);
  Penalise(logits);
  const std::vector<float> maxima = Maxima(logits, isa_);
  const int32_t best = ArgMax(logits, maxima);
  const float top = logits[static_cast<size_t>(best)];
  storage.ids.clear();
  storage.weights.clear();
  if (greedy() || !std::isfinite(top)) {
    storage.ids = {best};
    storage.weights = {1.0f};
    storage.sum = 1;
    return storage.view();
  }
  const double t = std::max(params_.temperature, 1e-5);
  const float scale = static_cast<float>(1 / t);
  const auto floor_of = [&](double weight) { return static_cast<float>(top + t * std::log(weight)); };
  const bool few = params_.top_k > 0 && params_.top_k < vocab_size_, nucleus = params_.top_p < 1;
  if (!few && !nucleus && params_.min_p == 0) {
    storage.sum = ExpSums(isa_, logits.data(), storage.block_sums, logits, top, scale);
    return {{}, logits, storage.block_sums, storage.sum};
  }

  std::vector<Candidate> candidates;
  const auto weight = [&](const Candidate& c) { return std::exp((c.first - top) * scale); };
  const auto weigh = [&] {
    double sum = 0;
    for (const Candidate& c : candidates) sum += weight(c);
    return sum;
  };
  double mass = 0;  // of all that top-p is a share of; 0: of the candidates
  if (few) {
    candidates = Largest(isa_, logits, maxima, params_.top_k);
    if (params_.min_p > 0) {
      const float floor = floor_of(params_.min_p);
      while (candidates.back().first < floor) candidates.pop_back();
    }
  } else if (params_.min_p > 0) {
    candidates = AtLeast(isa_, logits, floor_of(params_.min_p));
  } else {
    // Tokens of less than the V-th part of what may be left out are left out: they cannot exceed it together (half of
    // that, for rounding). Mostly far fewer suffice.
    mass = ExpSums(isa_, nullptr, storage.block_sums, logits, top, scale);
    const auto all = static_cast<double>(2 * vocab_size_);
    double part = 1;
    do {
      part = std::min(part * 64, all);
      candidates = AtLeast(isa_, logits, floor_of((1 - params_.top_p) * mass / part));
    } while (part < all && weigh() < params_.top_p * mass);
  }
  if (nucleus) {
    if (mass == 0) mass = weigh();
    KeepNucleus(candidates, params_.top_p * mass, weight);
  }
  if (few) {
    std::sort(candidates.begin(), candidates.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
  }
  storage.sum = 0;
  for (const Candidate& c : candidates) {
    storage.ids.push_back(c.second);
    storage.weights.push_back(weight(c));
    storage.sum += storage.weights.back();
  }
  return storage.view();
}

Distribution Sampler::Distribute(std::span<float> logits) const {
  Distribution p;
  if (Distribute(logits, p).ids.empty()) p.weights.assign(logits.begin(), logits.end());
  return p;
}

bool Sampler::plain_greedy() const {
  return greedy() && params_.repetition_penalty == 1 && params_.presence_penalty == 0 &&
         params_.frequency_penalty == 0 && params_.logit_bias.empty();
}

int32_t Sampler::Sample(std::span<float> logits) const {
  Distribution storage;
  return Draw(Distribute(logits, storage), 0);
}

namespace {

// Streams of the random numbers: a draw's counter is the position in the answer, in the race with the token above it.
constexpr uint64_t kTokenStream = 0x5a17, kAcceptanceStream = 0x5a18, kResidualStream = 0x5a19, kRaceStream = 0x5a1a,
                   kRestStream = 0x5a1b;

double Uniform(uint64_t seed, uint64_t stream, uint64_t counter) { return Rng(seed, stream, counter).NextDouble(); }
double Exponential(uint64_t seed, uint64_t stream, uint64_t counter) {
  return -std::log1p(-Uniform(seed, stream, counter));
}

// Those that race one by one: the first kMostRacers of weight kRacer or more.
constexpr float kRacer = 0x1p-10f;
constexpr size_t kMostRacers = 1024;

std::vector<size_t> Racers(const DistributionView& p, Isa isa) {
  std::vector<size_t> places;
  kernels::ForEachAtLeast(isa, p.weights.data(), std::ssize(p.weights), kRacer, [&](int32_t place) {
    places.push_back(static_cast<size_t>(place));
    return places.size() < kMostRacers;
  });
  return places;
}

// The token at the share u of those that are not racers, whose weights are `rest` together; -1 if they have none.
int32_t AmongOthers(const DistributionView& p, const std::vector<size_t>& racers, double rest, double u) {
  double left = u * rest;
  auto racer = racers.begin();
  int32_t last = -1;
  for (size_t begin = 0; begin < p.weights.size();) {
    const size_t end = std::min(p.weights.size(), begin + DistributionView::kBlock);
    const auto first_racer = racer;
    if (p.ids.empty()) {
      double sum = p.block_sums[begin / DistributionView::kBlock];
      for (; racer != racers.end() && *racer < end; ++racer) sum -= p.weights[*racer];
      if (left >= sum && end < p.weights.size()) {
        left -= sum;
        begin = end;
        continue;
      }
    }
    racer = first_racer;
    for (size_t i = begin; i < end; ++i) {
      if (racer != racers.end() && *racer == i) {
        ++racer;
      } else if (p.weights[i] > 0) {
        last = p.Id(i);
        left -= p.weights[i];
        if (left < 0) return last;
      }
    }
    begin = end;
  }
  return last;
}

}  // namespace

// A race: token i arrives after an exponential time of rate w_i, which is E_i / w_i with E_i of rate 1; the first is i
// with probability w_i / sum. E_i depends on seed, position and token alone, so another distribution over nearly the
// same weights has nearly the same times and mostly the same winner. The unlikely run as one, and if they win one of
// them is drawn from the line of their weights: what is exact for any choice of racers.
int32_t Sampler::Draw(const DistributionView& p, int64_t ahead) const {
  const auto position = static_cast<uint64_t>(step_ + ahead);
  const std::vector<size_t> racers = Racers(p, isa_);
  double rest = p.sum, first = std::numeric_limits<double>::infinity();
  int32_t winner = -1;
  for (size_t place : racers) {
    const int32_t id = p.Id(place);
    const double weight = p.weights[place];
    const double time = Exponential(params_.seed, kRaceStream, static_cast<uint64_t>(id) << 32 | position) / weight;
    rest -= weight;
    if (time < first) {
      first = time;
      winner = id;
    }
  }
  if (racers.size() == p.weights.size() || rest <= 0) return winner;
  if (Exponential(params_.seed, kRestStream, position) / rest >= first) return winner;
  const int32_t other = AmongOthers(p, racers, rest, Uniform(params_.seed, kTokenStream, position));
  return other >= 0 ? other : winner;
}
double Sampler::AcceptanceDraw(int64_t ahead) const {
  return Uniform(params_.seed, kAcceptanceStream, static_cast<uint64_t>(step_ + ahead));
}
double Sampler::ResidualDraw(int64_t ahead) const {
  return Uniform(params_.seed, kResidualStream, static_cast<uint64_t>(step_ + ahead));
}

}  // namespace fathom::engine
