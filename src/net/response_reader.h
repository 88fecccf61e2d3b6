// HTTP/1.x answers out of bytes as they come. Interim answers (1xx) are passed over.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "net/http.h"

namespace fathom::net {

class ResponseReader {
 public:
  enum class Status { kHead, kBody, kComplete, kBad };
  // `head_only`: the answer to a HEAD request. on_body gets the body's parts during Feed.
  ResponseReader(int64_t max_head_bytes, bool head_only, std::function<void(std::string_view)> on_body);
  ~ResponseReader();

  // Returns how many of the bytes it took; the rest must be offered again, with more behind it.
  size_t Feed(std::string_view bytes);
  void End();  // the connection has ended: completes a body without a length
  Status status() const;
  const std::string& reason() const;  // kBad

  // From kBody on.
  int code() const;
  Headers headers() const;
  bool keep_alive() const;  // the connection may be used again after this answer

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace fathom::net
