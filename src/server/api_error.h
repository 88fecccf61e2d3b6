// What a client is told when its request cannot be served, in the form of the API that it speaks:
//   OpenAI's     {"error": {"message": ..., "type": ..., "param": "messages[0].content", "code": ...}}
//   DeepSeek's   the same; a wrong field is 422, an unknown model 400, and types and codes are that API's
//   Anthropic's  {"type": "error", "error": {"type": ..., "message": ...}}
#pragma once

#include <exception>
#include <string>
#include <string_view>
#include <vector>

#include "net/http.h"

namespace fathom::server {

enum class Dialect { kOpenAi, kDeepSeek, kAnthropic };

// Thrown while a request is read and checked, caught where its handler was called: it is the response.
struct ApiError : std::exception {
  int status = 400;
  std::string message;
  std::string type = "invalid_request_error";
  std::string param;    // the field, empty: null
  std::string code;     // empty: null
  int retry_after = 0;  // seconds, of 429 and 503

  const char* what() const noexcept override { return message.c_str(); }
};

ApiError BadField(std::string param, std::string message, std::string code = "");
ApiError Refused(int status, std::string message, std::string code = "", std::string param = "");
ApiError NoKey();                                                                    // 401
ApiError NoSuchModel(std::string_view name, const std::vector<std::string>& there);  // 404
ApiError QueueFull();
ApiError Draining();
ApiError Overloaded();                      // it waited too long
ApiError InsufficientBalance();             // 402
ApiError ServerFault(std::string message);  // 500

int StatusOf(const ApiError& error, Dialect dialect);
std::string ErrorJson(const ApiError& error, Dialect dialect = Dialect::kOpenAi);
net::HttpResponse ErrorResponse(const ApiError& error, Dialect dialect = Dialect::kOpenAi);

}  // namespace fathom::server
