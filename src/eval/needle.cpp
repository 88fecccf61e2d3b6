#include "eval/needle.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "core/rng.h"

namespace fathom::eval {
namespace {

constexpr int64_t kGroup = 256;  // prompts handed to the answerer at a time, at most

std::string Join(const std::vector<std::string>& sentences) {
  std::string text;
  for (const std::string& s : sentences) text += (text.empty() ? "" : " ") + s;
  return text;
}

std::string Filler(const NeedleOptions& o, Rng& rng) {
  if (o.filler.empty()) return corpus::FillerSentence(rng);
  return o.filler[static_cast<size_t>(rng.NextBelow(static_cast<int64_t>(o.filler.size())))];
}

}  // namespace

NeedlePrompt MakeNeedlePrompt(const NeedleOptions& o, const tokenizer::Tokenizer& tokenizer, int64_t length,
                              int64_t depth, int64_t sample) {
  const int64_t tokens = o.lengths.at(static_cast<size_t>(length));
  // The same haystack at every depth: what differs between two cells of a column is the depth alone.
  Rng rng(o.seed, static_cast<uint64_t>(tokens) << 24 ^ static_cast<uint64_t>(sample));
  const corpus::Needle needle = corpus::DrawNeedle(rng, o.form);
  std::vector<std::string> keys = {needle.key};
  const auto count = [&](const std::string& text) { return static_cast<int64_t>(tokenizer.Encode(text).size()); };
  NeedlePrompt out{.length = length, .depth = depth, .text = {}, .prompt = {}, .answer = {}};
  const int64_t ends = count(" " + needle.fact) + count(" " + needle.question + needle.continuation) + 1;
  int64_t room = tokens - ends;
  std::vector<std::string> hay, others;
  for (int64_t i = 0; i < o.others; ++i) {
    const corpus::Needle other = corpus::DrawNeedle(rng, o.form, keys);
    keys.push_back(other.key);
    others.push_back(other.fact);
    room -= count(" " + other.fact);
  }
  if (room < 0) {
    throw Error("a context is too short for a needle and its question", fmt::format("{} tokens", tokens),
                fmt::format("{} or more", tokens - room));
  }
  std::vector<int64_t> sizes;
  for (;;) {
    std::string s = Filler(o, rng);
    const int64_t size = count(" " + s);
    if (size > room) break;
    room -= size;
    sizes.push_back(size);
    hay.push_back(std::move(s));
  }
  for (std::string& fact : others) {
    const auto at = static_cast<ptrdiff_t>(rng.NextBelow(static_cast<int64_t>(hay.size()) + 1));
    sizes.insert(sizes.begin() + at, count(" " + fact));
    hay.insert(hay.begin() + at, std::move(fact));
  }
  int64_t all = 0, before = 0;
  for (int64_t size : sizes) all += size;
  const double wanted =
      o.depths > 1 ? static_cast<double>(all) * static_cast<double>(depth) / static_cast<double>(o.depths - 1) : 0;
  size_t place = 0;
  while (place < hay.size() && static_cast<double>(before) + static_cast<double>(sizes[place]) / 2 <= wanted)
    before += sizes[place++];
  hay.insert(hay.begin() + static_cast<ptrdiff_t>(place), needle.fact);
  hay.push_back(needle.question);
  out.text = Join(hay);
  const std::vector<int32_t> prompt = tokenizer.Encode(out.text);
  const std::vector<int32_t> whole = tokenizer.Encode(out.text + needle.continuation);
  FATHOM_CHECK(whole.size() > prompt.size() && std::equal(prompt.begin(), prompt.end(), whole.begin()),
               "the answer's first token does not begin where the question ends");
  if (tokenizer.bos_id()) out.prompt.push_back(*tokenizer.bos_id());
  out.prompt.insert(out.prompt.end(), prompt.begin(), prompt.end());
  out.answer.assign(whole.begin() + static_cast<ptrdiff_t>(prompt.size()), whole.end());
  return out;
}

NeedleAnswerer EngineAnswerer(engine::Engine& engine) {
  return [&engine](const std::vector<NeedlePrompt>& prompts) {
    std::vector<engine::Request> requests;
    for (const NeedlePrompt& p : prompts) {
      engine::Request r;
      r.prompt = p.prompt;
      r.max_tokens = static_cast<int64_t>(p.answer.size());
      r.sampling.temperature = 0;
      r.logprobs = 0;
      requests.push_back(std::move(r));
    }
    std::vector<NeedleResult> results(prompts.size());
    std::vector<double> likelihood(prompts.size());
    const std::vector<engine::Answer> answers = engine.Run(requests, [&](size_t i, const engine::Token& token) {
      likelihood[i] -= token.logprob;
      return true;
    });
    std::vector<size_t> wrong;
    for (size_t i = 0; i < prompts.size(); ++i) {
      results[i].found = answers[i].ids == prompts[i].answer;
      results[i].nll = likelihood[i];
      if (!results[i].found) wrong.push_back(i);
    }
    // The right token gets a bias that nothing else comes up to; its reported likelihood is without it.
    for (size_t k = 0; !wrong.empty(); ++k) {
      std::vector<size_t> asked;
      requests.clear();
      for (size_t i : wrong) {
        if (k == 0) results[i].nll = 0;
        if (k >= prompts[i].answer.size()) continue;
        engine::Request r;
        r.prompt = prompts[i].prompt;
        r.prompt.insert(r.prompt.end(), prompts[i].answer.begin(),
                        prompts[i].answer.begin() + static_cast<ptrdiff_t>(k));
        r.max_tokens = 1;
        r.sampling.temperature = 0;
        r.sampling.logit_bias = {{prompts[i].answer[k], 100.0f}};
        r.logprobs = 0;
        asked.push_back(i);
        requests.push_back(std::move(r));
      }
      if (asked.empty()) break;
      engine.Run(requests, [&](size_t j, const engine::Token& token) {
        results[asked[j]].nll -= token.logprob;
        return true;
      });
    }
    return results;
  };
}

double NeedleMap::FoundAt(int64_t length) const {
  double sum = 0;
  for (size_t d = 0; d < depths.size(); ++d) sum += found[static_cast<size_t>(length) * depths.size() + d];
  return sum / static_cast<double>(depths.size());
}

NeedleMap RunNeedles(const NeedleOptions& o, const tokenizer::Tokenizer& tokenizer, const NeedleAnswerer& answerer,
                     const std::function<void(int64_t, int64_t)>& on_done) {
  if (o.lengths.empty() || o.depths < 1 || o.samples < 1)
    throw Error("nothing to measure", "", "lengths, depths and samples, one or more of each");
  NeedleMap map{.lengths = o.lengths, .depths = {}, .samples = o.samples, .found = {}, .nll = {}};
  for (int64_t d = 0; d < o.depths; ++d)
    map.depths.push_back(o.depths > 1 ? static_cast<double>(d) / static_cast<double>(o.depths - 1) : 0);
  map.found.assign(o.lengths.size() * static_cast<size_t>(o.depths), 0);
  map.nll = map.found;
  const int64_t all = static_cast<int64_t>(map.found.size()) * o.samples;
  int64_t done = 0;
  std::vector<NeedlePrompt> group;
  const auto answer = [&] {
    const std::vector<NeedleResult> results = answerer(group);
    FATHOM_CHECK(results.size() == group.size());
    for (size_t i = 0; i < group.size(); ++i) {
      const auto cell = static_cast<size_t>(group[i].length * o.depths + group[i].depth);
      map.found[cell] += (results[i].found ? 1.0 : 0.0) / static_cast<double>(o.samples);
      map.nll[cell] += results[i].nll / static_cast<double>(o.samples);
    }
    done += static_cast<int64_t>(group.size());
    group.clear();
    if (on_done) on_done(done, all);
  };
  for (int64_t l = 0; l < static_cast<int64_t>(o.lengths.size()); ++l) {
    for (int64_t d = 0; d < o.depths; ++d) {
      for (int64_t s = 0; s < o.samples; ++s) {
        group.push_back(MakeNeedlePrompt(o, tokenizer, l, d, s));
        if (static_cast<int64_t>(group.size()) == kGroup) answer();
      }
    }
    if (!group.empty()) answer();  // a group is of one length
  }
  return map;
}

}  // namespace fathom::eval
