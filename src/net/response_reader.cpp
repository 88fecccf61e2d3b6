#include "net/response_reader.h"

#include <limits>
#include <optional>

#include "net/piece_body.h"

namespace fathom::net {
namespace {

namespace http = boost::beast::http;
using ErrorCode = boost::beast::error_code;

// A body that is handed on instead of kept.
struct PassedOn {
  const std::function<void(std::string_view)>* sink = nullptr;
  void Take(std::string_view piece) const {
    if (!piece.empty()) (*sink)(piece);
  }
};

}  // namespace

struct ResponseReader::State {
  size_t max_head;
  bool head_only;
  std::function<void(std::string_view)> on_body;
  std::optional<http::response_parser<PieceBody<PassedOn>>> parser;
  Status status = Status::kHead;
  std::string reason;

  void Renew() {
    parser.emplace();
    parser->header_limit(static_cast<uint32_t>(max_head));
    parser->body_limit(std::numeric_limits<uint64_t>::max());  // boost::none refuses every body in Boost 1.74
    parser->skip(head_only);
    parser->get().body().sink = &on_body;
  }
  void Fail(std::string why) {
    status = Status::kBad;
    reason = std::move(why);
  }
};

ResponseReader::ResponseReader(int64_t max_head_bytes, bool head_only, std::function<void(std::string_view)> on_body)
    : state_(std::make_unique<State>()) {
  state_->max_head = static_cast<size_t>(max_head_bytes);
  state_->head_only = head_only;
  state_->on_body = std::move(on_body);
  state_->Renew();
}

ResponseReader::~ResponseReader() = default;

size_t ResponseReader::Feed(std::string_view bytes) {
  State& s = *state_;
  size_t used = 0;
  while (used < bytes.size() && (s.status == Status::kHead || s.status == Status::kBody)) {
    ErrorCode error;
    const size_t taken = s.parser->put(boost::asio::buffer(bytes.data() + used, bytes.size() - used), error);
    used += taken;
    if (error == http::error::need_more) {
      if (bytes.size() - used > s.max_head) s.Fail("a line of the answer is too long");
      break;
    }
    if (error) {
      s.Fail(error.message());
      break;
    }
    if (s.status == Status::kHead && s.parser->is_header_done()) {
      if (s.parser->get().result_int() < 200 && s.parser->get().result_int() != 101) {
        s.Renew();
        continue;
      }
      s.status = Status::kBody;
    }
    if (s.status == Status::kBody && s.parser->is_done()) s.status = Status::kComplete;
  }
  return used;
}

void ResponseReader::End() {
  State& s = *state_;
  if (s.status == Status::kComplete || s.status == Status::kBad) return;
  ErrorCode error;
  if (s.status == Status::kBody) s.parser->put_eof(error);
  if (s.status == Status::kHead || error) return s.Fail("the connection ended before the answer");
  s.status = Status::kComplete;
}

ResponseReader::Status ResponseReader::status() const { return state_->status; }
const std::string& ResponseReader::reason() const { return state_->reason; }
int ResponseReader::code() const { return static_cast<int>(state_->parser->get().result_int()); }
bool ResponseReader::keep_alive() const { return state_->parser->keep_alive() && !state_->parser->need_eof(); }

Headers ResponseReader::headers() const {
  Headers headers;
  for (const auto& field : state_->parser->get()) {
    headers.emplace_back(std::string(field.name_string()), std::string(field.value()));
  }
  return headers;
}

}  // namespace fathom::net
