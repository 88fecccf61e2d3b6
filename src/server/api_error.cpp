#include "server/api_error.h"

#include <fmt/format.h>

#include "server/json_text.h"

namespace fathom::server {
namespace {

ApiError Make(int status, std::string type, std::string code, std::string message, int retry_after = 0) {
  ApiError e;
  e.status = status;
  e.type = std::move(type);
  e.code = std::move(code);
  e.message = std::move(message);
  e.retry_after = retry_after;
  return e;
}

}  // namespace

ApiError BadField(std::string param, std::string message, std::string code) {
  ApiError e;
  e.param = std::move(param);
  e.message = std::move(message);
  e.code = std::move(code);
  return e;
}

ApiError QueueFull() {
  return Make(429, "rate_limit_error", "queue_full", "as many requests wait as this server lets wait; try again later",
              1);
}

ApiError Draining() {
  return Make(503, "server_error", "draining", "this server is shutting down and takes no more requests", 5);
}

ApiError ServerFault(std::string message) { return Make(500, "server_error", "", std::move(message)); }

std::string ErrorJson(const ApiError& e) {
  const auto or_null = [](const std::string& s) { return s.empty() ? std::string("null") : Quoted(s); };
  return fmt::format(R"({{"error":{{"message":{},"type":{},"param":{},"code":{}}}}})", Quoted(e.message),
                     Quoted(e.type), or_null(e.param), or_null(e.code));
}

net::HttpResponse ErrorResponse(const ApiError& e) {
  net::HttpResponse response{
      .status = e.status, .headers = {{"Content-Type", "application/json"}}, .body = ErrorJson(e)};
  if (e.retry_after > 0) response.headers.emplace_back("Retry-After", std::to_string(e.retry_after));
  if (e.status == 401) response.headers.emplace_back("WWW-Authenticate", "Bearer");
  return response;
}

}  // namespace fathom::server
