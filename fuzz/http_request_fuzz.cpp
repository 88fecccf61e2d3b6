// Any bytes as HTTP requests under small limits: cut into pieces they give the same requests and the same refusal, and
// nothing grows beyond the limits.
#include <cstdlib>
#include <string>

#include "net/request_reader.h"

using namespace fathom::net;

namespace {

constexpr int64_t kHead = 256, kBody = 64;

std::string ReadAll(std::string_view bytes, size_t piece) {
  std::string text, waiting;
  auto reader = std::make_unique<RequestReader>(kHead, kBody);
  for (size_t at = 0; at < bytes.size(); at += piece) {
    waiting += bytes.substr(at, piece);
    for (;;) {
      waiting.erase(0, reader->Feed(waiting));
      if (reader->status() != RequestReader::Status::kComplete) break;
      const HttpRequest request = reader->Take();
      if (request.body.size() > kBody || request.path.size() > kHead) std::abort();
      text += request.method + "\n" + request.path + "\n" + request.query + "\n" + request.body + "\n";
      for (const auto& [name, value] : request.headers) text += name + ":" + value + "\n";
      reader = std::make_unique<RequestReader>(kHead, kBody);
    }
    if (reader->status() == RequestReader::Status::kRefused) {
      if (reader->refusal() < 400 || reader->reason().empty()) std::abort();
      return text + "refused";
    }
    if (waiting.size() > kHead + piece) std::abort();
  }
  return text;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), std::min<size_t>(size, 4096));
  const std::string whole = ReadAll(bytes, 64);
  if (ReadAll(bytes, size > 0 ? 1 + data[0] % 7 : 1) != whole) std::abort();
  return 0;
}
