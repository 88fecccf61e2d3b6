// The answer to /v1/completions: text_completion, whole or in events.
#pragma once

#include "server/completion_request.h"
#include "server/openai_reply.h"

namespace fathom::server {

// Throws ApiError: a prompt that does not fit, a suffix that this model has no tokens for.
std::vector<PromptIds> EncodePrompts(const ServedModel& model, const CompletionRequest& request);

class CompletionReply : public OpenAiReply {
 public:
  CompletionReply(const ServedModel& model, engine::EngineThread& engine, Metrics& metrics, std::shared_ptr<Call> call,
                  const CompletionRequest& request);  // throws ApiError: a prompt that does not fit

 private:
  std::string IdPrefix() const override { return "cmpl-"; }
  std::string_view ObjectName(bool) const override { return "text_completion"; }
  void AppendChunks(std::string& out, size_t index, State& state, const Delta& delta,
                    std::string_view finish_reason) override;
  void AppendChoice(std::string& out, size_t index, const State& state) const override;
  void AppendText(std::string& out, std::string_view text, std::span<const ShownToken> tokens) const;
  std::vector<ShownToken> EchoTokens(const State& state) const;
};

}  // namespace fathom::server
