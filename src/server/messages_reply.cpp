#include "server/messages_reply.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "net/sse.h"
#include "server/json_text.h"

namespace fathom::server {
namespace {

// A call's input is an object; arguments that are none (the answer broke off within them) are shown as they are.
std::string InputJson(const std::string& arguments) {
  if (arguments.empty()) return "{}";
  const size_t first = arguments.find_first_not_of(" \t\r\n");
  const bool object = first != std::string::npos && arguments[first] == '{' && nlohmann::json::accept(arguments);
  return object ? arguments : fmt::format(R"({{"INVALID_JSON":{}}})", Quoted(arguments));
}

}  // namespace

std::string MessagesReply::BlockJson(const Block& block, bool begun) {
  switch (block.kind) {
    case Kind::kReasoning:
      return fmt::format(R"({{"type":"thinking","thinking":{},"signature":""}})", Quoted(block.text));
    case Kind::kCall:
      return fmt::format(R"({{"type":"tool_use","id":"{}","name":"{}","input":{}}})", block.id, block.name,
                         begun ? "{}" : InputJson(block.text));
    case Kind::kText:
      break;
  }
  return fmt::format(R"({{"type":"text","text":{}}})", Quoted(block.text));
}

std::string MessagesReply::StopJson() const {
  const State& s = state();
  if (s.choice.stopped()) {
    return fmt::format(R"("stop_reason":"stop_sequence","stop_sequence":{})", Quoted(s.choice.stop_string()));
  }
  std::string_view reason = s.finish_reason == "tool_calls" ? "tool_use" : "end_turn";
  if (s.finish_reason == "length") {
    const bool asked = fields_.max_tokens && s.choice.tokens() >= *fields_.max_tokens;
    reason = asked ? "max_tokens" : "model_context_window_exceeded";
  }
  return fmt::format(R"("stop_reason":"{}","stop_sequence":null)", reason);
}

// Tokens of the prompt that were found in the cache are not among its input_tokens.
std::string MessagesReply::UsageJson() const {
  const Usage u = CountUsage();
  return fmt::format(
      R"({{"input_tokens":{},"cache_creation_input_tokens":0,"cache_read_input_tokens":{},"output_tokens":{},)"
      R"("output_tokens_details":{{"thinking_tokens":{}}}}})",
      u.prompt - u.cached, u.cached, u.completion, u.reasoning);
}

std::string MessagesReply::Body() const {
  std::string content;
  for (const Block& block : Blocks()) {
    if (!content.empty()) content += ',';
    content += BlockJson(block, false);
  }
  return fmt::format(R"({{"id":"{}","type":"message","role":"assistant","model":{},"content":[{}],{},"usage":{}}})",
                     id(), Quoted(fields_.model), content, StopJson(), UsageJson());
}

void MessagesReply::AppendBegin(std::string& out) {
  net::AppendSse(out,
                 fmt::format(R"({{"type":"message_start","message":{{"id":"{}","type":"message","role":"assistant",)"
                             R"("model":{},"content":[],"stop_reason":null,"stop_sequence":null,"usage":{}}}}})",
                             id(), Quoted(fields_.model), UsageJson()),
                 "message_start");
}

void MessagesReply::Open(std::string& out, size_t index, const Block& block) {
  net::AppendSse(
      out,
      fmt::format(R"({{"type":"content_block_start","index":{},"content_block":{}}})", index, BlockJson(block, true)),
      "content_block_start");
}

void MessagesReply::Add(std::string& out, size_t index, const Block& block, std::string_view text,
                        std::span<const ShownToken>) {
  const auto [type, field] = block.kind == Kind::kReasoning ? std::pair("thinking_delta", "thinking")
                             : block.kind == Kind::kCall    ? std::pair("input_json_delta", "partial_json")
                                                            : std::pair("text_delta", "text");
  net::AppendSse(out,
                 fmt::format(R"({{"type":"content_block_delta","index":{},"delta":{{"type":"{}","{}":{}}}}})", index,
                             type, field, Quoted(text)),
                 "content_block_delta");
}

void MessagesReply::Close(std::string& out, size_t index, const Block&) {
  net::AppendSse(out, fmt::format(R"({{"type":"content_block_stop","index":{}}})", index), "content_block_stop");
}

void MessagesReply::AppendEnd(std::string& out) {
  CloseLast(out);
  net::AppendSse(out, fmt::format(R"({{"type":"message_delta","delta":{{{}}},"usage":{}}})", StopJson(), UsageJson()),
                 "message_delta");
  net::AppendSse(out, R"({"type":"message_stop"})", "message_stop");
}

void MessagesReply::AppendError(std::string& out, const ApiError& error) {
  net::AppendSse(out, ErrorJson(error, Dialect::kAnthropic), "error");
}

std::string MessagesReply::KeepAlive() const { return "event: ping\ndata: {\"type\":\"ping\"}\n\n"; }

}  // namespace fathom::server
