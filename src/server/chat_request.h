// The body of POST /v1/chat/completions, read and checked.
#pragma once

#include <functional>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "server/generation_fields.h"
#include "server/reasoning.h"
#include "server/tools.h"

namespace fathom::server {

// What the answer begins with: the last message, where it is the assistant's and says so ("prefix": true).
struct AnswerPrefix {
  std::string reasoning, content;
};

using FieldNames = std::vector<std::pair<std::string, std::string>>;  // here, and in the request

struct ChatRequest {
  GenerationFields common;
  nlohmann::ordered_json messages;  // as tokenizer::RenderChat and RenderToolChat take them
  ToolRequest tools;
  nlohmann::ordered_json variables = nlohmann::ordered_json::object();  // chat_template_kwargs, for templates in Jinja
  AnswerPrefix prefix;
  bool thinking = false;
  bool logprobs = false;
  int64_t top_logprobs = 0;
  FieldNames names = {};  // of an API that has others
};

// Throws ApiError. `beta`: a prefix is allowed. `text`: what `body` was read from, for the order of keys.
ChatRequest ReadChat(const Json& body, const ServedModel& model, bool beta = false, std::string_view text = {});

// Tools as they were read, from this API or another: what the answer is searched for, what it may not write.
void SetTools(ToolRequest tools, const ServedModel& model, ChatRequest& request);
// Once it is known how the answer begins: the grammar of calls that must come, or whose arguments are strict, or of
// what is structured. Throws ApiError: what cannot be compiled, by its field in the request.
void HoldToForm(const ServedModel& model, ReasoningSplitter::Start start, ChatRequest& request);
// An ApiError of `read` has the names of the request.
void InWordsOf(const FieldNames& names, const std::function<void()>& read);

// Takes the last message out of a conversation as the beginning of its answer; throws ApiError if it is none.
AnswerPrefix TakePrefix(nlohmann::ordered_json& messages, const std::string& name);

// A text, or a list of parts of these types that hold one, joined by line ends.
std::string ReadText(const Fields& owner, std::string_view key, std::initializer_list<std::string_view> types);

// Also of POST /tokenize. Contents that are lists of text parts are joined by line ends, developer becomes system.
nlohmann::ordered_json ReadMessages(const Fields& fields);
bool ReadThinking(const Fields& fields);

}  // namespace fathom::server
