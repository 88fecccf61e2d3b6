#include "tokenizer/chat_template.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "tokenizer/chat_message.h"
#include "tokenizer/jinja_chat.h"
#include "tokenizer/model_files.h"

namespace fathom::tokenizer {
namespace {

using Json = nlohmann::ordered_json;

using namespace names;  // NOLINT(google-build-using-namespace): they are this file's vocabulary

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
  ChatTemplate::Kind value;
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

ChatTemplate::ChatTemplate(std::shared_ptr<const JinjaChat> jinja) : kind_(kJinja), jinja_(std::move(jinja)) {}

bool ChatTemplate::may_think() const { return jinja_ ? jinja_->may_think : kind_ == kR1 || kind_ == kV31; }
bool ChatTemplate::writes_tools() const { return jinja_ && jinja_->writes_tools; }

ToolFormat ChatTemplate::tool_format() const {
  if (jinja_) return jinja_->format;
  return kind_ == kV2 ? ToolFormat::kNone : kind_ == kV31 ? ToolFormat::kV31 : ToolFormat::kV3;
}

std::string ChatTemplate::spelling() const { return jinja_ ? jinja_->source : std::string(Name(*this)); }

std::string_view Name(const ChatTemplate& t) {
  for (const Known& k : kKnown) {
    if (k.value == t.kind()) return k.name;
  }
  return "jinja";
}

const std::vector<ChatTemplate>& ChatTemplates() {
  static const std::vector<ChatTemplate> all = {ChatTemplate::kV2, ChatTemplate::kV3, ChatTemplate::kR1,
                                                ChatTemplate::kV31};
  return all;
}

Result<ChatTemplate> ChatTemplateFromName(std::string_view name) {
  for (const Known& k : kKnown) {
    if (k.name == name) return ChatTemplate(k.value);
  }
  if (name.find('{') != std::string_view::npos) return ReadChatTemplate(name);
  return Error("unknown chat template", std::string(name), KnownNames());
}

Result<ChatTemplate> ReadChatTemplate(std::string_view source) {
  const uint64_t hash = HashSource(source);
  for (const Known& k : kKnown) {
    if (k.hash == hash) return ChatTemplate(k.value);
  }
  Result<JinjaChat> jinja = JinjaChat::Read(source);
  if (!jinja) return jinja.error();
  return ChatTemplate(std::make_shared<const JinjaChat>(std::move(jinja).Value()));
}

Result<ChatTemplate> ReadChatTemplateFile(const std::string& path) {
  constexpr size_t kMost = 4 << 20;
  try {
    Result<ChatTemplate> read = ReadChatTemplate(ReadTextFile(path, kMost));
    if (read) return read;
    return Error(read.error().summary(), path);
  } catch (const Error& e) {
    return e;
  }
}

Result<ChatTemplate> ChooseChatTemplate(const std::optional<std::string>& named,
                                        const std::optional<std::string>& source) {
  if (named) return ChatTemplateFromName(*named);
  if (source) return ReadChatTemplate(*source);
  return Error("the model has no chat template: it completes text only",
               "no chat_template in tokenizer_config.json, no chat_template.jinja", KnownNames(),
               "use it with generate, or choose a template by --template or --chat-template");
}

Result<std::string> RenderChat(const ChatTemplate& t, const Json& messages, const ChatOptions& options) {
  if (t.jinja()) return t.jinja()->Render(messages, options);
  try {
    const Messages list = ReadMessages(messages);
    switch (t.kind()) {
      case ChatTemplate::kV2:
        return RenderV2(list, options);
      case ChatTemplate::kV3:
        return RenderV3OrR1(list, options, false);
      case ChatTemplate::kR1:
        return RenderV3OrR1(list, options, true);
      case ChatTemplate::kV31:
      case ChatTemplate::kJinja:
        return RenderV31(list, options);
    }
  } catch (const Error& e) {
    return e;
  }
  return Error("unknown chat template");
}

}  // namespace fathom::tokenizer
