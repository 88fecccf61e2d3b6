#include "server/chat_request.h"

#include <fmt/format.h>

namespace fathom::server {
namespace {

std::string ReadContent(const Fields& message, bool optional) {
  const Json* content = message.Find("content");
  if (!content) {
    if (optional) return "";
    message.Fail("content", "is missing");
  }
  if (content->is_string()) return content->get<std::string>();
  if (!content->is_array())
    message.Fail("content", fmt::format("must be a string or a list of text parts, not {}", KindOf(*content)));
  std::string text;
  for (size_t i = 0; i < content->size(); ++i) {
    const Fields part((*content)[i], fmt::format("{}[{}]", message.Name("content"), i));
    const std::optional<std::string> type = part.String("type");
    if (!type) part.Fail("type", "is missing");
    if (*type != "text") Refuse(part.Name("type"), "other than text is not supported by this server");
    const std::optional<std::string> piece = part.String("text");
    if (!piece) part.Fail("text", "is missing");
    if (i > 0) text += '\n';
    text += *piece;
  }
  return text;
}

}  // namespace

nlohmann::ordered_json ReadMessages(const Fields& f) {
  const Json* messages = f.Array("messages");
  if (!messages) f.Fail("messages", "is missing: a list of messages is expected");
  if (messages->empty()) f.Fail("messages", "must have at least one message");
  nlohmann::ordered_json out = nlohmann::ordered_json::array();
  for (size_t i = 0; i < messages->size(); ++i) {
    const Fields message((*messages)[i], fmt::format("{}[{}]", f.Name("messages"), i));
    std::string role = message.String("role").value_or("");
    if (role.empty()) message.Fail("role", "is missing");
    if (role == "developer") role = "system";
    if (role == "tool" || role == "function")
      Refuse(message.Name("role"),
             "other than system, developer, user and "
             "assistant is not supported by this server");
    if (role != "system" && role != "user" && role != "assistant") {
      message.Fail("role", fmt::format("is {}: it must be system, developer, user or assistant", Json(role).dump()));
    }
    if (message.Array("tool_calls") && !message.Array("tool_calls")->empty()) Refuse(message.Name("tool_calls"));
    if (message.Bool("prefix").value_or(false)) Refuse(message.Name("prefix"));
    out.push_back({{"role", role}, {"content", ReadContent(message, role == "assistant")}});
  }
  return out;
}

bool ReadThinking(const Fields& f) {
  bool thinking = false;
  if (const Json* arguments = f.Object("chat_template_kwargs")) {
    const Fields fields(*arguments, f.Name("chat_template_kwargs"));
    thinking = fields.Bool("thinking").value_or(fields.Bool("enable_thinking").value_or(false));
  }
  if (const Json* v = f.Object("thinking")) {
    const Fields fields(*v, f.Name("thinking"));
    const std::string type = fields.String("type").value_or("");
    if (type != "enabled" && type != "disabled") fields.Fail("type", "must be enabled or disabled");
    thinking = type == "enabled";
  }
  return thinking;
}

ChatRequest ReadChat(const Json& body, const ServedModel& model) {
  const Fields f(body);
  ChatRequest r;
  r.common = ReadGeneration(f, model);
  r.messages = ReadMessages(f);
  r.thinking = ReadThinking(f);
  const auto old_name = f.Int("max_tokens", 1, INT64_MAX), new_name = f.Int("max_completion_tokens", 1, INT64_MAX);
  r.common.max_tokens = new_name ? new_name : old_name;
  r.logprobs = f.Bool("logprobs").value_or(false);
  const auto top = f.Int("top_logprobs", 0, kMaxTopLogprobs);
  if (top && *top > 0 && !r.logprobs) f.Fail("top_logprobs", "is allowed only where logprobs is true");
  r.top_logprobs = top.value_or(0);
  if (f.Bool("echo").value_or(false)) Refuse("echo");
  r.common.request.logprobs = r.logprobs ? r.top_logprobs : -1;
  return r;
}

}  // namespace fathom::server
