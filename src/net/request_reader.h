// HTTP/1.x requests out of bytes as they come, within limits. Refused: a body whose length is given twice or in a way
// that two readers could understand differently (Content-Length beside Transfer-Encoding, codings other than chunked),
// HTTP/1.1 without Host.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "net/http.h"

namespace fathom::net {

class RequestReader {
 public:
  enum class Status { kHead, kBody, kComplete, kRefused };

  RequestReader(int64_t max_head_bytes, int64_t max_body_bytes);
  ~RequestReader();

  // Returns how many of the bytes it took. The rest must be offered again, with more behind it; after kComplete it
  // belongs to the next request.
  size_t Feed(std::string_view bytes);
  Status status() const;

  // kRefused: what to answer.
  int refusal() const;
  const std::string& reason() const;

  // The head is complete (kBody, kComplete).
  bool keep_alive() const;
  bool http_1_0() const;
  bool expects_continue() const;
  int64_t body_bytes() const;  // so far

  HttpRequest Take();  // kComplete; `peer` is left empty

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace fathom::net
