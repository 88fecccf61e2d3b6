#include "server/openai_reply.h"

#include <fmt/format.h>

#include "server/json_text.h"

namespace fathom::server {

std::string OpenAiReply::Head(bool chunk) const {
  return fmt::format(R"({{"id":"{}","object":"{}","created":{},"model":{},"system_fingerprint":{},"choices":[)", id(),
                     ObjectName(chunk), created(), Quoted(fields_.model), Quoted(model_.fingerprint));
}

const std::string& OpenAiReply::ChunkHead() {
  if (chunk_head_.empty()) chunk_head_ = "data: " + Head(true);
  return chunk_head_;
}

void OpenAiReply::OpenChunk(std::string& out, size_t index) {
  out += ChunkHead();
  fmt::format_to(std::back_inserter(out), R"({{"index":{},)", index);
}

void OpenAiReply::CloseChunk(std::string& out, std::string_view finish_reason) const {
  if (finish_reason.empty()) {
    out += R"(,"finish_reason":null}])";
  } else {
    fmt::format_to(std::back_inserter(out), R"(,"finish_reason":"{}"}}])", finish_reason);
  }
  out += fields_.include_usage ? ",\"usage\":null}\n\n" : "}\n\n";
}

std::string OpenAiReply::UsageJson() const {
  const Usage u = CountUsage();
  return fmt::format(
      R"({{"prompt_tokens":{},"completion_tokens":{},"total_tokens":{},"prompt_cache_hit_tokens":{},)"
      R"("prompt_cache_miss_tokens":{},"prompt_tokens_details":{{"cached_tokens":{}}},"completion_tokens_details":)"
      R"({{"reasoning_tokens":{},"accepted_prediction_tokens":{},"rejected_prediction_tokens":{}}}}})",
      u.prompt, u.completion, u.prompt + u.completion, u.cached, u.prompt - u.cached, u.cached, u.reasoning, u.accepted,
      u.drafted - u.accepted);
}

std::string OpenAiReply::Body() const {
  std::string out = Head(false);
  for (size_t i = 0; i < states().size(); ++i) {
    if (i > 0) out += ',';
    AppendChoice(out, i, *states()[i]);
  }
  fmt::format_to(std::back_inserter(out), "],\"usage\":{}}}", UsageJson());
  return out;
}

void OpenAiReply::AppendEnd(std::string& out) {
  if (fields_.include_usage) out += fmt::format("{}],\"usage\":{}}}\n\n", ChunkHead(), UsageJson());
  out += "data: [DONE]\n\n";
}

void OpenAiReply::AppendError(std::string& out, const ApiError& error) {
  if (call().dialect() == Dialect::kDeepSeek && error.status == 503) {
    for (size_t i = 0; i < states().size(); ++i) {
      if (!states()[i]->finished) AppendChunks(out, i, *states()[i], {}, kInsufficientResource);
    }
    return AppendEnd(out);
  }
  out += fmt::format("data: {}\n\ndata: [DONE]\n\n", ErrorJson(error, call().dialect()));
}

}  // namespace fathom::server
