// Tools of Anthropic's messages and of OpenAI's responses: brought into the form that tools.h reads, and what is wrong
// with them back into the words of the request.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "server/chat_request.h"

namespace fathom::server {

// {"type": "function", "function": {name, description, parameters, strict}} for each tool, whose schema is under
// `schema`; keys keep their order where `text`, what the body was read from, is given. Tools that are no functions are
// refused by name.
nlohmann::ordered_json AsFunctions(const Fields& body, std::string_view schema, std::string_view text);

// SetTools with these tools and the choice ("auto", "required", "none" or a function's name behind a colon).
void SetForeignTools(nlohmann::ordered_json functions, const std::string& choice, bool parallel,
                     std::string_view schema, const ServedModel& model, ChatRequest& request);

// A call of the history: added to the assistant's message that is last, or to a new one.
void AddForeignCall(const std::string& field, const std::string& id, const std::string& name,
                    const std::string& arguments, nlohmann::ordered_json& messages);
void AddForeignResult(const std::string& field, const std::string& id, std::string content,
                      nlohmann::ordered_json& messages);

// {"type", "name", "schema", "strict"} as `response_format` has it.
void SetForeignFormat(const Json& format, const std::string& field, ChatRequest& request);

}  // namespace fathom::server
