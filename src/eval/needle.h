// Needle in a haystack: a fact at a depth of a context, its question at the end. For each length and depth the share of
// the answers that greedy decoding gives exactly, and the mean negative log-likelihood of the right answer.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "corpus/recall.h"
#include "engine/engine.h"
#include "tokenizer/tokenizer.h"

namespace fathom::eval {

struct NeedleOptions {
  std::vector<int64_t> lengths = {512, 1024, 2048, 4096};  // tokens of the context, question and answer included
  int64_t depths = 11;                                     // evenly from the beginning to the question
  int64_t samples = 10;                                    // haystacks for each length and depth
  int64_t others = 0;                                      // facts of other keys in the haystack, at random depths
  uint64_t seed = 0;
  corpus::RecallForm form = corpus::RecallForm::kSentences;
  std::vector<std::string> filler{};  // sentences; empty: corpus::FillerSentence
};

struct NeedlePrompt {
  int64_t length = 0, depth = 0;  // places in the options
  std::string text;               // the prompt, for people
  std::vector<int32_t> prompt;    // with bos
  std::vector<int32_t> answer;    // what is to follow it
};

// One haystack; the same for the same arguments. It has options.lengths[length] tokens or up to a sentence less, and
// the needle begins where as near as whole sentences allow to depth / (depths - 1) of what lies before the question.
// Throws Error where the length has no room for needle and question.
NeedlePrompt MakeNeedlePrompt(const NeedleOptions& options, const tokenizer::Tokenizer& tokenizer, int64_t length,
                              int64_t depth, int64_t sample);

struct NeedleResult {
  bool found = false;  // the answer, token by token
  double nll = 0;      // of the right answer, nats: all of its tokens together
};
// Answers many prompts at once, in their order.
using NeedleAnswerer = std::function<std::vector<NeedleResult>(const std::vector<NeedlePrompt>&)>;

// Greedy decoding by the engine. What was answered wrongly is asked once more for the right answer's likelihood, its
// tokens forced one by one; the engine's prefix cache makes that cheap.
NeedleAnswerer EngineAnswerer(engine::Engine& engine);

struct NeedleMap {
  std::vector<int64_t> lengths;
  std::vector<double> depths;  // 0 to 1
  int64_t samples = 0;
  std::vector<double> found, nll;        // (lengths, depths), means over the samples
  double FoundAt(int64_t length) const;  // mean over the depths
};

// on_done(prompts answered, prompts in all), after each group of prompts.
NeedleMap RunNeedles(const NeedleOptions& options, const tokenizer::Tokenizer& tokenizer,
                     const NeedleAnswerer& answerer, const std::function<void(int64_t, int64_t)>& on_done = {});

std::string NeedleTable(const NeedleMap& map);  // rows: depths; columns: lengths; per cent
// Cells with their percentages; lengths beyond `trained` (0: unknown) are marked.
std::string NeedleSvg(const NeedleMap& map, const std::string& title, int64_t trained);
std::string NeedlePng(const NeedleMap& map);
std::string NeedleJson(const NeedleMap& map);

}  // namespace fathom::eval
