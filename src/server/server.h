// The HTTP API: which path is answered how, who may ask, and what every answer has in common. One object for one model;
// Handle is what a net::HttpServer calls.
//
//   POST /v1/chat/completions   POST /v1/completions   POST /v1/responses   GET /v1/models, /v1/models/ID    OpenAI's
//   POST /chat/completions   POST /beta/chat/completions, /beta/completions   GET /models /user/balance    DeepSeek's
//   POST /v1/messages   POST /v1/messages/count_tokens (and under /anthropic)                              Anthropic's
//   POST /tokenize /detokenize   GET /health /metrics /version   GET / (the chat page)
//
// docs/server.md has the fields. Requests are read on the HTTP server's thread, large ones on threads of their own;
// answers are written on the engine's (reply.h).
#pragma once

#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/engine_thread.h"
#include "net/http_server.h"
#include "server/access_log.h"
#include "server/api_error.h"
#include "server/api_keys.h"
#include "server/call.h"
#include "server/heartbeat.h"
#include "server/metrics.h"
#include "server/served_model.h"
#include "server/work_queue.h"

namespace fathom::server {

struct ServerOptions {
  ApiKeys keys{std::vector<std::string>{}};
  UsageLedger* usage = nullptr;  // counts what keys use; may be null, as the next
  RequestTrace* trace = nullptr;
  std::string cors_origin = "*";  // empty: no CORS headers
  std::string version = {};
  bool page = true;
  int64_t inline_bytes = 16 << 10;  // bodies up to this size are read at once
  HeartbeatOptions heartbeat = {};
  std::optional<double> balance = {};  // what /user/balance shows; with none left, requests for text are 402
  std::string currency = "CNY";
};

class Server {
 public:
  // All must outlive the server, `log` may be null. `engine` is only asked for what does not change.
  Server(const ServedModel& model, const engine::Engine& engine, engine::EngineThread& thread, AccessLog* log,
         ServerOptions options);
  ~Server();  // stops the engine's thread, whose listeners are this server's

  void Handle(net::HttpRequest request, std::shared_ptr<net::Exchange> exchange);
  // From now on /health and what needs the engine answer 503.
  void SetDraining() { draining_ = true; }
  const Metrics& metrics() const { return metrics_; }
  std::string MetricsExposition() const { return metrics_.Text(thread_.stats(), engine_options_, cache_bytes_); }
  std::string ModelsJson() const;                   // the elements of /v1/models
  static Dialect DialectOf(std::string_view path);  // in whose words errors are

 private:
  using Answerer = void (Server::*)(const net::HttpRequest&, const std::shared_ptr<Call>&);
  struct Route {
    std::string_view method, path;  // a path that ends in / has more behind it
    bool needs_key;
    bool has_body;
    Answerer answer;
    Dialect dialect = Dialect::kOpenAi;
  };
  static const std::vector<Route>& Routes();
  static const Route* FindRoute(std::string_view path);  // null where there is none

  void Dispatch(const Route& route, net::HttpRequest request, std::shared_ptr<Call> call);
  void Run(const Route& route, const net::HttpRequest& request, const std::shared_ptr<Call>& call);

  void CheckReady() const;  // for text; throws ApiError
  void Answer(std::shared_ptr<Reply> reply);

  void Chat(const net::HttpRequest& request, const std::shared_ptr<Call>& call);
  void Completion(const net::HttpRequest& request, const std::shared_ptr<Call>& call);
  void Models(const net::HttpRequest& request, const std::shared_ptr<Call>& call);
  void Model(const net::HttpRequest& request, const std::shared_ptr<Call>& call);
  void Messages(const net::HttpRequest& request, const std::shared_ptr<Call>& call);
  void CountTokens(const net::HttpRequest& request, const std::shared_ptr<Call>& call);
  void Responses(const net::HttpRequest& request, const std::shared_ptr<Call>& call);
  void Embeddings(const net::HttpRequest& request, const std::shared_ptr<Call>& call);
  void Balance(const net::HttpRequest& request, const std::shared_ptr<Call>& call);
  void Tokenize(const net::HttpRequest& request, const std::shared_ptr<Call>& call);
  void Detokenize(const net::HttpRequest& request, const std::shared_ptr<Call>& call);
  void Health(const net::HttpRequest& request, const std::shared_ptr<Call>& call);
  void MetricsText(const net::HttpRequest& request, const std::shared_ptr<Call>& call);
  void Version(const net::HttpRequest& request, const std::shared_ptr<Call>& call);
  void Page(const net::HttpRequest& request, const std::shared_ptr<Call>& call);

  const ServedModel& model_;
  engine::EngineThread& thread_;
  const engine::EngineOptions engine_options_;
  const int64_t cache_bytes_;
  const ServerOptions options_;
  const ApiKeys keys_;
  Metrics metrics_;
  CallContext context_;
  std::atomic<bool> draining_{false};
  Heartbeat heartbeat_;
  WorkQueue work_;  // last: what it still does at the end uses the rest
};

// What a browser is told before it calls from another page; no origin: nothing.
net::HttpResponse AnswerPreflight(const net::HttpRequest& request, const std::string& cors_origin);

}  // namespace fathom::server
