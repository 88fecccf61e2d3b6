// The answer to /v1/responses: a response with its items (reasoning, message, function_call), or the events that build
// it up.
#pragma once

#include "server/block_reply.h"
#include "server/responses_request.h"

namespace fathom::server {

class ResponsesReply : public BlockReply {
 public:
  ResponsesReply(const ServedModel& model, engine::EngineThread& engine, Metrics& metrics, std::shared_ptr<Call> call,
                 ResponsesRequest request, std::vector<PromptIds> prompts);

 private:
  std::string IdPrefix() const override { return "resp_"; }
  std::string Body() const override;
  void AppendBegin(std::string& out) override;
  void Open(std::string& out, size_t index, const Block& block) override;
  void Add(std::string& out, size_t index, const Block& block, std::string_view text,
           std::span<const ShownToken> tokens) override;
  void Close(std::string& out, size_t index, const Block& block) override;
  void AppendEnd(std::string& out) override;
  void AppendError(std::string& out, const ApiError& error) override;

  // `fields` behind "type" and "sequence_number".
  void Event(std::string& out, std::string_view type, std::string_view fields);
  std::string ItemId(size_t index, const Block& block) const;
  std::string At(size_t index, const Block& block) const;  // "item_id":...,"output_index":..., and content_index
  std::string Part(const Block& block) const;
  std::string Item(size_t index, const Block& block, std::string_view status) const;
  std::string ItemStatus(size_t index) const;
  std::string Logprobs(std::span<const ShownToken> tokens) const;
  std::string Response(std::string_view status, const ApiError* error = nullptr) const;
  std::string_view Status() const;  // of a complete one

  const std::string shown_;  // "a":1,"b":2
  int64_t events_ = 0;
};

}  // namespace fathom::server
