#include "server/messages_request.h"

#include <fmt/format.h>

#include "server/foreign_tools.h"
#include "server/ordered_json.h"

namespace fathom::server {
namespace {

using OrderedJson = nlohmann::ordered_json;

std::string Dumped(const OrderedJson& json) { return json.dump(-1, ' ', false, OrderedJson::error_handler_t::replace); }

std::string Needed(const Fields& block, std::string_view key) {
  const std::optional<std::string> value = block.String(key);
  if (!value) block.Fail(key, "is missing");
  return *value;
}

// The blocks of a message. Results of tools are messages of their own, before the user's text. Thoughts of earlier
// answers are kept apart; what the templates do with them is theirs. `ordered` is the same content.
void ReadBlocks(const Fields& message, const std::string& role, const Json& content, const OrderedJson& ordered,
                OrderedJson& out) {
  struct Call {
    std::string field, id, name, input;
  };
  std::vector<Call> calls;
  std::string text, reasoning;
  bool said = false;
  for (size_t i = 0; i < content.size(); ++i) {
    const Fields block(content[i], fmt::format("{}[{}]", message.Name("content"), i));
    const std::string type = block.String("type").value_or("");
    if (type.empty()) block.Fail("type", "is missing");
    const bool assistant = role == "assistant";
    if (type == "text") {
      if (std::exchange(said, true)) text += '\n';
      text += Needed(block, "text");
    } else if (type == "thinking" && assistant) {
      reasoning += Needed(block, "thinking");
    } else if (type == "tool_use" && assistant) {
      if (!block.Object("input")) block.Fail("input", "is missing");
      calls.push_back({block.Name("name"), Needed(block, "id"), Needed(block, "name"), Dumped(ordered[i]["input"])});
    } else if (type == "tool_result" && !assistant) {
      if (said) block.Fail("type", "tool_result belongs before the text of a message");
      AddForeignResult(block.Name("tool_use_id"), Needed(block, "tool_use_id"),
                       block.Has("content") ? ReadText(block, "content", {"text"}) : "", out);
    } else if (type != "redacted_thinking" || !assistant) {
      Refuse(block.Name("type"), fmt::format("{} is not supported by this server", Json(type).dump()));
    }
  }
  if (role == "user" && !said && !content.empty()) return;
  out.push_back({{"role", role}, {"content", text}});
  if (!reasoning.empty()) out.back()["reasoning_content"] = reasoning;
  for (const Call& call : calls) AddForeignCall(call.field, call.id, call.name, call.input, out);
}

OrderedJson ReadTurns(const Fields& f, std::string_view body) {
  OrderedJson out = OrderedJson::array();
  if (f.Has("system")) out.push_back({{"role", "system"}, {"content", ReadText(f, "system", {"text"})}});
  const Json* messages = f.Array("messages");
  if (!messages) f.Fail("messages", "is missing: a list of messages is expected");
  if (messages->empty()) f.Fail("messages", "must have at least one message");
  const OrderedJson ordered = body.empty() ? OrderedJson(*messages) : OrderedMember(body, "messages");
  for (size_t i = 0; i < messages->size(); ++i) {
    const Fields message((*messages)[i], fmt::format("{}[{}]", f.Name("messages"), i));
    const std::string role = message.String("role").value_or("");
    if (role != "user" && role != "assistant") message.Fail("role", "must be user or assistant");
    const Json* content = message.Find("content");
    if (!content) message.Fail("content", "is missing");
    if (content->is_string()) {
      out.push_back({{"role", role}, {"content", content->get<std::string>()}});
    } else if (content->is_array()) {
      ReadBlocks(message, role, *content, ordered[i]["content"], out);
    } else {
      message.Fail("content", fmt::format("must be a string or a list of content blocks, not {}", KindOf(*content)));
    }
  }
  return out;
}

void ReadMessagesTools(const Fields& f, const ServedModel& model, std::string_view body, ChatRequest& r) {
  std::string choice;
  bool parallel = true;
  if (const Json* v = f.Object("tool_choice")) {
    const Fields fields(*v, f.Name("tool_choice"));
    const std::string type = fields.String("type").value_or("");
    if (type == "auto" || type == "none") {
      choice = type;
    } else if (type == "any") {
      choice = "required";
    } else if (type == "tool") {
      choice = fmt::format(":{}", Needed(fields, "name"));
    } else {
      fields.Fail("type", "must be auto, any, tool or none");
    }
    parallel = !fields.Bool("disable_parallel_tool_use").value_or(false);
  }
  constexpr std::string_view kSchema = "input_schema";
  SetForeignTools(AsFunctions(f, kSchema, body), choice, parallel, kSchema, model, r);
}

bool ReadMessagesThinking(const Fields& f) {
  const Json* thinking = f.Object("thinking");
  if (!thinking) return false;
  const Fields fields(*thinking, f.Name("thinking"));
  const std::string type = fields.String("type").value_or("");
  if (type != "enabled" && type != "adaptive" && type != "disabled") {
    fields.Fail("type", "must be enabled, adaptive or disabled");
  }
  fields.Int("budget_tokens", 1, INT64_MAX);  // checked, and not kept to: max_tokens counts thoughts too
  return type != "disabled";
}

}  // namespace

ChatRequest ReadMessagesRequest(const Json& body, const ServedModel& model, bool generate, std::string_view text) {
  const Fields f(body);
  for (const char* key : {"mcp_servers", "container", "context_management", "output_format"}) {
    if (const Json* v = f.Find(key); v && !(v->is_structured() && v->empty())) Refuse(f.Name(key));
  }
  ChatRequest r;
  r.common = ReadGeneration(f, model, /*tools=*/true);
  if (r.common.n != 1) f.Fail("n", "must be 1");
  r.common.stop = ReadStops(f, "stop_sequences");
  r.common.max_tokens = f.Int("max_tokens", 1, INT64_MAX);
  if (generate && !r.common.max_tokens) f.Fail("max_tokens", "is missing");
  r.messages = ReadTurns(f, text);
  ReadMessagesTools(f, model, text, r);
  if (const Json* config = f.Object("output_config")) {
    const Fields fields(*config, f.Name("output_config"));
    if (const Json* format = fields.Object("format")) SetForeignFormat(*format, fields.Name("format"), r);
  }
  r.thinking = ReadMessagesThinking(f);
  // A conversation that ends with the assistant's words: the answer goes on from there.
  if (r.messages.back()["role"] == "assistant") r.prefix = TakePrefix(r.messages, f.Name("messages"));
  return r;
}

}  // namespace fathom::server
