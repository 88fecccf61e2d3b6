#include "server/chat_request.h"

#include <fmt/format.h>

#include <algorithm>

#include "server/ordered_json.h"
#include "server/tool_grammar.h"

namespace fathom::server {
namespace {

constexpr float kNever = -100;  // added to a logit: the least that a request may ask for

void ReadPrefix(const Fields& f, bool beta, ChatRequest& r) {
  const Json& messages = *f.Array("messages");
  for (size_t i = 0; i < messages.size(); ++i) {
    const Fields message(messages[i], fmt::format("{}[{}]", f.Name("messages"), i));
    if (!message.Bool("prefix").value_or(false)) continue;
    if (!beta) Refuse(message.Name("prefix"), "is supported under /beta only, as in DeepSeek's API");
    if (i + 1 < messages.size()) message.Fail("prefix", "belongs to the last message");
    r.prefix = TakePrefix(r.messages, message.Name("role"));
  }
}

void HoldToTools(const ServedModel& model, ReasoningSplitter::Start start, ChatRequest& r) {
  if (!r.tools.forced() || !model.chat) return;
  const tokenizer::ToolFormat format = model.chat->tool_format();
  const grammar::Thinking thinking = ThinkingFrom(start);
  const std::string key = fmt::format("tools {} {} {} {} {} {}", static_cast<int>(format), static_cast<int>(thinking),
                                      static_cast<int>(r.tools.choice), r.tools.named, r.tools.parallel,
                                      r.tools.shown.dump(-1, ' ', false, Json::error_handler_t::replace));
  r.common.request.grammar = model.grammars->Get(model.text.tokenizer, model.vocab_size, key, [&] {
    return grammar::AfterThinking(MakeToolMachine(r.tools, format), thinking);
  });
}

void Replace(std::string& text, const std::string& from, const std::string& to) {
  for (size_t at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size())) {
    text.replace(at, from.size(), to);
  }
}

}  // namespace

std::string ReadText(const Fields& owner, std::string_view key, std::initializer_list<std::string_view> types) {
  const Json* content = owner.Find(key);
  if (!content) owner.Fail(key, "is missing");
  if (content->is_string()) return content->get<std::string>();
  if (!content->is_array())
    owner.Fail(key, fmt::format("must be a string or a list of text parts, not {}", KindOf(*content)));
  std::string text;
  for (size_t i = 0; i < content->size(); ++i) {
    const Fields part((*content)[i], fmt::format("{}[{}]", owner.Name(key), i));
    const std::optional<std::string> type = part.String("type");
    if (!type) part.Fail("type", "is missing");
    if (std::find(types.begin(), types.end(), *type) == types.end())
      Refuse(part.Name("type"), "other than text is not supported by this server");
    const std::optional<std::string> piece = part.String("text");
    if (!piece) part.Fail("text", "is missing");
    if (i > 0) text += '\n';
    text += *piece;
  }
  return text;
}

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
    if (role == "function") Refuse(message.Name("role"), "function is not supported by this server: use tool");
    if (role != "system" && role != "user" && role != "assistant" && role != "tool") {
      message.Fail("role",
                   fmt::format("is {}: it must be system, developer, user, assistant or tool", Json(role).dump()));
    }
    if (role == "tool") {
      AddToolResult(message, ReadText(message, "content", {"text"}), out);
      continue;
    }
    const bool silent = role == "assistant" && !message.Has("content");
    out.push_back({{"role", role}, {"content", silent ? "" : ReadText(message, "content", {"text"})}});
    if (role != "assistant") continue;
    if (auto calls = ReadCalls(message); !calls.empty()) {
      if (silent) out.back()["content"] = nullptr;
      out.back()["tool_calls"] = std::move(calls);
    }
    if (const auto reasoning = message.String("reasoning_content")) out.back()["reasoning_content"] = *reasoning;
  }
  return out;
}

AnswerPrefix TakePrefix(nlohmann::ordered_json& messages, const std::string& name) {
  const auto& last = messages.back();
  if (last["role"] != "assistant") throw BadField(name, fmt::format("{} must be the assistant's", name));
  if (messages.size() == 1) throw BadField(name, fmt::format("{} must have messages before it", name));
  if (last.contains("tool_calls")) throw BadField(name, fmt::format("{} has calls: an answer begins with text", name));
  AnswerPrefix prefix{.reasoning = last.value("reasoning_content", ""), .content = last.value("content", "")};
  messages.erase(messages.size() - 1);
  return prefix;
}

void SetTools(ToolRequest tools, const ServedModel& model, ChatRequest& r) {
  r.common.remember = true;
  if (!tools.any() || !model.chat) return;
  const tokenizer::ToolFormat format = model.chat->tool_format();
  r.common.calls = tools.parsing(format);
  if (tools.choice == ToolChoice::kNone) {  // the prompt is the same, and its cache; calls cannot begin
    if (const auto id = model.text.tokenizer.IdOf(tokenizer::MarksOf(format).calls_begin))
      r.common.request.sampling.logit_bias.emplace_back(*id, kNever);
  }
  r.tools = std::move(tools);
}

void HoldToForm(const ServedModel& model, ReasoningSplitter::Start start, ChatRequest& r) {
  InWordsOf(r.names, [&] {
    HoldToTools(model, start, r);
    HoldToStructure(model, start, r.common);
  });
}

void InWordsOf(const FieldNames& names, const std::function<void()>& read) {
  try {
    read();
  } catch (ApiError& e) {
    for (const auto& [from, to] : names) {
      Replace(e.param, from, to);
      Replace(e.message, from, to);
    }
    throw;
  }
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

ChatRequest ReadChat(const Json& body, const ServedModel& model, bool beta, std::string_view text) {
  const Fields f(body);
  ChatRequest r;
  r.common = ReadGeneration(f, model, /*tools=*/true);
  r.messages = ReadMessages(f);
  SetTools(ReadTools(f, model, text), model, r);
  ReadPrefix(f, beta, r);
  r.thinking = ReadThinking(f);
  if (f.Object("chat_template_kwargs"))
    r.variables = OrderedMember(text.empty() ? body.dump() : text, "chat_template_kwargs");
  const auto old_name = f.Int("max_tokens", 1, INT64_MAX), new_name = f.Int("max_completion_tokens", 1, INT64_MAX);
  r.common.max_tokens = new_name ? new_name : old_name;
  r.logprobs = f.Bool("logprobs").value_or(false);
  const auto top = f.Int("top_logprobs", 0, kMaxTopLogprobs);
  if (top && *top > 0 && !r.logprobs) f.Fail("top_logprobs", "is allowed only where logprobs is true");
  r.top_logprobs = top.value_or(0);
  if (f.Bool("echo").value_or(false)) Refuse("echo");
  if (!f.String("suffix").value_or("").empty()) Refuse("suffix", "is for completions");
  r.common.request.logprobs = r.logprobs ? r.top_logprobs : -1;
  return r;
}

}  // namespace fathom::server
