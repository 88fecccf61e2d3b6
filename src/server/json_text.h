// Writing JSON by hand where a token's chunk must cost less than building and printing a tree.
#pragma once

#include <string>
#include <string_view>

namespace fathom::server {

// `text` as a JSON string, quotes included. What is no UTF-8 becomes U+FFFD.
void AppendQuoted(std::string& out, std::string_view text);
std::string Quoted(std::string_view text);

// A log-probability: JSON has no infinity (-9999 stands for it, as in vLLM) and no NaN (null).
void AppendLogprob(std::string& out, float value);

}  // namespace fathom::server
