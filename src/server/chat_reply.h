// The answer to /v1/chat/completions: chat.completion, or chat.completion.chunk events.
#pragma once

#include "server/chat_request.h"
#include "server/openai_reply.h"

namespace fathom::server {

class ChatReply : public OpenAiReply {
 public:
  using OpenAiReply::OpenAiReply;

 private:
  std::string IdPrefix() const override { return "chatcmpl-"; }
  std::string_view ObjectName(bool chunk) const override { return chunk ? "chat.completion.chunk" : "chat.completion"; }
  void AppendChunks(std::string& out, size_t index, State& state, const Delta& delta,
                    std::string_view finish_reason) override;
  void AppendChoice(std::string& out, size_t index, const State& state) const override;
  void AppendCall(std::string& out, size_t index, const CallDelta& call);
  void AppendLogprobs(std::string& out, std::span<const ShownToken> tokens) const;
  void AppendPart(std::string& out, size_t index, std::string_view field, std::string_view text,
                  std::span<const ShownToken> tokens);
};

// The one prompt of a conversation, and how its answer begins; throws ApiError.
PromptIds EncodeChat(const ServedModel& model, const ChatRequest& request);

}  // namespace fathom::server
