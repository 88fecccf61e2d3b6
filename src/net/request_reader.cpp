#include "net/request_reader.h"

#include "core/error.h"
#include "net/piece_body.h"

namespace fathom::net {
namespace {

namespace http = boost::beast::http;
using ErrorCode = boost::beast::error_code;

// A string that grows by what has come. Beast's own reserves what Content-Length promises, so that a few clients who
// promise much and send nothing would take all memory.
struct GrowingText {
  std::string text;
  void Take(std::string_view piece) { text.append(piece); }
};

// The path of "/a%20b?c", and of the absolute form that proxies use. False for what is no path.
bool SplitTarget(std::string_view target, std::string* path, std::string* query) {
  if (const size_t scheme = target.find("://"); scheme != std::string_view::npos && target.front() != '/') {
    const size_t slash = target.find('/', scheme + 3);
    target = slash == std::string_view::npos ? "/" : target.substr(slash);
  }
  if (target.empty() || (target.front() != '/' && target != "*")) return false;
  if (const size_t mark = target.find('?'); mark != std::string_view::npos) {
    *query = target.substr(mark + 1);
    target = target.substr(0, mark);
  }
  return PercentDecode(target, path) && path->find('\0') == std::string::npos;
}

}  // namespace

struct RequestReader::State {
  http::request_parser<PieceBody<GrowingText>> parser;
  size_t max_head;
  Status status = Status::kHead;
  int refusal = 0;
  std::string reason, path, query;
  bool expects_continue = false;

  void Refuse(int code, std::string why) {
    status = Status::kRefused;
    refusal = code;
    reason = std::move(why);
  }

  void Refuse(const ErrorCode& error) {
    if (error == http::error::header_limit) return Refuse(431, "the request's head is too large");
    if (error == http::error::body_limit) return Refuse(413, "the request's body is too large");
    Refuse(400, "not a valid HTTP request: " + error.message());
  }

  void CheckHead() {
    const auto& head = parser.get();
    const auto text = [](boost::beast::string_view s) { return std::string_view(s.data(), s.size()); };
    if (head.version() >= 11 && head.count(http::field::host) != 1) {
      return Refuse(400, "not a valid HTTP request: exactly one Host header is needed");
    }
    if (head.count(http::field::transfer_encoding) > 0 &&
        !(parser.chunked() && EqualNames(text(head[http::field::transfer_encoding]), "chunked") &&
          head.count(http::field::transfer_encoding) == 1)) {
      return Refuse(400, "not a valid HTTP request: the only Transfer-Encoding that is understood is chunked");
    }
    if (!SplitTarget(text(head.target()), &path, &query)) {
      return Refuse(400, "not a valid HTTP request: the target is no path");
    }
    if (const auto expect = text(head[http::field::expect]); !expect.empty() && head.version() >= 11) {
      if (!EqualNames(expect, "100-continue")) return Refuse(417, "the only expectation that is met is 100-continue");
      expects_continue = true;
    }
    status = Status::kBody;
  }
};

RequestReader::RequestReader(int64_t max_head_bytes, int64_t max_body_bytes) : state_(std::make_unique<State>()) {
  state_->max_head = static_cast<size_t>(max_head_bytes);
  state_->parser.header_limit(static_cast<uint32_t>(max_head_bytes));
  state_->parser.body_limit(static_cast<uint64_t>(max_body_bytes));
}

RequestReader::~RequestReader() = default;

size_t RequestReader::Feed(std::string_view bytes) {
  State& s = *state_;
  size_t used = 0;
  while (used < bytes.size() && (s.status == Status::kHead || s.status == Status::kBody)) {
    ErrorCode error;
    const size_t taken = s.parser.put(boost::asio::buffer(bytes.data() + used, bytes.size() - used), error);
    used += taken;
    if (error == http::error::need_more) {
      // Beast wants lines whole: of a head, but also of a chunk's length with its extensions, which it does not limit.
      if (bytes.size() - used > s.max_head) {
        s.Refuse(s.status == Status::kHead ? 431 : 400, "a line of the request is too long");
      }
      break;
    }
    if (error) {
      s.Refuse(error);
      break;
    }
    if (s.status == Status::kHead && s.parser.is_header_done()) s.CheckHead();
    if (s.status == Status::kBody && s.parser.is_done()) s.status = Status::kComplete;
  }
  return used;
}

RequestReader::Status RequestReader::status() const { return state_->status; }
int RequestReader::refusal() const { return state_->refusal; }
const std::string& RequestReader::reason() const { return state_->reason; }
bool RequestReader::keep_alive() const { return state_->parser.get().keep_alive(); }
bool RequestReader::http_1_0() const { return state_->parser.get().version() < 11; }
bool RequestReader::expects_continue() const { return state_->expects_continue; }
int64_t RequestReader::body_bytes() const { return static_cast<int64_t>(state_->parser.get().body().text.size()); }

HttpRequest RequestReader::Take() {
  State& s = *state_;
  FATHOM_CHECK(s.status == Status::kComplete);
  auto& message = s.parser.get();
  HttpRequest request;
  request.method = std::string(message.method_string());
  request.path = std::move(s.path);
  request.query = std::move(s.query);
  for (const auto& field : message) {
    request.headers.emplace_back(std::string(field.name_string()), std::string(field.value()));
  }
  request.body = std::move(message.body().text);
  return request;
}

}  // namespace fathom::net
