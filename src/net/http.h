// What a request and a response are. Names of headers are kept as they came and compared without case.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace fathom::net {

using Headers = std::vector<std::pair<std::string, std::string>>;
// The first value of a header, or nothing.
std::string_view Find(const Headers& headers, std::string_view name);

struct HttpRequest {
  std::string method;  // GET POST OPTIONS ...
  std::string path;    // without the query, percent-decoded
  std::string query;   // behind the ?, as it came
  Headers headers;
  std::string body;
  std::string peer;  // address of the client
};

struct HttpResponse {
  int status = 200;
  Headers headers;  // Content-Type is here; Content-Length, Date and Connection are added
  std::string body;
};

std::string_view ReasonPhrase(int status);

bool EqualNames(std::string_view a, std::string_view b);  // ASCII letters without case

// {"error": {"message", "type", "param": null, "code": null}}, as OpenAI's API words its errors.
HttpResponse ErrorResponse(int status, std::string_view message, std::string_view type = "invalid_request_error");

// The bytes that %XX stand for; false where one of them is broken.
bool PercentDecode(std::string_view text, std::string* out);

}  // namespace fathom::net
