#include "tokenizer/chat_template.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "tokenizer/python_json.h"

namespace fathom::tokenizer {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::string_view kEnd = "<｜end▁of▁sentence｜>";
constexpr std::string_view kUser = "<｜User｜>";
constexpr std::string_view kAssistant = "<｜Assistant｜>";
constexpr std::string_view kCallsBegin = "<｜tool▁calls▁begin｜>";
constexpr std::string_view kCallsEnd = "<｜tool▁calls▁end｜>";
constexpr std::string_view kCallBegin = "<｜tool▁call▁begin｜>";
constexpr std::string_view kCallEnd = "<｜tool▁call▁end｜>";
constexpr std::string_view kSep = "<｜tool▁sep｜>";
constexpr std::string_view kOutputsBegin = "<｜tool▁outputs▁begin｜>";
constexpr std::string_view kOutputsEnd = "<｜tool▁outputs▁end｜>";
constexpr std::string_view kOutputBegin = "<｜tool▁output▁begin｜>";
constexpr std::string_view kOutputEnd = "<｜tool▁output▁end｜>";
constexpr std::string_view kThink = "<think>";
constexpr std::string_view kThinkEnd = "</think>";

// One message, read as Jinja reads it: a field may be absent, null, or a value; what has no meaning where it stands is
// an Error that is thrown here and caught in RenderChat.
class Message {
 public:
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

class Text {
 public:
  template <class... Parts>
  void Add(const Parts&... parts) {
    (out_.append(parts), ...);
  }
  std::string Take() { return std::move(out_); }

