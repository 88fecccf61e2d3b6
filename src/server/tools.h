// Tools of a chat request: the functions that the model may call, which of them it must, and the calls and results of
// the history. The form is OpenAI's; other APIs bring theirs into it first.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "server/call_parser.h"
#include "server/fields.h"
#include "server/served_model.h"

namespace fathom::server {

inline constexpr size_t kMaxTools = 128;  // as DeepSeek's API has it
inline constexpr size_t kMaxToolName = 64;
inline constexpr size_t kMaxCalls = 1024;  // of one message of the history

enum class ToolChoice : uint8_t { kNone, kAuto, kRequired, kNamed };

struct Tool {
  std::string name;
  bool strict = false;             // arguments fit `parameters`, by a grammar
  nlohmann::json parameters = {};  // JSON Schema; null: none given
};

struct ToolRequest {
  nlohmann::ordered_json shown = nlohmann::ordered_json::array();  // for the prompt: keys in their order
  std::vector<Tool> tools;
  ToolChoice choice = ToolChoice::kAuto;
  std::string named;  // by kNamed
  bool parallel = true;

  bool any() const { return !tools.empty(); }
  // The answer is held to a grammar: a call must come, or its arguments are strict.
  bool forced() const;
  CallOptions parsing(tokenizer::ToolFormat format) const;  // of the answer
};

// tools, tool_choice, parallel_tool_calls. `body` is the text of the same object, for the order of keys; without it
// keys are in alphabetical order. Throws ApiError naming the field: names that are none or there twice, schemas that
// are no objects, a choice that is none of the tools, a model whose template has no tools.
ToolRequest ReadTools(const Fields& fields, const ServedModel& model, std::string_view body = {});

// Of a message of the assistant: tool_calls as the prompt wants them (type, id, function {name, arguments: text});
// empty if there are none.
nlohmann::ordered_json ReadCalls(const Fields& message);
// Of a message with a result: the call it belongs to is one of those of the last message with calls. Results are put in
// the order of their calls, which have no ids in the prompt; `messages` are those before. Throws ApiError.
void AddToolResult(const Fields& message, std::string content, nlohmann::ordered_json& messages);

// Whether a conversation is written with tools: some are given, or there are calls or results.
bool HasTools(const nlohmann::ordered_json& messages);

// The text of each of the assistant's answers in a history, as the model wrote it.
std::vector<std::string> AnswersOf(const nlohmann::ordered_json& messages, tokenizer::ToolFormat format);

}  // namespace fathom::server
