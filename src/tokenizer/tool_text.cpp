#include "tokenizer/tool_text.h"

#include <nlohmann/json.hpp>

#include "tokenizer/chat_message.h"
#include "tokenizer/python_json.h"

namespace fathom::tokenizer {
namespace {

using Json = nlohmann::ordered_json;

std::string PythonText(const Json& json) {
  return PythonJson(json.dump(-1, ' ', false, Json::error_handler_t::replace)).Value();
}

std::string ArgumentsText(const Json& call) {
  const auto function = call.is_object() ? call.find("function") : call.end();
  if (!call.is_object() || function == call.end() || !function->is_object() || !function->contains("name") ||
      !(*function)["name"].is_string()) {
    throw Error("a tool call without a function's name",
                call.dump(-1, ' ', false, Json::error_handler_t::replace).substr(0, 200));
  }
  const auto arguments = function->find("arguments");
  if (arguments == function->end()) return "{}";
  return arguments->is_string() ? arguments->get<std::string>() : PythonText(*arguments);
}

struct ConversationText {
  ToolFormat format;
  bool r1 = false;  // takes thoughts out of earlier answers, no line end between results
  const ChatOptions& options;
  std::string out = {};
  enum class After { kOther, kUser, kTool } after = After::kOther;

  void CloseResults() {
    if (after == After::kTool && format == ToolFormat::kV3) out += names::kOutputsEnd;
  }

  void System(const std::vector<Message>& messages) {
    std::string text;
    for (const Message& m : messages) {
      if (!m.Is("system")) continue;
      if (!text.empty()) text += "\n\n";
      text += m.Text("content");
    }
    if (options.tools && !options.tools->empty()) {
      if (!text.empty()) text += "\n\n";
      text += ToolsText(format, *options.tools);
    }
    out += text;
  }

  void User(const Message& m) {
    CloseResults();
    out.append(names::kUser).append(m.Text("content"));
    after = After::kUser;
  }

  void ToolResult(const Message& m) {
    if (format == ToolFormat::kV3) {
      if (after != After::kTool) {
        out += names::kOutputsBegin;
      } else if (!r1) {
        out += "\n";
      }
    }
    out.append(names::kOutputBegin).append(m.Text("content")).append(names::kOutputEnd);
    after = After::kTool;
  }

  void Assistant(const Message& m) {
    const bool calls = m.IsTrue("tool_calls");
    std::string_view content;
    if (!calls || m.IsTrue("content")) content = m.Text("content");
    const bool v31 = format == ToolFormat::kV31;
    if (after == After::kTool) {
      CloseResults();
    } else if (!v31 || after == After::kUser) {
      out += names::kAssistant;
      if (v31) out.append(names::kThink).append(names::kThinkEnd);
    }
    if ((r1 || v31) && after != After::kTool) {
      const size_t at = v31 ? content.find(names::kThinkEnd) : content.rfind(names::kThinkEnd);
      if (at != std::string_view::npos) content.remove_prefix(at + names::kThinkEnd.size());
    }
    out += content;
    if (calls) out += CallsText(format, m.Calls());
    out += names::kEnd;
    after = After::kOther;
  }

  void Prompt() {
    CloseResults();
    if (after == After::kTool || !options.add_generation_prompt) return;
    const bool v31 = format == ToolFormat::kV31;
    if (v31 && after != After::kUser) return;
    out += names::kAssistant;
    if (v31) out += names::kThink;
    if (v31 && !options.thinking) out += names::kThinkEnd;
  }
};

}  // namespace

const CallMarks& MarksOf(ToolFormat format) {
  static constexpr CallMarks kV3 = {.calls_begin = names::kCallsBegin,
                                    .before_name = "<｜tool▁call▁begin｜>function<｜tool▁sep｜>",
                                    .before_arguments = "\n```json\n",
                                    .after_arguments = "\n```<｜tool▁call▁end｜>",
                                    .between_calls = "\n",
                                    .calls_end = names::kCallsEnd};
  static constexpr CallMarks kV31 = {.calls_begin = names::kCallsBegin,
                                     .before_name = names::kCallBegin,
                                     .before_arguments = names::kSep,
                                     .after_arguments = names::kCallEnd,
                                     .between_calls = "",
                                     .calls_end = names::kCallsEnd};
  FATHOM_CHECK(format != ToolFormat::kNone);
  return format == ToolFormat::kV3 ? kV3 : kV31;
}

std::string CallsText(ToolFormat format, const Json& calls) {
  const CallMarks& marks = MarksOf(format);
  std::string out(marks.calls_begin);
  for (size_t i = 0; i < calls.size(); ++i) {
    if (i > 0) out += marks.between_calls;
    const std::string arguments = ArgumentsText(calls[i]);
    out.append(marks.before_name).append(calls[i]["function"]["name"].get_ref<const std::string&>());
    out.append(marks.before_arguments).append(arguments).append(marks.after_arguments);
  }
  return out.append(marks.calls_end);
}

// The headings and the form of each entry are those that the models know (the V2.5 and V3.1 model cards); what they say
// in between is also needed by models that were trained without.
std::string ToolsText(ToolFormat format, const Json& tools) {
  const CallMarks& marks = MarksOf(format);
  const bool v31 = format == ToolFormat::kV31;
  std::string out = v31 ? "## Tools\nYou have access to the following tools:\n"
                        : "## Tools\n\n### Function\n\nYou have the following functions available:\n";
  for (const Json& tool : tools) {
    const Json& function = tool.contains("function") ? tool["function"] : tool;
    const std::string name = function.value("name", "");
    const Json parameters = function.contains("parameters") ? function["parameters"] : Json::object();
    if (v31) {
      out.append("\n### ").append(name).append("\nDescription: ").append(function.value("description", ""));
      out.append("\n\nParameters: ").append(PythonText(parameters)).append("\n");
    } else {
      Json shown = {{"name", name}};
      if (function.contains("description")) shown["description"] = function["description"];
      shown["parameters"] = parameters;
      out.append("\n- `").append(name).append("`:\n```json\n");
      out.append(shown.dump(4, ' ', false, Json::error_handler_t::replace)).append("\n```\n");
    }
  }
  out.append("\nTo use one, write exactly this, with its name and its arguments as JSON that fits its parameters:\n");
  out.append(marks.calls_begin).append(marks.before_name).append("NAME").append(marks.before_arguments);
  out.append("ARGUMENTS").append(marks.after_arguments).append(marks.calls_end);
  out.append("\nSeveral calls stand one behind the other").append(v31 ? ".\n" : ", each on a line of its own.\n");
  return out;
}

Result<std::string> RenderToolChat(const ChatTemplate& t, const Json& messages, const ChatOptions& options) {
  const ToolFormat format = t.tool_format();
  if (t.jinja() && (t.writes_tools() || !options.tools || options.tools->empty()))
    return RenderChat(t, messages, options);
  if (format == ToolFormat::kNone) return Error("this chat template has no tools", std::string(Name(t)));
  try {
    const std::vector<Message> list = ReadMessages(messages);
    ConversationText text{.format = format, .r1 = t == ChatTemplate::kR1, .options = options};
    text.out = options.bos_token;
    text.System(list);
    for (const Message& m : list) {
      if (m.Is("user")) {
        text.User(m);
      } else if (m.Is("assistant")) {
        text.Assistant(m);
      } else if (m.Is("tool")) {
        text.ToolResult(m);
      } else if (!m.Is("system")) {
        m.Fail("has a role that this template does not know", m.role());
      }
    }
    text.Prompt();
    return std::move(text.out);
  } catch (const Error& e) {
    return e;
  }
}

}  // namespace fathom::tokenizer
