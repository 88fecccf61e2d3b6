#include "server/page.h"

#include <algorithm>

#include "server/page_data.h"

namespace fathom::server {

const PageFile* FindPageFile(std::string_view path) {
  if (path == "/") path = "/index.html";
  const auto files = PageFiles();
  const auto found = std::find_if(files.begin(), files.end(), [&](const PageFile& file) { return file.path == path; });
  return found == files.end() ? nullptr : &*found;
}

net::HttpResponse AnswerPage(const net::HttpRequest& request, const PageFile& file) {
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
  return response;
}

}  // namespace fathom::server
