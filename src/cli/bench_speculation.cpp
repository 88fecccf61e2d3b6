#include "cli/bench_speculation.h"

#include <algorithm>

#include "engine/engine.h"
#include "kernels/peak.h"
#include "tokenizer/model_files.h"

namespace fathom::cli {
namespace {

// The text's ids, or, for a model without a tokenizer, any.
std::vector<int32_t> Prompt(const LoadedModel& model, const std::string& text) {
  constexpr int64_t kTokens = 16;
  std::vector<int32_t> ids{static_cast<int32_t>(model.config().bos_token_id)};
  try {
    const tokenizer::ModelText files = tokenizer::LoadModelText(model.checkpoint().path());
    CheckVocabulary(files.tokenizer, model.config());
    for (const tokenizer::TokenId id : files.tokenizer.Encode(text)) ids.push_back(static_cast<int32_t>(id));
  } catch (const Error&) {
    for (int64_t i = 0; i < kTokens; ++i) ids.push_back(static_cast<int32_t>(i * 7919 % model.config().vocab_size));
  }
  return ids;
}

}  // namespace

SpeculationBenchResult RunSpeculationBench(LoadedModel& model, const SpeculationBenchPlan& plan) {
  engine::Request request;
  request.prompt = Prompt(model, plan.prompt);
  const int64_t positions =
      std::min(model.config().max_position_embeddings, static_cast<int64_t>(request.prompt.size()) + plan.tokens);
  request.max_tokens = plan.tokens;
  request.sampling.temperature = plan.temperature;
  model.BuildTransformer(positions);
  engine::EngineOptions options{.compute = model.compute(),
                                .cache_dtype = model.cache_dtype(),
                                .max_context = positions,
                                .max_running = 1,
                                .prefix_cache = false};
  engine::Engine plain(model.ctx(), model.transformer(), options);
  options.drafts = plan.drafts;
  options.always_draft = true;
  engine::Engine speculative(model.ctx(), model.transformer(), options);

  SpeculationBenchResult r;
  std::vector<double> plain_rates, speculative_rates;
  const auto rate = [&](engine::Engine& engine) {
    const engine::Answer a = engine.Run(std::span(&request, 1)).front();
    r.drafted += a.drafted;
    r.accepted += a.accepted;
    return static_cast<double>(a.ids.size() - 1) / a.decode_seconds;
  };
  rate(plain);
  rate(speculative);
  r.drafted = r.accepted = 0;
  const engine::EngineStats plain_before = plain.stats(), before = speculative.stats();
  for (int i = 0; i < plan.rounds; ++i) {
    request.sampling.seed = static_cast<uint64_t>(i);
    plain_rates.push_back(rate(plain));
    speculative_rates.push_back(rate(speculative));
  }
  const engine::EngineStats plain_after = plain.stats(), after = speculative.stats();
  const auto mean = [](double seconds, int64_t count) { return count > 0 ? seconds / static_cast<double>(count) : 0; };
  r.plain_rate = kernels::Median(plain_rates);
  r.speculative_rate = kernels::Median(speculative_rates);
  const int64_t steps = after.decode_steps - before.decode_steps, rounds = after.draft_rounds - before.draft_rounds;
  r.token_seconds = mean(plain_after.decode_seconds - plain_before.decode_seconds,
                         plain_after.decode_steps - plain_before.decode_steps);
  r.verify_seconds = mean(after.decode_seconds - before.decode_seconds, steps);
  r.draft_seconds = mean(after.draft_round_seconds - before.draft_round_seconds, rounds);
  r.acceptance = mean(static_cast<double>(r.accepted), r.drafted);
  r.kept_per_step = mean(static_cast<double>(r.accepted), steps);
  r.rounds_per_step = mean(static_cast<double>(rounds), steps);
  return r;
}

}  // namespace fathom::cli
