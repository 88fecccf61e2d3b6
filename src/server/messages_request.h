// The body of POST /v1/messages (Anthropic's API) and of its count_tokens, as the conversation that it is.
#pragma once

#include "server/chat_request.h"

namespace fathom::server {

// Throws ApiError. `generate`: max_tokens is needed, as that API has it. `text`: what `body` was read from, for the
// order of keys.
ChatRequest ReadMessagesRequest(const Json& body, const ServedModel& model, bool generate, std::string_view text = {});

}  // namespace fathom::server
