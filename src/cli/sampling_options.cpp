#include "cli/sampling_options.h"

#include <CLI/CLI.hpp>
#include <random>

namespace fathom::cli {

void AddSamplingOptions(CLI::App& c, SamplingOptions& o) {
  const char* group = "Sampling (defaults from generation_config.json)";
  c.add_option("--temperature", o.temperature, "Divides the logits; 0 takes the most likely token")->group(group);
  c.add_option("--top-k", o.top_k, "Only the K most likely tokens; 0 is off")->group(group);
  c.add_option("--top-p", o.top_p, "Only the most likely tokens that reach this probability together")->group(group);
  c.add_option("--min-p", o.min_p, "Only tokens at least this likely beside the most likely one")->group(group);
  c.add_option("--repetition-penalty", o.repetition_penalty, "Logits of tokens seen, divided (multiplied if negative)")
      ->group(group);
  c.add_option("--presence-penalty", o.presence_penalty, "Taken off tokens of the answer, once; -2 to 2")->group(group);
  c.add_option("--frequency-penalty", o.frequency_penalty, "Taken off tokens of the answer, for each time; -2 to 2")
      ->group(group);
  c.add_option("--seed", o.seed, "Makes a sampled answer repeatable")->group(group);
  c.add_option("--stop", o.stop, "Ends the answer where this text appears; may be repeated")
      ->group(group)
      ->allow_extra_args(false);
}

engine::SamplingParams Resolve(const SamplingOptions& o, const checkpoint::GenerationConfig& g) {
  engine::SamplingParams p;
  p.temperature = o.temperature.value_or(g.do_sample.value_or(true) ? g.temperature.value_or(1.0) : 0.0);
  p.top_k = o.top_k.value_or(g.top_k.value_or(0));
  p.top_p = o.top_p.value_or(g.top_p.value_or(1.0));
  p.min_p = o.min_p.value_or(g.min_p.value_or(0.0));
  p.repetition_penalty = o.repetition_penalty.value_or(g.repetition_penalty.value_or(1.0));
  p.presence_penalty = o.presence_penalty.value_or(0.0);
  p.frequency_penalty = o.frequency_penalty.value_or(0.0);
  p.seed = o.seed ? *o.seed : std::random_device()();
  engine::Validate(p);
  return p;
}

}  // namespace fathom::cli
