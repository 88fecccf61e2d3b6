// What an answer with calls of tools may be, as a machine over bytes: calls in the format of the model, with names of
// the tools and arguments by their schemas; before them free text, where a call need not come.
#pragma once

#include <memory>

#include "grammar/machine.h"
#include "server/tools.h"

namespace fathom::server {

// Of a request that is forced(). Arguments of tools that are not strict are any JSON object. `name` is the field that
// tools come from. Throws ApiError: a schema that is refused or that nothing fits, with its field.
std::unique_ptr<grammar::Machine> MakeToolMachine(const ToolRequest& tools, tokenizer::ToolFormat format,
                                                  const std::string& name = "tools");

}  // namespace fathom::server