 private:
  std::string out_;
};

using Messages = std::vector<Message>;

void AddSystemPrompt(const Messages& messages, Text& out) {
  bool first = true;
  for (const Message& m : messages) {
    if (!m.Is("system")) continue;
    if (!first) out.Add("\n\n");
    out.Add(m.Text("content"));
    first = false;
  }
}

std::string RenderV2(const Messages& messages, const ChatOptions& o) {
  Text out;
  out.Add(o.bos_token);
  for (const Message& m : messages) {
    if (m.Is("user")) {
      out.Add("User: ", m.Text("content"), "\n\n");
    } else if (m.Is("assistant")) {
      out.Add("Assistant: ", m.Text("content"), o.eos_token);
    } else if (m.Is("system")) {
      out.Add(m.Text("content"), "\n\n");
    } else {
      m.Fail("has a role that this template does not know", m.role());
    }
  }
  if (o.add_generation_prompt) out.Add("Assistant:");
  return out.Take();
}

void AddJsonCall(const Message& m, const Json& call, Text& out) {
  out.Add(kCallBegin, m.CallType(call), kSep, m.CallName(call), "\n```json\n", m.CallArguments(call), "\n```",
          kCallEnd);
}

// V3 and R1 differ in the assistant's messages alone. `any_call` and `any_output` are never reset: only the first call
// and the first output of a whole conversation open their lists.
struct ToolState {
  bool any_call = false, any_output = false, after_tool = false;
};

void AddOutput(const Message& m, std::string_view between, ToolState& s, Text& out) {
  s.after_tool = true;
  out.Add(s.any_output ? between : kOutputsBegin, kOutputBegin, m.Text("content"), kOutputEnd);
  s.any_output = true;
}

void AddV3Assistant(const Message& m, ToolState& s, Text& out) {
  if (!m.IsNull("content")) {  // calls beside a content are not shown
    out.Add(s.after_tool ? kOutputsEnd : kAssistant, m.Text("content"), kEnd);
    s.after_tool = false;
    return;
  }
  s.after_tool = false;
  for (const Json& call : m.Calls()) {
    if (!s.any_call) {
      out.Add(kAssistant, kCallsBegin);
      AddJsonCall(m, call, out);
      s.any_call = true;
    } else {  // every call but the first of all closes the list
      out.Add("\n");
      AddJsonCall(m, call, out);
      out.Add(kCallsEnd, kEnd);
    }
  }
}

void AddR1Assistant(const Message& m, ToolState& s, Text& out) {
  if (m.Has("tool_calls")) {
    s.after_tool = false;
    for (const Json& call : m.Calls()) {
      if (!s.any_call) {
        out.Add(kAssistant);
        if (!m.IsNull("content")) out.Add(m.Text("content"));
        out.Add(kCallsBegin);
        s.any_call = true;
      } else {
        out.Add("\n");
      }
      AddJsonCall(m, call, out);
    }
    out.Add(kCallsEnd, kEnd);
    return;
  }
  std::string_view content = m.Text("content");
  if (s.after_tool) {
    out.Add(kOutputsEnd, content, kEnd);
    s.after_tool = false;
    return;
  }
  if (const size_t at = content.rfind(kThinkEnd); at != std::string_view::npos)
    content.remove_prefix(at + kThinkEnd.size());
  out.Add(kAssistant, content, kEnd);
}

std::string RenderV3OrR1(const Messages& messages, const ChatOptions& o, bool r1) {
  Text out;
  out.Add(o.bos_token);
  AddSystemPrompt(messages, out);
  ToolState s;
  for (const Message& m : messages) {
    if (m.Is("user")) {
      s.after_tool = false;
      out.Add(kUser, m.Text("content"));
    } else if (m.Is("assistant")) {
      r1 ? AddR1Assistant(m, s, out) : AddV3Assistant(m, s, out);
    } else if (m.Is("tool")) {
      AddOutput(m, r1 ? "" : "\n", s, out);
    } else if (!m.Is("system")) {
      m.Fail("has a role that this template does not know", m.role());
    }
  }
  if (s.after_tool) {
    out.Add(kOutputsEnd);
  } else if (o.add_generation_prompt) {
    out.Add(kAssistant);
  }
  return out.Take();
}

void AddV31Assistant(const Message& m, bool thinking, bool after_user, bool after_tool, Text& out) {
  if (m.IsTrue("tool_calls")) {
    if (after_user) out.Add(kAssistant, kThink, kThinkEnd);
    bool first = true;
    for (const Json& call : m.Calls()) {
      if (first) {
        if (m.IsTrue("content")) out.Add(m.Text("content"));
        out.Add(kCallsBegin);
        first = false;
      }
      out.Add(kCallBegin, m.CallName(call), kSep, m.CallArgumentsAsPython(call), kCallEnd);
    }
    out.Add(kCallsEnd, kEnd);
    return;
  }
  if (after_user) {
    out.Add(kAssistant, kThink);
    if (!(m.IsTrue("prefix") && thinking)) out.Add(kThinkEnd);
  }
  std::string_view content = m.Text("content");
  if (!after_tool) {
    if (const size_t at = content.find(kThinkEnd); at != std::string_view::npos)
      content.remove_prefix(at + kThinkEnd.size());
  }
  out.Add(content, kEnd);
}

std::string RenderV31(const Messages& messages, const ChatOptions& o) {
  Text out;
  out.Add(o.bos_token);
  AddSystemPrompt(messages, out);
  bool after_user = false, after_tool = false;
  for (const Message& m : messages) {
    if (m.Is("user")) {
      after_tool = false;
      after_user = true;
      out.Add(kUser, m.Text("content"));
    } else if (m.Is("assistant")) {
      AddV31Assistant(m, o.thinking, after_user, after_tool, out);
      after_user = false;
      after_tool = false;
    } else if (m.Is("tool")) {
      after_user = false;
      after_tool = true;
      out.Add(kOutputBegin, m.Text("content"), kOutputEnd);
    } else if (!m.Is("system")) {
      m.Fail("has a role that this template does not know", m.role());
    }
  }
  if (o.add_generation_prompt && after_user && !after_tool) {
    out.Add(kAssistant, kThink);
    if (!o.thinking) out.Add(kThinkEnd);
  }
  return out.Take();
}

struct Known {
  ChatTemplate value;
  std::string_view name;
  uint64_t hash;  // of the normalised source
  std::string_view models;
};
constexpr Known kKnown[] = {
    {ChatTemplate::kV2, "v2", 0x5111253F4AA4A502u, "DeepSeek-V2, DeepSeek-V2-Lite, DeepSeek-Coder-V2"},
    {ChatTemplate::kV3, "v3", 0xEBE3604156DC466Au, "DeepSeek-V3"},
    {ChatTemplate::kR1, "r1", 0x8E74DCBEADE31809u, "DeepSeek-R1"},
    {ChatTemplate::kV31, "v3.1", 0xB4E54689957E62CFu, "DeepSeek-V3.1"},
};

std::string KnownNames() {
  std::string out;
  for (const Known& k : kKnown) out += fmt::format("{}{} ({})", out.empty() ? "" : ", ", k.name, k.models);
  return out;
}

// FNV-1a of the source with \r\n as \n, a backslash and n within it as a line end, and no white space at its ends.
// (Files write the line ends of the templates' strings in both ways; Jinja reads them alike.)
uint64_t HashSource(std::string_view source) {
  auto blank = [](char c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; };
  while (!source.empty() && blank(source.front())) source.remove_prefix(1);
  while (!source.empty() && blank(source.back())) source.remove_suffix(1);
  uint64_t hash = 0xCBF29CE484222325u;
  for (size_t i = 0; i < source.size(); ++i) {
    char c = source[i];
    if (c == '\r' && i + 1 < source.size() && source[i + 1] == '\n') continue;
    if (c == '\\' && i + 1 < source.size() && source[i + 1] == 'n') c = '\n', ++i;
    hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001B3u;
  }
  return hash;
}

}  // namespace

std::string_view Name(ChatTemplate t) {
  for (const Known& k : kKnown) {
    if (k.value == t) return k.name;
  }
  return "";
}

const std::vector<ChatTemplate>& ChatTemplates() {
  static const std::vector<ChatTemplate> all = {ChatTemplate::kV2, ChatTemplate::kV3, ChatTemplate::kR1,
                                                ChatTemplate::kV31};
  return all;
}

Result<ChatTemplate> ChatTemplateFromName(std::string_view name) {
  for (const Known& k : kKnown) {
    if (k.name == name) return k.value;
  }
  return Error("unknown chat template", std::string(name), KnownNames());
}

Result<ChatTemplate> RecogniseChatTemplate(std::string_view source) {
  const uint64_t hash = HashSource(source);
  for (const Known& k : kKnown) {
    if (k.hash == hash) return k.value;
  }
  return Error("the model's chat template is none that fathom knows",
               fmt::format("{}{}", source.substr(0, 120), source.size() > 120 ? "..." : ""), KnownNames(),
               "choose the one that the model was trained with by --template");
}

Result<ChatTemplate> ChooseChatTemplate(const std::optional<std::string>& named,
                                        const std::optional<std::string>& source) {
  if (named) return ChatTemplateFromName(*named);
  if (source) return RecogniseChatTemplate(*source);
  return Error("the model has no chat template: it completes text only",
               "no chat_template in tokenizer_config.json, no chat_template.jinja", KnownNames(),
               "use it with generate, or choose a template by --template");
}

Result<std::string> RenderChat(ChatTemplate t, const Json& messages, const ChatOptions& options) {
  try {
    if (!messages.is_array()) {
      return Error("the messages are no list",
                   messages.dump(-1, ' ', false, Json::error_handler_t::replace).substr(0, 200));
    }
    Messages list;
    for (size_t i = 0; i < messages.size(); ++i) list.emplace_back(messages[i], i);
    switch (t) {
      case ChatTemplate::kV2:
        return RenderV2(list, options);
      case ChatTemplate::kV3:
        return RenderV3OrR1(list, options, false);
      case ChatTemplate::kR1:
        return RenderV3OrR1(list, options, true);
      case ChatTemplate::kV31:
        return RenderV31(list, options);
    }
  } catch (const Error& e) {
    return e;
  }
  return Error("unknown chat template");
}

}  // namespace fathom::tokenizer
