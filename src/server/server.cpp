#include "server/server.h"

#include <fmt/format.h>

#include <algorithm>

#include "server/page.h"

namespace fathom::server {
namespace {

constexpr int kWorkers = 2;
constexpr size_t kMaxBodiesWaiting = 256;

ApiError Status(int status, std::string message, std::string code = "") {
  ApiError e = BadField("", std::move(message), std::move(code));
  e.status = status;
  return e;
}

bool IsHeaderSafe(std::string_view value) {
  return std::all_of(value.begin(), value.end(), [](char c) { return c >= 0x20 && c < 0x7f; });
}

}  // namespace

const std::vector<Server::Route>& Server::Routes() {
  static const std::vector<Route> routes = {
      {"POST", "/v1/chat/completions", true, true, &Server::Chat},
      {"POST", "/v1/completions", true, true, &Server::Completion},
      {"GET", "/v1/models", true, false, &Server::Models},
      {"GET", "/v1/models/", true, false, &Server::Model},
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
      keys_(options_.api_keys),
      metrics_(model.names.front()),
      context_{.metrics = metrics_, .log = log, .cors_origin = options_.cors_origin},
      work_(kWorkers, kMaxBodiesWaiting) {}

Server::~Server() { thread_.Stop(); }

void Server::Handle(net::HttpRequest request, std::shared_ptr<net::Exchange> exchange) {
  const auto matches = [&](const Route& r) {
    return r.path.back() == '/' ? request.path.size() >= r.path.size() && request.path.rfind(r.path, 0) == 0
                                : request.path == r.path;
  };
  const auto& routes = Routes();
  const auto route = std::find_if(routes.begin(), routes.end(), matches);
  const bool known = route != routes.end() && (route->path != "/" || (options_.page && FindPageFile(request.path)));
  const auto call = std::make_shared<Call>(context_, request, std::move(exchange), known ? route->path : "other");
  try {
    if (!known) {
      // What lies below /v1 is nobody's business without a key.
      if (request.path.rfind("/v1/", 0) == 0 && !keys_.Allows(net::Find(request.headers, "Authorization")))
        throw Status(401, "a valid API key is needed: Authorization: Bearer KEY", "invalid_api_key");
      throw Status(404, fmt::format("no such path: {} {}", request.method.substr(0, 16), request.path.substr(0, 200)),
                   "unknown_url");
    }
    if (request.method == "OPTIONS") return Preflight(request, *call);
    if (route->needs_key && !keys_.Allows(net::Find(request.headers, "Authorization"))) {
      throw Status(401, "a valid API key is needed: Authorization: Bearer KEY", "invalid_api_key");
    }
    if (request.method != route->method) {
      net::HttpResponse response =
          ErrorResponse(Status(405, fmt::format("{} takes {} only", route->path, route->method), "method_not_allowed"));
      response.headers.emplace_back("Allow", fmt::format("{}, OPTIONS", route->method));
      return call->Send(std::move(response));
    }
  } catch (const ApiError& e) {
    return call->Send(ErrorResponse(e));
  }
  Dispatch(*route, std::move(request), call);
}

void Server::Dispatch(const Route& route, net::HttpRequest request, std::shared_ptr<Call> call) {
  if (!route.has_body || static_cast<int64_t>(request.body.size()) <= options_.inline_bytes) {
    return Run(route, request, call);
  }
  const auto shared = std::make_shared<net::HttpRequest>(std::move(request));
  if (!work_.Post([this, &route, shared, call] { Run(route, *shared, call); })) call->Send(ErrorResponse(QueueFull()));
}

void Server::Run(const Route& route, const net::HttpRequest& request, const std::shared_ptr<Call>& call) {
  try {
    (this->*route.answer)(request, call);
  } catch (const ApiError& e) {
    call->Send(ErrorResponse(e));
  } catch (const Error& e) {
    call->Send(ErrorResponse(BadField("", e.summary())));
  } catch (const std::bad_alloc&) {
    call->Send(ErrorResponse(ServerFault("out of memory")));
  } catch (const std::exception& e) {
    call->Send(ErrorResponse(ServerFault(e.what())));
  }
}

void Server::Preflight(const net::HttpRequest& request, Call& call) const {
  net::HttpResponse response{.status = 204, .headers = {{"Allow", "GET, POST, OPTIONS"}}, .body = ""};
  if (!options_.cors_origin.empty()) {
    const std::string_view wanted = net::Find(request.headers, "Access-Control-Request-Headers");
    response.headers.emplace_back("Access-Control-Allow-Methods", "GET, POST, OPTIONS");
    response.headers.emplace_back("Access-Control-Allow-Headers",
                                  wanted.empty() || !IsHeaderSafe(wanted) ? "Authorization, Content-Type" : wanted);
    response.headers.emplace_back("Access-Control-Max-Age", "86400");
  }
  call.Send(std::move(response));
}

void Server::Health(const net::HttpRequest&, const std::shared_ptr<Call>& call) {
  if (draining_) return call->Send(ErrorResponse(Draining()));
  call->Send({.headers = {{"Content-Type", "application/json"}}, .body = R"({"status":"ok"})"});
}

void Server::MetricsText(const net::HttpRequest&, const std::shared_ptr<Call>& call) {
  call->Send({.headers = {{"Content-Type", "text/plain; version=0.0.4; charset=utf-8"}},
              .body = metrics_.Text(thread_.stats(), engine_options_, cache_bytes_)});
}

void Server::Page(const net::HttpRequest& request, const std::shared_ptr<Call>& call) {
  const PageFile& file = *FindPageFile(request.path);
  net::HttpResponse response{.headers = {{"Content-Type", std::string(file.content_type)},
                                         {"ETag", std::string(file.etag)},
                                         {"Cache-Control", "no-cache"},
                                         {"Content-Security-Policy", std::string(kPagePolicy)},
                                         {"Referrer-Policy", "no-referrer"}},
                             .body = ""};
  if (net::Find(request.headers, "If-None-Match").find(file.etag) != std::string_view::npos) {
    response.status = 304;
  } else {
    if (file.gzip) response.headers.emplace_back("Content-Encoding", "gzip");
    response.body = file.bytes;
  }
  call->Send(std::move(response));
}

}  // namespace fathom::server
