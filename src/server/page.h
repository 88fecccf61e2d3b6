// The chat page's files (web/ and the libraries it uses), held in the program.
#pragma once

#include <string_view>

#include "net/http.h"

namespace fathom::server {

struct PageFile {
  std::string_view path;          // as it is asked for: "/style.css"
  std::string_view content_type;  // the value of the header, charset included
  std::string_view bytes;         // of static storage
  std::string_view etag;          // the value of the header, quotes included; changes with the bytes
  bool gzip = false;              // `bytes` are compressed: send Content-Encoding: gzip
};

// The file of a request's path ("/" is the page itself), or nullptr.
const PageFile* FindPageFile(std::string_view path);

// Content-Security-Policy of every page file: nothing is loaded from or sent to anywhere but this server, and no script
// runs that is not one of these files, whatever a model writes.
inline constexpr std::string_view kPagePolicy =
    "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self'; object-src 'none'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

// The file, or 304 if the client has it.
net::HttpResponse AnswerPage(const net::HttpRequest& request, const PageFile& file);

}  // namespace fathom::server
