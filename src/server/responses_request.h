// The body of POST /v1/responses, OpenAI's other way to ask for an answer, as the conversation that it is. Nothing is
// stored: each request brings all of its conversation.
#pragma once

#include "server/chat_request.h"

namespace fathom::server {

struct ResponsesRequest {
  ChatRequest chat;
  nlohmann::ordered_json shown;  // fields of the request that the response repeats
};

// Throws ApiError. `text`: what `body` was read from, for the order of keys.
ResponsesRequest ReadResponses(const Json& body, const ServedModel& model, std::string_view text = {});

}  // namespace fathom::server
