// Messages to the text that a chat model was trained on. The published chat templates are written out as functions:
// equal, to the byte, to what Jinja renders from the published source, oddities included (docs/tokenizer.md names
// them), by name and without the source. Any other template is run by the interpreter (src/jinja;
// docs/chat-templates.md).
//
// Messages are JSON as the chat API has them: role (system, user, assistant, tool), content, tool_calls, prefix. Three
// things differ from Jinja on purpose in the known ones: an unknown role is refused where the template would drop the
// message; so is what is no list of messages; and for v3.1 the arguments of a call, JSON text in the API, are parsed
// before they are printed (an object is taken as it is).
#pragma once

#include <cstdint>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/error.h"

namespace fathom::tokenizer {

struct JinjaChat;

// How a model writes calls of tools (tool_text.h).
enum class ToolFormat : uint8_t { kNone, kV3, kV31 };

class ChatTemplate {
 public:
  enum Kind : uint8_t { kV2, kV3, kR1, kV31, kJinja };
  ChatTemplate(Kind known) : kind_(known) {}  // NOLINT: implicit on purpose. Not kJinja.
  explicit ChatTemplate(std::shared_ptr<const JinjaChat> jinja);

  Kind kind() const { return kind_; }
  const JinjaChat* jinja() const { return jinja_.get(); }  // nullptr of a known one
  bool may_think() const;                                  // answers may begin with <think>
  ToolFormat tool_format() const;
  bool writes_tools() const;     // it tells the model of its tools by itself
  std::string spelling() const;  // what ChatTemplateFromName makes it of: its name, or its source
  friend bool operator==(const ChatTemplate& a, const ChatTemplate& b) {
    return a.kind_ == b.kind_ && a.jinja_ == b.jinja_;
  }

 private:
  Kind kind_;
  std::shared_ptr<const JinjaChat> jinja_;
};

std::string_view Name(const ChatTemplate& t);      // v2 v3 r1 v3.1, or jinja
const std::vector<ChatTemplate>& ChatTemplates();  // the known ones

// By name, as --template has it (or by a spelling()); Error with the list.
Result<ChatTemplate> ChatTemplateFromName(std::string_view name);
// The source that a model carries (tokenizer_config.json's chat_template, or chat_template.jinja): a known one if it is
// the published text, but for line ends and how \n is written. Error: what is no template, with its line.
Result<ChatTemplate> ReadChatTemplate(std::string_view source);
Result<ChatTemplate> ReadChatTemplateFile(const std::string& path);
// The one that a user named, else the model's own; Error if there is neither (the model is for completion only).
Result<ChatTemplate> ChooseChatTemplate(const std::optional<std::string>& named,
                                        const std::optional<std::string>& source);

struct ChatOptions {
  std::string bos_token = {}, eos_token = {};
  bool add_generation_prompt = true;
  bool thinking = false;                              // v3.1; `thinking` and `enable_thinking` for Jinja
  const nlohmann::ordered_json* tools = nullptr;      // a list as the API has them, for templates that write them
  const nlohmann::ordered_json* variables = nullptr;  // an object: more names for Jinja
};

// Error if the messages do not have the form that the template needs; it names the message, or the template's line.
Result<std::string> RenderChat(const ChatTemplate& t, const nlohmann::ordered_json& messages,
                               const ChatOptions& options);

}  // namespace fathom::tokenizer
