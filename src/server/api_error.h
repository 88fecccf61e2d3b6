// What a client is told when its request cannot be served, in the form of OpenAI's API:
//   {"error": {"message": ..., "type": ..., "param": "messages[0].content", "code": ...}}
#pragma once

#include <exception>
#include <string>

#include "net/http.h"

namespace fathom::server {

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
ApiError QueueFull();
ApiError Draining();
ApiError ServerFault(std::string message);  // 500

std::string ErrorJson(const ApiError& error);
net::HttpResponse ErrorResponse(const ApiError& error);

}  // namespace fathom::server
