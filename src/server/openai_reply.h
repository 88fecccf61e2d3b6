// What chat.completion and text_completion have in common, whole or in chunks: OpenAI's form, which DeepSeek's API
// shares.
#pragma once

#include <string>

#include "server/reply.h"

namespace fathom::server {

class OpenAiReply : public Reply {
 public:
  using Reply::Reply;

 protected:
  virtual std::string_view ObjectName(bool chunk) const = 0;
  // The element of "choices" of a whole answer.
  virtual void AppendChoice(std::string& out, size_t index, const State& state) const = 0;

  // data: {"id":...,"choices":[{"index":N, and what closes it.
  void OpenChunk(std::string& out, size_t index);
  void CloseChunk(std::string& out, std::string_view finish_reason) const;

 private:
  std::string Body() const override;
  void AppendEnd(std::string& out) override;
  void AppendError(std::string& out, const ApiError& error) override;
  std::string Head(bool chunk) const;  // {"id":..., up to "choices":[
  const std::string& ChunkHead();
  std::string UsageJson() const;

  std::string chunk_head_;
};

}  // namespace fathom::server
