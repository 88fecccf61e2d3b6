#include "server/server.h"

#include <fmt/format.h>

#include <algorithm>

#include "server/page.h"

namespace fathom::server {
namespace {

constexpr int kWorkers = 2;
constexpr size_t kMaxBodiesWaiting = 256;

bool IsHeaderSafe(std::string_view value) {
  return std::all_of(value.begin(), value.end(), [](char c) { return c >= 0x20 && c < 0x7f; });
}

}  // namespace

const std::vector<Server::Route>& Server::Routes() {
  constexpr Dialect kDeepSeek = Dialect::kDeepSeek, kAnthropic = Dialect::kAnthropic;
  static const std::vector<Route> routes = {
      {"POST", "/v1/chat/completions", true, true, &Server::Chat},
      {"POST", "/v1/completions", true, true, &Server::Completion},
      {"POST", "/v1/responses", true, true, &Server::Responses},
      {"POST", "/v1/embeddings", true, true, &Server::Embeddings},
      {"GET", "/v1/models", true, false, &Server::Models},
      {"GET", "/v1/models/", true, false, &Server::Model},
      {"POST", "/chat/completions", true, true, &Server::Chat, kDeepSeek},
      {"POST", "/beta/chat/completions", true, true, &Server::Chat, kDeepSeek},
      {"POST", "/beta/completions", true, true, &Server::Completion, kDeepSeek},
      {"GET", "/models", true, false, &Server::Models, kDeepSeek},
      {"GET", "/beta/models", true, false, &Server::Models, kDeepSeek},
      {"GET", "/user/balance", true, false, &Server::Balance, kDeepSeek},
      {"POST", "/v1/messages", true, true, &Server::Messages, kAnthropic},
      {"POST", "/v1/messages/count_tokens", true, true, &Server::CountTokens, kAnthropic},
      {"POST", "/anthropic/v1/messages", true, true, &Server::Messages, kAnthropic},
      {"POST", "/anthropic/v1/messages/count_tokens", true, true, &Server::CountTokens, kAnthropic},
      {"POST", "/tokenize", true, true, &Server::Tokenize},
      {"POST", "/detokenize", true, true, &Server::Detokenize},
      {"GET", "/health", false, false, &Server::Health},
      {"GET", "/metrics", false, false, &Server::MetricsText},
      {"GET", "/version", false, false, &Server::Version},
      {"GET", "/", false, false, &Server::Page},  // last: whatever is left
  };
  return routes;
}

Server::Server(const ServedModel& model, const engine::Engine& engine, engine::EngineThread& thread, AccessLog* log,
               ServerOptions options)
    : model_(model),
      thread_(thread),
      engine_options_(engine.options()),
      cache_bytes_(engine.cache_bytes()),
      options_(std::move(options)),
      keys_(options_.keys),
      metrics_(model.names.front()),
      context_{.metrics = metrics_,
               .log = log,
               .cors_origin = options_.cors_origin,
               .usage = options_.usage,
               .model = model.names.front(),
               .trace = options_.trace},
      heartbeat_(options_.heartbeat),
      work_(kWorkers, kMaxBodiesWaiting) {
  if (!options_.trace) return;
  context_.engine_track = options_.trace->NewTrack();
  options_.trace->NameTrack(context_.engine_track, "engine of " + model.names.front());
}

Server::~Server() { thread_.Stop(); }

const Server::Route* Server::FindRoute(std::string_view path) {
  for (const Route& r : Routes()) {
    if (path == r.path || (r.path.back() == '/' && path.substr(0, r.path.size()) == r.path)) return &r;
  }
  return nullptr;
}

Dialect Server::DialectOf(std::string_view path) {
  const Route* route = FindRoute(path);
  return route ? route->dialect : Dialect::kOpenAi;
}

void Server::Handle(net::HttpRequest request, std::shared_ptr<net::Exchange> exchange) {
  const Route* route = FindRoute(request.path);
  const bool known = route && (route->path != "/" || (options_.page && FindPageFile(request.path)));
  const auto call = std::make_shared<Call>(context_, request, std::move(exchange), known ? route->path : "other",
                                           known ? route->dialect : Dialect::kOpenAi);
  try {
    if (!known) {
      // What lies below /v1 is nobody's business without a key.
      if (request.path.rfind("/v1/", 0) == 0 && !keys_.Allows(request.headers)) throw NoKey();
      throw Refused(404, fmt::format("no such path: {} {}", request.method.substr(0, 16), request.path.substr(0, 200)),
                    "unknown_url");
    }
    if (request.method == "OPTIONS") return call->Send(AnswerPreflight(request, options_.cors_origin));
    const std::shared_ptr<KeyAccount> account = route->needs_key ? keys_.Find(request.headers) : nullptr;
    if (route->needs_key && !account) throw NoKey();
    call->SetAccount(account);
    if (request.method != route->method) {
      net::HttpResponse response =
          ErrorResponse(Refused(405, fmt::format("{} takes {} only", route->path, route->method), "method_not_allowed"),
                        route->dialect);
      response.headers.emplace_back("Allow", fmt::format("{}, OPTIONS", route->method));
      return call->Send(std::move(response));
    }
    if (account && route->has_body) call->Admit();
  } catch (const ApiError& e) {
    return call->Fail(e);
  }
  Dispatch(*route, std::move(request), call);
}

void Server::Dispatch(const Route& route, net::HttpRequest request, std::shared_ptr<Call> call) {
  if (!route.has_body || static_cast<int64_t>(request.body.size()) <= options_.inline_bytes) {
    return Run(route, request, call);
  }
  const auto shared = std::make_shared<net::HttpRequest>(std::move(request));
  if (!work_.Post([this, &route, shared, call] { Run(route, *shared, call); })) call->Fail(QueueFull());
}

void Server::Run(const Route& route, const net::HttpRequest& request, const std::shared_ptr<Call>& call) {
  try {
    (this->*route.answer)(request, call);
  } catch (const ApiError& e) {
    call->Fail(e);
  } catch (const Error& e) {
    call->Fail(BadField("", e.summary()));
  } catch (const std::bad_alloc&) {
    call->Fail(ServerFault("out of memory"));
  } catch (const std::exception& e) {
    call->Fail(ServerFault(e.what()));
  }
}

net::HttpResponse AnswerPreflight(const net::HttpRequest& request, const std::string& cors_origin) {
  net::HttpResponse response{.status = 204, .headers = {{"Allow", "GET, POST, OPTIONS"}}, .body = ""};
  if (!cors_origin.empty()) {
    const std::string_view wanted = net::Find(request.headers, "Access-Control-Request-Headers");
    response.headers.emplace_back("Access-Control-Allow-Methods", "GET, POST, OPTIONS");
    response.headers.emplace_back("Access-Control-Allow-Headers",
                                  wanted.empty() || !IsHeaderSafe(wanted) ? "Authorization, Content-Type" : wanted);
    response.headers.emplace_back("Access-Control-Max-Age", "86400");
  }
  return response;
}

void Server::CheckReady() const {
  if (draining_) throw Draining();
  if (options_.balance && *options_.balance <= 0) throw InsufficientBalance();
}

void Server::Answer(std::shared_ptr<Reply> reply) {
  heartbeat_.Watch(reply);
  reply->Start();
}

void Server::Health(const net::HttpRequest&, const std::shared_ptr<Call>& call) {
  if (draining_) return call->Fail(Draining());
  call->Send({.headers = {{"Content-Type", "application/json"}}, .body = R"({"status":"ok"})"});
}

void Server::MetricsText(const net::HttpRequest&, const std::shared_ptr<Call>& call) {
  call->Send({.headers = {{"Content-Type", "text/plain; version=0.0.4; charset=utf-8"}}, .body = MetricsExposition()});
}

void Server::Page(const net::HttpRequest& request, const std::shared_ptr<Call>& call) {
  call->Send(AnswerPage(request, *FindPageFile(request.path)));
}

}  // namespace fathom::server
