#include "server/responses_request.h"

#include <fmt/format.h>

#include "server/foreign_tools.h"

namespace fathom::server {
namespace {

using OrderedJson = nlohmann::ordered_json;

void AddTurn(OrderedJson& turns, const Fields& item, std::string& reasoning) {
  std::string role = item.String("role").value_or("");
  if (role == "developer") role = "system";
  if (role != "system" && role != "user" && role != "assistant") {
    item.Fail("role", "must be system, developer, user or assistant");
  }
  turns.push_back({{"role", role}, {"content", ReadText(item, "content", {"input_text", "output_text", "text"})}});
  if (role == "assistant" && !reasoning.empty()) turns.back()["reasoning_content"] = std::exchange(reasoning, {});
}

std::string NeededField(const Fields& item, std::string_view key) {
  const std::optional<std::string> value = item.String(key);
  if (!value) item.Fail(key, "is missing");
  return *value;
}

// A text is the user's; items are messages, calls and their results, and what the model thought before the next of its
// own.
OrderedJson ReadInput(const Fields& f) {
  OrderedJson turns = OrderedJson::array();
  if (const auto instructions = f.String("instructions"); instructions && !instructions->empty()) {
    turns.push_back({{"role", "system"}, {"content", *instructions}});
  }
  const Json* input = f.Find("input");
  if (!input) f.Fail("input", "is missing");
  if (input->is_string()) {
    turns.push_back({{"role", "user"}, {"content", input->get<std::string>()}});
    return turns;
  }
  if (!input->is_array()) f.Fail("input", fmt::format("must be text or a list of items, not {}", KindOf(*input)));
  if (input->empty()) f.Fail("input", "must have at least one item");
  std::string reasoning;
  for (size_t i = 0; i < input->size(); ++i) {
    const Fields item((*input)[i], fmt::format("{}[{}]", f.Name("input"), i));
    const std::string type = item.String("type").value_or("message");
    if (type == "message") {
      AddTurn(turns, item, reasoning);
    } else if (type == "reasoning") {
      if (item.Has("content")) reasoning += ReadText(item, "content", {"reasoning_text"});
    } else if (type == "function_call") {
      AddForeignCall(item.Name("name"), NeededField(item, "call_id"), NeededField(item, "name"),
                     NeededField(item, "arguments"), turns);
      if (!reasoning.empty()) turns.back()["reasoning_content"] = std::exchange(reasoning, {});
    } else if (type == "function_call_output") {
      AddForeignResult(item.Name("call_id"), NeededField(item, "call_id"),
                       ReadText(item, "output", {"input_text", "text"}), turns);
    } else {
      Refuse(item.Name("type"), fmt::format("{} is not supported by this server", Json(type).dump()));
    }
  }
  return turns;
}

// What would need a memory of earlier responses, or what is not built.
void RefuseResponses(const Fields& f) {
  for (const char* key : {"previous_response_id", "conversation"}) {
    if (f.Has(key)) Refuse(f.Name(key), "is not supported: this server stores nothing; send the whole conversation");
  }
  for (const char* key : {"prompt", "context_management", "moderation"}) {
    if (f.Has(key)) Refuse(f.Name(key));
  }
  if (f.Bool("background").value_or(false)) Refuse(f.Name("background"));
  if (f.String("truncation").value_or("disabled") != "disabled") {
    Refuse(f.Name("truncation"), "other than disabled is not supported by this server");
  }
}

void ReadFormat(const Fields& f, ChatRequest& chat) {
  const Json* text = f.Object("text");
  if (!text) return;
  const Fields fields(*text, f.Name("text"));
  if (const Json* format = fields.Object("format")) SetForeignFormat(*format, fields.Name("format"), chat);
}

void ReadResponsesTools(const Fields& f, const ServedModel& model, std::string_view text, ChatRequest& chat) {
  std::string choice;
  if (const Json* v = f.Find("tool_choice")) {
    if (v->is_string()) {
      choice = v->get<std::string>();
    } else {
      const Fields fields(*v, f.Name("tool_choice"));
      if (fields.String("type").value_or("") != "function") Refuse(fields.Name("type"), "must be function");
      choice = fmt::format(":{}", NeededField(fields, "name"));
    }
  }
  constexpr std::string_view kSchema = "parameters";
  SetForeignTools(AsFunctions(f, kSchema, text), choice, f.Bool("parallel_tool_calls").value_or(true), kSchema, model,
                  chat);
}

bool ReadEffort(const Fields& f) {
  const Json* reasoning = f.Object("reasoning");
  if (!reasoning) return ReadThinking(f);
  const std::string effort = Fields(*reasoning, f.Name("reasoning")).String("effort").value_or("none");
  return effort != "none" && effort != "minimal";
}

bool WantsLogprobs(const Fields& f) {
  const Json* include = f.Array("include");
  if (!include) return false;
  for (const Json& one : *include) {
    if (one == "message.output_text.logprobs") return true;
  }
  return false;
}

template <class T>
OrderedJson OrNull(const std::optional<T>& value) {
  return value ? OrderedJson(*value) : OrderedJson(nullptr);
}

OrderedJson Copy(const Fields& f, std::string_view key, OrderedJson otherwise) {
  const Json* v = f.Find(key);
  return v ? OrderedJson(*v) : otherwise;
}

}  // namespace

ResponsesRequest ReadResponses(const Json& body, const ServedModel& model, std::string_view text) {
  const Fields f(body);
  RefuseResponses(f);
  ResponsesRequest r;
  ChatRequest& chat = r.chat;
  chat.common = ReadGeneration(f, model, /*tools=*/true);
  if (chat.common.n != 1) f.Fail("n", "must be 1");
  chat.common.max_tokens = f.Int("max_output_tokens", 1, INT64_MAX);
  chat.messages = ReadInput(f);
  ReadResponsesTools(f, model, text, chat);
  ReadFormat(f, chat);
  chat.thinking = ReadEffort(f);
  const auto top = f.Int("top_logprobs", 0, kMaxTopLogprobs);
  chat.logprobs = WantsLogprobs(f);
  chat.top_logprobs = top.value_or(0);
  chat.common.request.logprobs = chat.logprobs ? chat.top_logprobs : -1;
  f.Bool("store");  // must be one, and is the same either way
  const engine::SamplingParams& s = chat.common.request.sampling;
  r.shown = {{"background", false},
             {"instructions", OrNull(f.String("instructions"))},
             {"max_output_tokens", OrNull(chat.common.max_tokens)},
             {"metadata", Copy(f, "metadata", OrderedJson::object())},
             {"parallel_tool_calls", f.Bool("parallel_tool_calls").value_or(true)},
             {"previous_response_id", nullptr},
             {"reasoning", Copy(f, "reasoning", {{"effort", nullptr}, {"summary", nullptr}})},
             {"store", false},
             {"temperature", f.Number("temperature", 0, 2).value_or(s.temperature)},
             {"text", Copy(f, "text", {{"format", {{"type", "text"}}}})},
             {"tool_choice", Copy(f, "tool_choice", "auto")},
             {"tools", Copy(f, "tools", OrderedJson::array())},
             {"top_logprobs", chat.top_logprobs},
             {"top_p", s.top_p},
             {"truncation", "disabled"},
             {"user", OrNull(f.String("user"))}};
  return r;
}

}  // namespace fathom::server
