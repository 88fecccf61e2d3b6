// Any bytes as HTTP requests under small limits: cut into pieces they give the same requests, up to a refusal, which
// may come sooner or later (Beast looks at a head again only when its end has come); nothing grows beyond the limits.
#include <algorithm>
#include <cstdlib>
#include <memory>
#include <string>

#include "net/request_reader.h"

using namespace fathom::net;

namespace {

constexpr int64_t kHead = 256, kBody = 64;

struct Outcome {
  std::string text;  // of the complete requests
  bool refused = false;
};

Outcome ReadAll(std::string_view bytes, size_t piece) {
  Outcome outcome;
  std::string& text = outcome.text;
  std::string waiting;
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
      outcome.refused = true;
      return outcome;
    }
    if (waiting.size() > kHead + piece) std::abort();
  }
  return outcome;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), std::min<size_t>(size, 4096));
  const Outcome whole = ReadAll(bytes, 64), cut = ReadAll(bytes, size > 0 ? 1 + data[0] % 7 : 1);
  const size_t common = std::min(whole.text.size(), cut.text.size());
  if (whole.text.compare(0, common, cut.text, 0, common) != 0) std::abort();
  if (whole.text.size() > common && !cut.refused) std::abort();
  if (cut.text.size() > common && !whole.refused) std::abort();
  return 0;
}
