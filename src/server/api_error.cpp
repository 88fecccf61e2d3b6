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

// DeepSeek's and Anthropic's words for a status.
std::string_view DeepSeekType(int status) {
  switch (status) {
    case 401:
      return "authentication_error";
    case 402:
      return "unknown_error";
    case 429:
      return "rate_limit_error";
    default:
      return status < 500 ? "invalid_request_error" : "server_error";
  }
}

std::string_view AnthropicType(int status) {
  switch (status) {
    case 401:
      return "authentication_error";
    case 402:
      return "billing_error";
    case 403:
      return "permission_error";
    case 404:
      return "not_found_error";
    case 413:
      return "request_too_large";
    case 429:
      return "rate_limit_error";
    case 529:
      return "overloaded_error";
    default:
      return status < 500 ? "invalid_request_error" : "api_error";
  }
}

}  // namespace

ApiError BadField(std::string param, std::string message, std::string code) {
  ApiError e;
  e.param = std::move(param);
  e.message = std::move(message);
  e.code = std::move(code);
  return e;
}

ApiError Refused(int status, std::string message, std::string code, std::string param) {
  ApiError e = BadField(std::move(param), std::move(message), std::move(code));
  e.status = status;
  return e;
}

ApiError NoKey() { return Refused(401, "a valid API key is needed: Authorization: Bearer KEY", "invalid_api_key"); }

ApiError NoSuchModel(std::string_view name, const std::vector<std::string>& there) {
  return Refused(404,
                 fmt::format("The model `{}` does not exist here; this server has {}", name.substr(0, 200),
                             fmt::join(there, ", ")),
                 "model_not_found", "model");
}

ApiError QueueFull() {
  return Make(429, "rate_limit_error", "queue_full", "as many requests wait as this server lets wait; try again later",
              1);
}

ApiError Draining() {
  return Make(503, "server_error", "draining", "this server is shutting down and takes no more requests", 5);
}

ApiError ServerFault(std::string message) { return Make(500, "server_error", "", std::move(message)); }

ApiError Overloaded() {
  return Make(503, "server_error", "overloaded", "no answer could be begun in the time that requests may wait", 5);
}

ApiError InsufficientBalance() {
  return Make(402, "insufficient_balance", "insufficient_balance", "Insufficient Balance");
}

int StatusOf(const ApiError& e, Dialect dialect) {
  if (dialect == Dialect::kAnthropic && e.status == 503) return 529;
  if (dialect == Dialect::kDeepSeek) {
    if (e.code == "model_not_found") return 400;
    if (e.status == 400 && !e.param.empty() && e.code != "context_length_exceeded") return 422;
  }
  return e.status;
}

std::string ErrorJson(const ApiError& e, Dialect dialect) {
  const auto or_null = [](const std::string& s) { return s.empty() ? std::string("null") : Quoted(s); };
  const int status = StatusOf(e, dialect);
  switch (dialect) {
    case Dialect::kAnthropic:
      return fmt::format(R"({{"type":"error","error":{{"type":"{}","message":{}}}}})", AnthropicType(status),
                         Quoted(e.message));
    case Dialect::kDeepSeek:
      return fmt::format(R"({{"error":{{"message":{},"type":"{}","param":{},"code":"invalid_request_error"}}}})",
                         Quoted(e.message), DeepSeekType(status), or_null(e.param));
    case Dialect::kOpenAi:
      break;
  }
  return fmt::format(R"({{"error":{{"message":{},"type":{},"param":{},"code":{}}}}})", Quoted(e.message),
                     Quoted(e.type), or_null(e.param), or_null(e.code));
}

net::HttpResponse ErrorResponse(const ApiError& e, Dialect dialect) {
  net::HttpResponse response{
      .status = StatusOf(e, dialect), .headers = {{"Content-Type", "application/json"}}, .body = ErrorJson(e, dialect)};
  if (e.retry_after > 0) response.headers.emplace_back("Retry-After", std::to_string(e.retry_after));
  if (e.status == 401) response.headers.emplace_back("WWW-Authenticate", "Bearer");
  return response;
}

}  // namespace fathom::server
