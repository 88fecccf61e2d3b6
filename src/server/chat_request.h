// The body of POST /v1/chat/completions, read and checked.
#pragma once

#include <nlohmann/json.hpp>

#include "server/generation_fields.h"

namespace fathom::server {

struct ChatRequest {
  GenerationFields common;
  nlohmann::ordered_json messages;  // as tokenizer::RenderChat takes them: {role, content}
  bool thinking = false;
  bool logprobs = false;
  int64_t top_logprobs = 0;
};

// Throws ApiError.
ChatRequest ReadChat(const Json& body, const ServedModel& model);

// Also of POST /tokenize. Contents that are lists of text parts are joined by line ends, developer becomes system.
nlohmann::ordered_json ReadMessages(const Fields& fields);
bool ReadThinking(const Fields& fields);

}  // namespace fathom::server
