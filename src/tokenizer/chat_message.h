// What the renderers of chat templates share: messages read as Jinja reads them, and the names of the tokens.
#pragma once

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "core/error.h"
#include "tokenizer/python_json.h"

namespace fathom::tokenizer {

namespace names {
inline constexpr std::string_view kEnd = "<｜end▁of▁sentence｜>";
inline constexpr std::string_view kUser = "<｜User｜>";
inline constexpr std::string_view kAssistant = "<｜Assistant｜>";
inline constexpr std::string_view kCallsBegin = "<｜tool▁calls▁begin｜>";
inline constexpr std::string_view kCallsEnd = "<｜tool▁calls▁end｜>";
inline constexpr std::string_view kCallBegin = "<｜tool▁call▁begin｜>";
inline constexpr std::string_view kCallEnd = "<｜tool▁call▁end｜>";
inline constexpr std::string_view kSep = "<｜tool▁sep｜>";
inline constexpr std::string_view kOutputsBegin = "<｜tool▁outputs▁begin｜>";
inline constexpr std::string_view kOutputsEnd = "<｜tool▁outputs▁end｜>";
inline constexpr std::string_view kOutputBegin = "<｜tool▁output▁begin｜>";
inline constexpr std::string_view kOutputEnd = "<｜tool▁output▁end｜>";
inline constexpr std::string_view kThink = "<think>";
inline constexpr std::string_view kThinkEnd = "</think>";
}  // namespace names

// One message, read as Jinja reads it: a field may be absent, null, or a value; what has no meaning where it stands is
// an Error that is thrown here and caught by those who render.
class Message {
 public:
  using Json = nlohmann::ordered_json;

  Message(const Json& json, size_t index) : json_(&json), index_(index) {
    if (!json.is_object()) Fail("is no object", json);
    const Json* role = Field("role");
    if (role == nullptr || !role->is_string()) Fail("has no role", json);
    role_ = role->get<std::string>();
  }

  bool Is(std::string_view role) const { return role_ == role; }
  const std::string& role() const { return role_; }
  bool Has(const char* key) const { return Field(key) != nullptr; }
  bool IsNull(const char* key) const { return Field(key) != nullptr && Field(key)->is_null(); }  // absent is not null
  bool IsTrue(const char* key) const {                                                           // as Python has it
    const Json* v = Field(key);
    if (v == nullptr || v->is_null()) return false;
    if (v->is_boolean()) return v->get<bool>();
    if (v->is_number()) return *v != 0;
    if (v->is_string()) return !v->get_ref<const std::string&>().empty();
    return !v->empty();
  }
  const std::string& Text(const char* key) const { return TextOf(*json_, key); }
  // The calls; a list that is absent is empty, one that is null is an Error.
  const Json& Calls() const {
    static const Json none = Json::array();
    const Json* calls = Field("tool_calls");
    if (calls == nullptr) return none;
    if (!calls->is_array()) Fail("has tool_calls that are no list", *calls);
    return *calls;
  }
  const std::string& CallType(const Json& call) const { return TextOf(call, "type"); }
  const std::string& CallName(const Json& call) const { return TextOf(Function(call), "name"); }
  const std::string& CallArguments(const Json& call) const { return TextOf(Function(call), "arguments"); }
  std::string CallArgumentsAsPython(const Json& call) const {
    const Json& function = Function(call);
    const auto it = function.find("arguments");
    if (it == function.end()) Fail("has a tool call without arguments", call);
    Result<std::string> printed =
        PythonJson(it->is_string() ? it->get<std::string>() : it->dump(-1, ' ', false, Json::error_handler_t::replace));
    if (!printed.ok()) Fail("has a tool call whose arguments are not valid JSON", *it);
    return std::move(printed).Value();
  }
  [[noreturn]] void Fail(std::string_view what, const Json& got) const {
    std::string shown = got.dump(-1, ' ', false, Json::error_handler_t::replace).substr(0, 200);
    throw Error(fmt::format("message {} {}", index_, what), shown, "",
                "messages are {\"role\": ..., \"content\": ...} as the chat API has them");
  }

 private:
  const Json* Field(const char* key) const {
    const auto it = json_->find(key);
    return it == json_->end() ? nullptr : &*it;
  }
  const std::string& TextOf(const Json& object, const char* key) const {
    const auto it = object.is_object() ? object.find(key) : object.end();
    if (!object.is_object() || it == object.end() || !it->is_string())
      Fail(fmt::format("has no \"{}\" that is text", key), object);
    return it->get_ref<const std::string&>();
  }
  const Json& Function(const Json& call) const {
    if (!call.is_object() || !call.contains("function") || !call["function"].is_object())
      Fail("has a tool call without a function", call);
    return call["function"];
  }

  const Json* json_;
  size_t index_;
  std::string role_;
};

// Of a conversation; throws Error.
inline std::vector<Message> ReadMessages(const nlohmann::ordered_json& messages) {
  using Json = nlohmann::ordered_json;
  if (!messages.is_array()) {
    throw Error("the messages are no list",
                messages.dump(-1, ' ', false, Json::error_handler_t::replace).substr(0, 200));
  }
  std::vector<Message> list;
  for (size_t i = 0; i < messages.size(); ++i) list.emplace_back(messages[i], i);
  return list;
}

}  // namespace fathom::tokenizer
