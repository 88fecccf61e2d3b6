#include "server/tools.h"

#include <fmt/format.h>

#include <algorithm>
#include <unordered_map>

#include "server/generation_fields.h"
#include "server/ordered_json.h"

namespace fathom::server {
namespace {

using Ordered = nlohmann::ordered_json;

bool IsToolName(std::string_view name) {
  const auto allowed = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
  };
  return !name.empty() && name.size() <= kMaxToolName && std::all_of(name.begin(), name.end(), allowed);
}

std::string ReadToolName(const Fields& f, std::string_view key) {
  const std::optional<std::string> name = f.String(key);
  if (!name) f.Fail(key, "is missing");
  if (!IsToolName(*name)) {
    f.Fail(key, fmt::format("is {}: a name has 1 to {} of a-z, A-Z, 0-9, _ and -", Json(name->substr(0, 100)).dump(),
                            kMaxToolName));
  }
  return *name;
}

Tool ReadTool(const Fields& f) {
  const std::string type = f.String("type").value_or("");
  if (type.empty()) f.Fail("type", "is missing");
  if (type != "function") Refuse(f.Name("type"), "other than function is not supported by this server");
  const Json* object = f.Object("function");
  if (!object) f.Fail("function", "is missing");
  const Fields function(*object, f.Name("function"));
  Tool tool{.name = ReadToolName(function, "name")};
  function.String("description");
  tool.strict = function.Bool("strict").value_or(false);
  if (const Json* parameters = function.Object("parameters")) tool.parameters = *parameters;
  return tool;
}

void ReadChoice(const Fields& f, ToolRequest& r) {
  const Json* choice = f.Find("tool_choice");
  if (!choice) return;
  if (choice->is_string()) {
    const std::string& name = choice->get_ref<const std::string&>();
    if (name == "none") {
      r.choice = ToolChoice::kNone;
    } else if (name == "required") {
      r.choice = ToolChoice::kRequired;
    } else if (name != "auto") {
      f.Fail("tool_choice", "must be none, auto, required or a function");
    }
  } else if (choice->is_object()) {
    const Fields named(*choice, f.Name("tool_choice"));
    if (named.String("type").value_or("") != "function") named.Fail("type", "must be function");
    const Json* object = named.Object("function");
    if (!object) named.Fail("function", "is missing");
    const Fields function(*object, named.Name("function"));
    r.choice = ToolChoice::kNamed;
    r.named = function.String("name").value_or("");
    const bool known = std::any_of(r.tools.begin(), r.tools.end(), [&](const Tool& t) { return t.name == r.named; });
    if (!known) function.Fail("name", fmt::format("is {}: no such tool is given", Json(r.named.substr(0, 100)).dump()));
  } else {
    f.Fail("tool_choice", fmt::format("must be a string or an object, not {}", KindOf(*choice)));
  }
  const bool must = r.choice == ToolChoice::kRequired || r.choice == ToolChoice::kNamed;
  if (must && r.tools.empty()) f.Fail("tool_choice", "needs tools");
}

Ordered ShownTools(const Json& tools, std::string_view body) {
  if (!body.empty()) return OrderedMember(body, "tools");
  return Ordered::parse(tools.dump());
}

}  // namespace

bool ToolRequest::forced() const {
  if (choice == ToolChoice::kNone || tools.empty()) return false;
  if (choice == ToolChoice::kRequired || choice == ToolChoice::kNamed) return true;
  return std::any_of(tools.begin(), tools.end(), [](const Tool& t) { return t.strict; });
}

CallOptions ToolRequest::parsing(tokenizer::ToolFormat format) const {
  if (choice == ToolChoice::kNone || tools.empty()) return {};
  CallOptions options{.format = format, .names = {}, .parallel = parallel};
  for (const Tool& t : tools) {
    if (choice != ToolChoice::kNamed || t.name == named) options.names.push_back(t.name);
  }
  return options;
}

