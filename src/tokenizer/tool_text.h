// Tools in the text of a conversation: how DeepSeek's models are told of them, how they write calls, how results come
// back to them (../shared/spec/serving.md, "Tool-call wire formats").
//
//   v3, r1   <｜tool▁calls▁begin｜> CALL \n CALL ... <｜tool▁calls▁end｜>
//            CALL = <｜tool▁call▁begin｜>function<｜tool▁sep｜>NAME\n```json\nARGUMENTS\n```<｜tool▁call▁end｜>
//   v3.1     <｜tool▁calls▁begin｜> CALL CALL ... <｜tool▁calls▁end｜>
//            CALL = <｜tool▁call▁begin｜>NAME<｜tool▁sep｜>ARGUMENTS<｜tool▁call▁end｜>
//
// The published templates of these models do not mention tools, and V3's leaves the lists of calls open; conversations
// with tools are therefore written here, so that each prompt begins with the one before it and what the model answered
// (arguments are copied as they are): what was computed for it is found in the prefix cache.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

#include "core/error.h"
#include "tokenizer/chat_template.h"

namespace fathom::tokenizer {

// Between the beginning and the end of one call: what stands before the name, between it and its arguments, behind
// them; and between two calls.
struct CallMarks {
  std::string_view calls_begin, before_name, before_arguments, after_arguments, between_calls, calls_end;
};
const CallMarks& MarksOf(ToolFormat format);  // not of kNone

// A list of calls, {"function": {"name", "arguments"}} each, as the model writes them. Arguments are text, or JSON,
// which is printed as Python prints it. Throws Error.
std::string CallsText(ToolFormat format, const nlohmann::ordered_json& calls);

// What the system prompt says of tools, {"type": "function", "function": {...}} each.
std::string ToolsText(ToolFormat format, const nlohmann::ordered_json& tools);

// A conversation with tools, with messages of calls or of results. Templates in Jinja that write tools do it
// themselves; the others as above. Error: messages of the wrong form, or a template without a known format.
Result<std::string> RenderToolChat(const ChatTemplate& t, const nlohmann::ordered_json& messages,
                                   const ChatOptions& options);

}  // namespace fathom::tokenizer
