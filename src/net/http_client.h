// An HTTP/1.1 client for many requests at once, on one thread of its own: keep-alive connections, bodies as they come
// with the time of their arrival, TLS, cancelling.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "core/error.h"
#include "net/http.h"

namespace fathom::net {

struct Url {
  bool tls = false;
  std::string host;
  int port = 80;
  std::string target = "/";  // path and query, as they are sent
};

// http://host[:port][/path?query] or https://...; [::1] as host; user names are refused.
Result<Url> ParseUrl(std::string_view text);

struct HttpClientOptions {
  bool verify_tls = true;       // against the system's certificates
  double connect_seconds = 10;  // with the handshake
  int64_t max_head_bytes = 64 << 10;
  int64_t max_body_bytes = 64 << 20;  // where it is collected
};

struct ClientRequest {
  std::string method = "GET";
  Url url;
  Headers headers;  // Host and Content-Length are added
  std::string body;
  double seconds = 0;  // from Start to the end of the answer; 0: without limit
};

enum class ClientError : uint8_t { kNone, kConnect, kTls, kTimeout, kClosed, kProtocol, kTooLarge, kCancelled };
const char* Name(ClientError error);

struct ClientResult {
  ClientError error = ClientError::kNone;
  std::string message;  // of the error
  int status = 0;       // 0: no answer has begun
  Headers headers;
  std::string body;  // unless on_body took it
};

// Called on the client's thread; they must not block, nor destroy the client.
struct ClientListener {
  std::function<void(int status, const Headers& headers)> on_head;
  // A part of the body and when it arrived. Called with the answer's status already known through on_head.
  std::function<void(std::string_view bytes, std::chrono::steady_clock::time_point arrival)> on_body;
  std::function<void(ClientResult result)> on_done;  // once, last
};

class HttpClient {
 public:
  explicit HttpClient(const HttpClientOptions& options = {});
  ~HttpClient();  // cancels what is under way

  // Thread-safe.
  uint64_t Start(ClientRequest request, ClientListener listener);
  void Cancel(uint64_t id);  // closes its connection; on_done follows. Without effect after the end.
  // Waits for the answer; not on the client's thread.
  ClientResult Fetch(ClientRequest request);

 private:
  class State;
  std::unique_ptr<State> state_;
};

}  // namespace fathom::net