ToolRequest ReadTools(const Fields& f, const ServedModel& model, std::string_view body) {
  ToolRequest r;
  const Json* tools = f.Array("tools");
  if (tools && tools->size() > kMaxTools)
    f.Fail("tools", fmt::format("has {} functions: at most {}", tools->size(), kMaxTools));
  std::unordered_map<std::string, size_t> names;
  for (size_t i = 0; tools && i < tools->size(); ++i) {
    const Fields one((*tools)[i], fmt::format("{}[{}]", f.Name("tools"), i));
    r.tools.push_back(ReadTool(one));
    const auto [at, fresh] = names.emplace(r.tools.back().name, i);
    if (!fresh) {
      const std::string name = one.Name("function.name");
      throw BadField(name, fmt::format("{} is {}, which {}[{}] has already", name, Json(at->first).dump(),
                                       f.Name("tools"), at->second));
    }
  }
  ReadChoice(f, r);
  r.parallel = f.Bool("parallel_tool_calls").value_or(true);
  if (!r.any()) return r;
  if (model.chat && model.chat->tool_format() == tokenizer::ToolFormat::kNone)
    Refuse(f.Name("tools"), "are not supported with this model: its chat template has no form for calls");
  r.shown = ShownTools(*tools, body);
  return r;
}

Ordered ReadCalls(const Fields& message) {
  Ordered out = Ordered::array();
  const Json* calls = message.Array("tool_calls");
  if (!calls) return out;
  if (calls->size() > kMaxCalls)
    message.Fail("tool_calls", fmt::format("has {} calls: at most {}", calls->size(), kMaxCalls));
  for (size_t i = 0; i < calls->size(); ++i) {
    const Fields call((*calls)[i], fmt::format("{}[{}]", message.Name("tool_calls"), i));
    if (call.String("type").value_or("function") != "function")
      Refuse(call.Name("type"), "other than function is not supported by this server");
    const Json* object = call.Object("function");
    if (!object) call.Fail("function", "is missing");
    const Fields function(*object, call.Name("function"));
    const std::string name = ReadToolName(function, "name");
    const std::string arguments = function.String("arguments").value_or("{}");
    Ordered one = {{"type", "function"}};
    if (const auto id = call.String("id")) one["id"] = *id;
    one["function"] = {{"name", name}, {"arguments", arguments}};
    out.push_back(std::move(one));
  }
  return out;
}

void AddToolResult(const Fields& message, std::string content, Ordered& messages) {
  Ordered result = {{"role", "tool"}, {"content", std::move(content)}};
  if (const auto name = message.String("name")) result["name"] = *name;
  // Behind the message with calls there are only results.
  size_t first = messages.size();
  while (first > 0 && messages[first - 1]["role"] == "tool") --first;
  const std::optional<std::string> id = message.String("tool_call_id");
  if (!id) {
    messages.push_back(std::move(result));
    return;
  }
  result["tool_call_id"] = *id;
  const bool answers_calls = first > 0 && messages[first - 1].contains("tool_calls");
  const auto place_of = [&](const Ordered& m) -> size_t {
    if (!answers_calls || !m.contains("tool_call_id")) return kMaxCalls;
    const Ordered& calls = messages[first - 1]["tool_calls"];
    for (size_t i = 0; i < calls.size(); ++i) {
      if (calls[i].contains("id") && calls[i]["id"] == m["tool_call_id"]) return i;
    }
    return kMaxCalls;
  };
  const size_t place = place_of(result);
  if (place == kMaxCalls) message.Fail("tool_call_id", "is the id of no call in the message before the results");
  size_t at = messages.size();
  while (at > first && place_of(messages[at - 1]) > place) --at;
  if (at > first && place_of(messages[at - 1]) == place) message.Fail("tool_call_id", "has a result already");
  messages.insert(messages.begin() + static_cast<std::ptrdiff_t>(at), std::move(result));
}

bool HasTools(const Ordered& messages) {
  return std::any_of(messages.begin(), messages.end(),
                     [](const Ordered& m) { return m.contains("tool_calls") || m.value("role", "") == "tool"; });
}

std::vector<std::string> AnswersOf(const Ordered& messages, tokenizer::ToolFormat format) {
  std::vector<std::string> out;
  for (const Ordered& m : messages) {
    if (m["role"] != "assistant") continue;
    out.push_back(m["content"].is_string() ? m["content"].get<std::string>() : "");
    if (m.contains("tool_calls") && format != tokenizer::ToolFormat::kNone)
      out.back() += tokenizer::CallsText(format, m["tool_calls"]);
  }
  return out;
}

}  // namespace fathom::server
