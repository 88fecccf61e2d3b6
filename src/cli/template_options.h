// --template NAME and --chat-template FILE, of commands that render conversations.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

#include "tokenizer/chat_template.h"

namespace fathom::cli {

// What both set is a spelling (tokenizer::ChatTemplateFromName reads it): a name, or a file's source, which is read
// here already, so that a template with a mistake ends the command at once. Empty: the model's own. `named` outlives
// `c`.
inline void AddTemplateOptions(CLI::App& c, std::string& named, const std::string& group = "Options") {
  CLI::Option* name =
      c.add_option("--template", named, "Chat template by name: v2, v3, r1 or v3.1 (default: the model's own)")
          ->type_name("NAME")
          ->group(group);
  c.add_option_function<std::string>(
       "--chat-template",
       [&named](const std::string& path) { named = tokenizer::ReadChatTemplateFile(path).Value().spelling(); },
       "Chat template in a file, in Jinja")
      ->type_name("FILE")
      ->excludes(name)
      ->group(group);
}

}  // namespace fathom::cli
