#include "server/foreign_tools.h"

#include <fmt/format.h>

#include "server/ordered_json.h"

namespace fathom::server {
namespace {

using OrderedJson = nlohmann::ordered_json;
std::string Dump(const OrderedJson& json) { return json.dump(-1, ' ', false, OrderedJson::error_handler_t::replace); }

}  // namespace

OrderedJson AsFunctions(const Fields& body, std::string_view schema, std::string_view text) {
  OrderedJson functions = OrderedJson::array();
  const Json* tools = body.Array("tools");
  if (!tools) return functions;
  const OrderedJson ordered = text.empty() ? OrderedJson(*tools) : OrderedMember(text, "tools");
  for (size_t i = 0; i < tools->size(); ++i) {
    const Fields tool((*tools)[i], fmt::format("{}[{}]", body.Name("tools"), i));
    const std::string type = tool.String("type").value_or("custom");
    if (type != "function" && type != "custom") {
      Refuse(tool.Name("type"), fmt::format("{} is not supported: a client's own functions only", Json(type).dump()));
    }
    OrderedJson function = OrderedJson::object();
    for (const char* key : {"name", "description", "strict"}) {
      if (tool.Has(key)) function[key] = ordered[i][key];
    }
    if (tool.Has(schema)) function["parameters"] = ordered[i][std::string(schema)];
    functions.push_back({{"type", "function"}, {"function", std::move(function)}});
  }
  return functions;
}

void SetForeignTools(OrderedJson functions, const std::string& choice, bool parallel, std::string_view schema,
                     const ServedModel& model, ChatRequest& request) {
  OrderedJson all = {{"tools", std::move(functions)}, {"parallel_tool_calls", parallel}};
  if (!choice.empty() && choice.front() == ':') {
    all["tool_choice"] = {{"type", "function"}, {"function", {{"name", choice.substr(1)}}}};
  } else if (!choice.empty()) {
    all["tool_choice"] = choice;
  }
  const std::string text = Dump(all);
  const Json object = Json::parse(text);
  const FieldNames names = {{".function.parameters", fmt::format(".{}", schema)}, {".function.", "."}};
  InWordsOf(names, [&] { SetTools(ReadTools(Fields(object), model, text), model, request); });
  request.names.insert(request.names.end(), names.begin(), names.end());
}

void AddForeignCall(const std::string& field, const std::string& id, const std::string& name,
                    const std::string& arguments, OrderedJson& messages) {
  const Json message = {
      {"tool_calls", {{{"id", id}, {"type", "function"}, {"function", {{"name", name}, {"arguments", arguments}}}}}}};
  InWordsOf({{".tool_calls[0].function.name", ""}, {".tool_calls[0]", ""}}, [&] {
    OrderedJson calls = ReadCalls(Fields(message, field));
    if (messages.empty() || messages.back()["role"] != "assistant") {
      messages.push_back({{"role", "assistant"}, {"content", nullptr}});
    }
    OrderedJson& last = messages.back();
    if (!last.contains("tool_calls")) last["tool_calls"] = OrderedJson::array();
    if (last["content"] == "") last["content"] = nullptr;
    if (last["tool_calls"].size() >= kMaxCalls) throw BadField(field, fmt::format("{}: too many calls", field));
    last["tool_calls"].push_back(std::move(calls.front()));
  });
}

void AddForeignResult(const std::string& field, const std::string& id, std::string content, OrderedJson& messages) {
  const Json message = {{"tool_call_id", id}};
  InWordsOf({{field + ".tool_call_id", field}},
            [&] { AddToolResult(Fields(message, field), std::move(content), messages); });
}

void SetForeignFormat(const Json& format, const std::string& field, ChatRequest& request) {
  const std::string type = Fields(format, field).String("type").value_or("");
  Json response_format = {{"type", type}};
  if (type == "json_schema") {
    response_format["json_schema"] = format;
    response_format["json_schema"].erase("type");
  }
  const Json body = {{"response_format", response_format}};
  const FieldNames names = {{"response_format.json_schema", field}, {"response_format", field}};
  InWordsOf(names, [&] { request.common.structured = ReadStructured(Fields(body)); });
  request.names.insert(request.names.end(), names.begin(), names.end());
}

}  // namespace fathom::server
