// The answer to /v1/chat/completions: chat.completion, or chat.completion.chunk events.
#pragma once

#include "server/chat_request.h"
#include "server/reply.h"

namespace fathom::server {

class ChatReply : public Reply {
 public:
  using Reply::Reply;

 private:
  std::string IdPrefix() const override { return "chatcmpl"; }
  std::string_view ObjectName(bool chunk) const override { return chunk ? "chat.completion.chunk" : "chat.completion"; }
  bool WantsTokens() const override { return fields_.request.logprobs >= 0; }
  void AppendChunks(std::string& out, size_t index, State& state, const Delta& delta,
                    std::string_view finish_reason) override;
  void AppendChoice(std::string& out, size_t index, const State& state) const override;
  void AppendPart(std::string& out, size_t index, std::string_view field, std::string_view text,
                  std::span<const ShownToken> tokens) const;
};

// Of the one prompt of a request; throws ApiError.
PromptIds EncodeChat(const ServedModel& model, const nlohmann::ordered_json& messages, bool thinking,
                     bool add_generation_prompt = true);

}  // namespace fathom::server
