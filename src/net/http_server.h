// An HTTP/1.1 server: keep-alive, chunked streams, TLS, and limits on everything that a client can send or withhold.
// One thread reads and writes all connections; handlers run on it and must not block. Answers come from any thread.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "net/http.h"

namespace fathom::net {

// One request's answer. Thread-safe; may be kept after the handler has returned. Either Send once, or Begin, any number
// of Write, End. One that is dropped without an answer answers 500, or closes the connection if it has begun.
class Exchange {
 public:
  virtual ~Exchange() = default;
  virtual void Send(HttpResponse response) = 0;
  // A stream of chunks; response.body is the first.
  virtual void Begin(HttpResponse response) = 0;
  virtual void Write(std::string data) = 0;
  virtual void End() = 0;
  // Called once, on the server's thread, if the client goes away before the answer is complete (at once if it has gone
  // already). What is written afterwards is dropped. A callback that holds this exchange keeps it alive, and with
  // it the request open, until the answer is complete or the client has gone.
  virtual void OnGone(std::function<void()> callback) = 0;
  virtual bool gone() const = 0;
};

// What `write` gives to exchanges, on this thread, goes to their connections when it returns: one wake-up of the
// server's thread for all of them.
void WriteTogether(const std::function<void()>& write);

// The request's head and body are complete.
using Handler = std::function<void(HttpRequest request, std::shared_ptr<Exchange> exchange)>;

struct HttpServerOptions {
  std::string host = "127.0.0.1";
  int port = 8080;                // 0: any free one
  std::string tls_cert, tls_key;  // PEM files; empty: no TLS
  int64_t max_head_bytes = 64 << 10;
  int64_t max_body_bytes = 32 << 20;
  int64_t max_bodies_bytes = int64_t{1} << 30;  // of all requests that are being received
  int64_t max_connections = 4096;
  int64_t max_unsent_bytes = 8 << 20;  // of one answer that its client does not read: then the connection is closed
  double head_seconds = 10;            // from the first byte of a request to the end of its head
  double body_seconds = 60;            // without any progress of the body
  double idle_seconds = 75;            // between requests of a connection
  double write_seconds = 60;           // without any progress of an answer
};

class HttpServer {
 public:
  // Listens at once; requests are taken from Start on. Throws Error: the port is in use, the host unknown, TLS files
  // bad.
  HttpServer(const HttpServerOptions& options, Handler handler);
  ~HttpServer();  // closes everything

  void Start();
  int port() const;
  int64_t connections() const;
  // No new connections or requests (503 with Connection: close on open ones); returns when all answers are complete, or
  // after `seconds`. True if all were.
  bool Drain(double seconds);

 private:
  class State;
  std::unique_ptr<State> state_;
};

}  // namespace fathom::net
