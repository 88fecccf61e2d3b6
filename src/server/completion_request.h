// The body of POST /v1/completions, read and checked.
#pragma once

#include <string>
#include <variant>
#include <vector>

#include "server/generation_fields.h"

namespace fathom::server {

using Prompt = std::variant<std::string, std::vector<int32_t>>;

struct CompletionRequest {
  GenerationFields common;
  std::vector<Prompt> prompts;  // at least one
  bool is_list = false;         // names the prompt: "prompt[2]"
  std::string suffix;           // what follows the answer: fill in the middle
  bool echo = false;
  bool add_special_tokens = true;
  int64_t logprobs = -1;  // -1: none
};

// Throws ApiError. `deepseek`: defaults of that API.
CompletionRequest ReadCompletion(const Json& body, const ServedModel& model, bool deepseek = false);

}  // namespace fathom::server
