// Token ids in, token ids out: prompts are read in chunks of bounded memory, then all running sequences take one step
// together. Slots keep their latent cache between requests, and a prompt that begins with what a slot holds is not read
// again.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "engine/latent_pool.h"
#include "engine/sampler.h"
#include "model/transformer.h"

namespace fathom::engine {

enum class FinishReason : uint8_t { kStop, kLength, kCancelled };
std::string_view Name(FinishReason reason);  // stop length cancelled

struct Request {
  std::vector<int32_t> prompt;  // at least one token
  int64_t max_tokens = 0;       // of the answer
  SamplingParams sampling;
  std::vector<int32_t> eos_ids;  // end the answer; not part of it
};

struct Answer {
  std::vector<int32_t> ids;
  FinishReason finish_reason = FinishReason::kLength;
  int64_t cached_tokens = 0;  // of the prompt, found in the slot
  double prompt_seconds = 0;  // until the first token was chosen
  double decode_seconds = 0;  // from the first token to the last
};

struct GeneratorOptions {
  model::Compute compute = model::Compute::kF32;
  DType cache_dtype = DType::kF32;
  int64_t ctx_size = 0;      // positions of a slot
  int64_t slots = 1;         // sequences at once
  int64_t chunk_tokens = 0;  // prompt tokens of one step; 0: by memory, 2048 at most
};

// Called with each token of request `index` as it is chosen; false ends that answer with kCancelled.
using OnToken = std::function<bool(size_t index, int32_t id)>;

class Generator {
 public:
  Generator(Context& ctx, const model::Transformer& transformer, const GeneratorOptions& options);
  ~Generator();

  // Runs all requests to their end, at most `slots` at a time, in order. Errors: a prompt that is empty or longer than
  // ctx_size, a token id out of range, hidden states that are not finite.
  std::vector<Answer> Run(std::span<const Request> requests, const OnToken& on_token = {});

  int64_t arena_bytes() const { return arena_.Capacity(); }
  int64_t cache_bytes() const;
  int64_t arena_overflows() const { return arena_.Overflows(); }
  int64_t chunk_tokens() const { return options_.chunk_tokens; }

 private:
  struct Slot;
  void Start(Slot& slot, size_t index, const Request& request);
  void StepOnce(std::span<const Request> requests, const OnToken& on_token, std::vector<Answer>& answers);
  void Take(Slot& slot, const Request& request, std::span<float> logits, const OnToken& on_token, Answer& answer);

  Context& ctx_;
  const model::Transformer& transformer_;
  GeneratorOptions options_;
  Arena arena_;
  std::vector<std::unique_ptr<Slot>> slots_;
};

}  // namespace fathom::engine
