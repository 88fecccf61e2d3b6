// A chat template in Jinja, and what was found out about it by rendering small conversations.
#pragma once

#include <string>
#include <string_view>

#include "jinja/template.h"
#include "tokenizer/chat_template.h"

namespace fathom::tokenizer {

struct JinjaChat {
  jinja::Template program;
  std::string source;
  bool object_arguments = false;  // the arguments of calls are given as JSON, not as its text
  bool null_content = true;       // a message of calls alone has the content none, not ""
  bool writes_tools = false;
  bool may_think = false;
  ToolFormat format = ToolFormat::kNone;

  static Result<JinjaChat> Read(std::string_view source);
  // Variables are those of transformers' apply_chat_template: messages, tools, documents, add_generation_prompt,
  // bos_token, eos_token, and `variables`, which do not hide these.
  Result<std::string> Render(const nlohmann::ordered_json& messages, const ChatOptions& options) const;
};

}  // namespace fathom::tokenizer
