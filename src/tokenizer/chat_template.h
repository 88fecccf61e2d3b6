// Messages to the text that a chat model was trained on: the published chat templates, each written out as a function.
// The result is equal, to the byte, to what Jinja renders from the published source, oddities included
// (docs/tokenizer.md names them).
//
// Messages are JSON as the chat API has them: role (system, user, assistant, tool), content, tool_calls, prefix. Three
// things differ from Jinja on purpose: an unknown role is refused where the template would drop the message; so is what
// is no list of messages; and for v3.1 the arguments of a call, JSON text in the API, are parsed before they are
// printed (an object is taken as it is).
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/error.h"

namespace fathom::tokenizer {

enum class ChatTemplate { kV2, kV3, kR1, kV31 };

std::string_view Name(ChatTemplate t);  // v2 v3 r1 v3.1
const std::vector<ChatTemplate>& ChatTemplates();

// By name, as --template has it; Error with the list.
Result<ChatTemplate> ChatTemplateFromName(std::string_view name);
// By the source that a model carries (tokenizer_config.json's chat_template, or chat_template.jinja): only what is the
// published text, but for line ends and how \n is written. Any other is an Error with the list and a hint to
// --template.
Result<ChatTemplate> RecogniseChatTemplate(std::string_view source);
// The one that a user named, else the model's own; Error if there is neither (the model is for completion only).
Result<ChatTemplate> ChooseChatTemplate(const std::optional<std::string>& named,
                                        const std::optional<std::string>& source);

struct ChatOptions {
  std::string bos_token, eos_token;
  bool add_generation_prompt = true;
  bool thinking = false;  // v3.1
};

// Error if the messages do not have the form that the template needs; it names the message.
Result<std::string> RenderChat(ChatTemplate t, const nlohmann::ordered_json& messages, const ChatOptions& options);

}  // namespace fathom::tokenizer
