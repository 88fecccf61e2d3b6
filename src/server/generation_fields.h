// The fields that /v1/chat/completions and /v1/completions share, and those that both refuse.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "engine/request.h"
#include "server/call_parser.h"
#include "server/fields.h"
#include "server/served_model.h"
#include "server/structured_fields.h"

namespace fathom::server {

inline constexpr int64_t kMaxChoices = 128;    // n
inline constexpr int64_t kMaxAnswers = 4096;   // prompts times n
inline constexpr size_t kMaxStops = 16;        // as DeepSeek's API has it
inline constexpr size_t kMaxStopBytes = 1024;  // of one
inline constexpr int64_t kMaxTopLogprobs = 20;

struct GenerationFields {
  std::string model;  // as it was asked for, or the first name
  bool stream = false, include_usage = false;
  int64_t n = 1;
  std::optional<int64_t> max_tokens;
  std::vector<std::string> stop;
  bool skip_special = true;
  bool seeded = false;     // else request.sampling.seed is random, and each prompt may have another
  CallOptions calls = {};  // what the answer is searched for
  std::optional<StructuredOutput> structured = {};  // HoldToStructure makes its grammar
  bool remember = false;                            // its tokens, for when it comes back in a conversation
  std::vector<int32_t> shown_eos;                   // end the answer and are part of it, instead of request.eos_ids
  engine::Request request;                          // all but prompt, max_tokens and logprobs
};

// Throws ApiError; of a model that is not served here with 404.
// `tools`: they are read elsewhere, not refused.
GenerationFields ReadGeneration(const Fields& fields, const ServedModel& model, bool tools = false);
void CheckModel(const Fields& fields, const ServedModel& model);

// A string or a list of them, as `stop` is.
std::vector<std::string> ReadStops(const Fields& fields, std::string_view key);
// The model's temperature for one of DeepSeek's API (the model card of V3-0324): 0.3 for 1.
double FromDeepSeekTemperature(double api);

// ApiError (code unsupported_parameter) for each field that would change the answer and is not built.
void RefuseUnsupported(const Fields& fields, bool tools = false);
[[noreturn]] void Refuse(const std::string& name, const std::string& why = "is not supported by this server");

uint64_t RandomU64();  // thread-safe; not for secrets
std::string RandomId(std::string_view prefix);

}  // namespace fathom::server
