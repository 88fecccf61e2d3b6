// The answer to /v1/messages: Anthropic's message, or its events message_start, content_block_start, -delta, -stop,
// message_delta, message_stop.
#pragma once

#include "server/block_reply.h"

namespace fathom::server {

class MessagesReply : public BlockReply {
 public:
  using BlockReply::BlockReply;

 private:
  std::string IdPrefix() const override { return "msg_"; }
  std::string Body() const override;
  void AppendBegin(std::string& out) override;
  void Open(std::string& out, size_t index, const Block& block) override;
  void Add(std::string& out, size_t index, const Block& block, std::string_view text,
           std::span<const ShownToken> tokens) override;
  void Close(std::string& out, size_t index, const Block& block) override;
  void AppendEnd(std::string& out) override;
  void AppendError(std::string& out, const ApiError& error) override;
  std::string KeepAlive() const override;

  static std::string BlockJson(const Block& block, bool begun);  // begun: empty, the rest comes in deltas
  std::string StopJson() const;                                  // "stop_reason":...,"stop_sequence":...
  std::string UsageJson() const;
};

}  // namespace fathom::server
