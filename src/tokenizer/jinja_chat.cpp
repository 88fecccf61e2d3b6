#include "tokenizer/jinja_chat.h"

#include <nlohmann/json.hpp>

#include "tokenizer/chat_message.h"

namespace fathom::tokenizer {
namespace {

using Json = nlohmann::ordered_json;

bool Holds(const Result<std::string>& text, std::string_view wanted) {
  return text.ok() && text.Value().find(wanted) != std::string::npos;
}

bool IsCallOnly(const Json& message) {
  if (!message.is_object() || !message.contains("tool_calls")) return false;
  const auto content = message.find("content");
  return content == message.end() || content->is_null() || *content == "";
}

// As the template wants calls; the API has arguments as text.
Json Adapted(const Json& messages, bool object_arguments, bool null_content) {
  Json out = messages;
  for (Json& m : out) {
    if (!m.is_object() || !m.contains("tool_calls") || !m["tool_calls"].is_array()) continue;
    if (IsCallOnly(m)) m["content"] = null_content ? Json(nullptr) : Json("");
    for (Json& call : m["tool_calls"]) {
      if (!call.is_object() || !call.contains("function") || !call["function"].is_object()) continue;
      const auto arguments = call["function"].find("arguments");
      if (arguments == call["function"].end() || arguments->is_string() != object_arguments) continue;
      if (!object_arguments) {
        *arguments = arguments->dump(-1, ' ', false, Json::error_handler_t::replace);
        continue;
      }
      Json parsed = Json::parse(arguments->get_ref<const std::string&>(), nullptr, /*allow_exceptions=*/false);
      if (!parsed.is_discarded()) *arguments = std::move(parsed);
    }
  }
  return out;
}

Json ProbeCall() {
  return {{"type", "function"},
          {"id", "call00001"},
          {"function", {{"name", "probe_name"}, {"arguments", R"({"probe_key": "probe_value"})"}}}};
}

}  // namespace

Result<std::string> JinjaChat::Render(const Json& messages, const ChatOptions& options) const {
  Json variables = Json::object();
  if (options.variables && options.variables->is_object()) variables = *options.variables;
  if (options.thinking) variables["thinking"] = variables["enable_thinking"] = true;
  variables["messages"] = Adapted(messages, object_arguments, null_content);
  const bool tools = options.tools && options.tools->is_array() && !options.tools->empty();
  variables["tools"] = tools ? *options.tools : Json(nullptr);
  if (!variables.contains("documents")) variables["documents"] = nullptr;
  variables["add_generation_prompt"] = options.add_generation_prompt;
  if (!options.bos_token.empty()) variables["bos_token"] = options.bos_token;
  if (!options.eos_token.empty()) variables["eos_token"] = options.eos_token;
  return program.Render(variables);
}

Result<JinjaChat> JinjaChat::Read(std::string_view source) {
  Result<jinja::Template> parsed = jinja::Template::Parse(source);
  if (!parsed) return parsed.error();
  JinjaChat chat{.program = std::move(parsed).Value(), .source = std::string(source)};
  chat.may_think = source.find(names::kThinkEnd) != std::string_view::npos;
  const Json user = {{"role", "user"}, {"content", "hello"}};
  const Json calls = {{"role", "assistant"}, {"content", nullptr}, {"tool_calls", Json::array({ProbeCall()})}};
  std::string shown;
  // The first of these that the template shows rightly; text that went through tojson has its quotes escaped.
  for (const bool objects : {true, false}) {
    for (const bool null : {true, false}) {
      if (!shown.empty()) break;
      chat.object_arguments = objects;
      chat.null_content = null;
      const Result<std::string> text = chat.Render(Json::array({user, calls}), {});
      if (Holds(text, "probe_name") &&
          (Holds(text, R"("probe_key": "probe_value")") || Holds(text, R"("probe_key":"probe_value")")))
        shown = text.Value();
    }
  }
  if (shown.empty()) {
    chat.object_arguments = false;
    chat.null_content = true;
  }
  const auto has = [&](std::string_view part) { return shown.find(part) != std::string::npos; };
  const std::string begin = std::string(names::kCallsBegin) + std::string(names::kCallBegin);
  if (has(begin + "function" + std::string(names::kSep) + "probe_name\n```json\n")) chat.format = ToolFormat::kV3;
  if (has(begin + "probe_name" + std::string(names::kSep) + "{")) chat.format = ToolFormat::kV31;
  const Json tools = Json::array({{{"type", "function"},
                                   {"function",
                                    {{"name", "probe_tool"},
                                     {"description", "A probe."},
                                     {"parameters", {{"type", "object"}, {"properties", Json::object()}}}}}}});
  chat.writes_tools = Holds(chat.Render(Json::array({user}), {.tools = &tools}), "probe_tool");
  return chat;
}

}  // namespace fathom::tokenizer
