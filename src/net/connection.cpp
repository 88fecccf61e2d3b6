#include "net/connection.h"

#include <fmt/format.h>

#include <algorithm>
#include <ctime>
#include <iterator>

#include "net/answer.h"

namespace fathom::net {
namespace {

using Clock = std::chrono::steady_clock;

constexpr size_t kHeadChunk = 2 << 10, kBodyChunk = 64 << 10;
constexpr size_t kPipelined = 64 << 10;  // bytes that may come behind a request before its answer is complete
constexpr double kFinishSeconds = 2;     // for the other side to read the last answer and to close
constexpr double kLeastBodyRate = 1024;  // bytes a second that a body must come in at in the long run
constexpr size_t kKeptOutput = 1 << 10;  // of a stream's buffer between its pieces

std::string Date() {
  const std::time_t now = std::time(nullptr);
  std::tm utc{};
  gmtime_r(&now, &utc);
  static constexpr const char* kDays[] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
  static constexpr const char* kMonths[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                            "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
  return fmt::format("{}, {:02} {} {} {:02}:{:02}:{:02} GMT", kDays[utc.tm_wday], utc.tm_mday, kMonths[utc.tm_mon],
                     utc.tm_year + 1900, utc.tm_hour, utc.tm_min, utc.tm_sec);
}

// A header's text without what would end its line: a value may come from a client.
void AppendField(std::string& out, std::string_view name, std::string_view value) {
  const auto append = [&](std::string_view text) {
    for (const char c : text) out += c == '\r' || c == '\n' || c == '\0' ? ' ' : c;
  };
  append(name);
  out += ": ";
  append(value);
  out += "\r\n";
}

bool HasNoBody(int status) { return status < 200 || status == 204 || status == 304; }

}  // namespace

Connection::Connection(std::shared_ptr<ServerCore> core, std::unique_ptr<Transport> transport, std::string peer)
    : core_(std::move(core)), transport_(std::move(transport)), peer_(std::move(peer)), timer_(core_->io) {}

void Connection::Start() {
  core_->connections.insert(shared_from_this());
  ++core_->connection_count;
  SetDeadline(core_->options.head_seconds);
  transport_->Handshake([self = shared_from_this()](const ErrorCode& error, size_t) {
    if (self->phase_ == Phase::kClosed) return;
    if (error) return self->Close();
    self->ReadRequest();
  });
}

void Connection::StartRefusing(int status, std::string_view message) {
  core_->connections.insert(shared_from_this());
  ++core_->refused;
  refused_ = true;
  Refuse(status, message);
}

void Connection::Close() {
  if (phase_ == Phase::kClosed) return;
  const auto self = shared_from_this();  // the set may hold the last reference
  phase_ = Phase::kClosed;
  core_->connections.erase(self);
  if (refused_) {
    --core_->refused;
  } else {
    --core_->connection_count;
  }
  has_deadline_ = false;
  timer_.cancel();
  transport_->Close();
  CountBody(0);
  reader_.reset();
  if (answer_) {
    const auto answer = std::move(answer_);
    answer->SetGone();
    core_->AnswerEnds();
  }
}

// ---- reading

void Connection::Read() {
  if (reading_) return;
  reading_ = true;
  const size_t size = phase_ == Phase::kBody ? kBodyChunk : kHeadChunk;
  if (chunk_.size() != size) std::vector<char>(size).swap(chunk_);
  transport_->ReadSome(boost::asio::buffer(chunk_), [self = shared_from_this()](const ErrorCode& error, size_t bytes) {
    self->OnRead(error, bytes);
  });
}

void Connection::OnRead(const ErrorCode& error, size_t bytes) {
  reading_ = false;
  switch (phase_) {
    case Phase::kFinishing:
      if (error) Close();  // the other side has read everything
      return;
    case Phase::kClosed:
    case Phase::kHandshake:
    case Phase::kRefusing:
      return;
    case Phase::kIdle:
    case Phase::kHead:
    case Phase::kBody:
      if (error) return Close();
      in_.append(chunk_.data(), bytes);
      return ProcessInput();
    case Phase::kAnswering:
      if (error) return Close();  // the client has gone
      in_.append(chunk_.data(), bytes);
      if (in_.size() < kPipelined) Read();
      return;
  }
}

void Connection::ReadRequest() {
  phase_ = Phase::kIdle;
  head_only_ = false;
  SetDeadline(core_->options.idle_seconds);
  ProcessInput();
}

void Connection::ProcessInput() {
  if (phase_ == Phase::kIdle) {
    // Some clients send an empty line behind a body (RFC 9112, 2.2).
    const size_t begin = in_.find_first_not_of("\r\n");
    in_.erase(0, begin == std::string::npos ? in_.size() : begin);
    if (in_.empty()) return Read();
    phase_ = Phase::kHead;
    reader_ = std::make_unique<RequestReader>(core_->options.max_head_bytes, core_->options.max_body_bytes);
    SetDeadline(core_->options.head_seconds);
  }
  in_.erase(0, reader_->Feed(in_));
  switch (reader_->status()) {
    case RequestReader::Status::kHead:
      return Read();
    case RequestReader::Status::kBody:
      if (phase_ == Phase::kHead) {
        phase_ = Phase::kBody;
        body_begin_ = Clock::now();
        if (reader_->expects_continue() && reader_->body_bytes() == 0 && !writing_) {
          out_ = "HTTP/1.1 100 Continue\r\n\r\n";
          Write();
        }
      }
      CountBody(reader_->body_bytes());
      if (core_->bodies_bytes > core_->options.max_bodies_bytes) {
        return Refuse(503, "the server is receiving too much at once");
      }
      BodyProgress();
      return Read();
    case RequestReader::Status::kRefused:
      return Refuse(reader_->refusal(), reader_->reason());
    case RequestReader::Status::kComplete:
      return Dispatch();
  }
}

// Each byte is progress, but a body that trickles must end too.
void Connection::BodyProgress() {
  const double seconds = core_->options.body_seconds;
  const double passed = std::chrono::duration<double>(Clock::now() - body_begin_).count();
  const double allowed = seconds + static_cast<double>(reader_->body_bytes()) / kLeastBodyRate;
  SetDeadline(std::clamp(allowed - passed, 0.0, seconds));
}

void Connection::CountBody(int64_t bytes) {
  core_->bodies_bytes += bytes - body_bytes_;
  body_bytes_ = bytes;
}

void Connection::Dispatch() {
  CountBody(0);  // it is the handler's now
  HttpRequest request = reader_->Take();
  request.peer = peer_;
  keep_alive_ = reader_->keep_alive();
  http_1_0_ = reader_->http_1_0();
  head_only_ = request.method == "HEAD";
  chunked_ = bodiless_ = last_ = cut_ = false;
  reader_.reset();
  if (in_.empty()) in_ = {};
  if (core_->Draining()) return Refuse(503, "the server is shutting down");
  phase_ = Phase::kAnswering;
  ClearDeadline();
  answer_ = std::make_shared<Answer>(core_, weak_from_this());
  core_->AnswerBegins();
  if (in_.size() < kPipelined) Read();  // notices that the client goes away
  const auto exchange = Answer::MakeExchange(answer_);
  try {
    core_->handler(std::move(request), exchange);
  } catch (const std::exception&) {  // the exchange that nobody keeps answers 500
  }
}

// ---- writing

void Connection::Refuse(int status, std::string_view message) {
  HttpResponse response = ErrorResponse(status, message, status >= 500 ? "server_error" : "invalid_request_error");
  if (status == 503) response.headers.emplace_back("Retry-After", "1");
  CountBody(0);
  phase_ = Phase::kRefusing;
  keep_alive_ = http_1_0_ = false;
  reader_.reset();
  in_ = {};
  std::string written = std::exchange(out_, {});  // of a 100 that is being written
  AppendHead(response, /*stream=*/false, response.body.size());
  refusal_ = std::exchange(out_, std::move(written));
  if (!head_only_) refusal_ += response.body;
  SetDeadline(core_->options.write_seconds);
  if (!writing_) OnWritten({}, 0);
}

void Connection::AppendHead(const HttpResponse& response, bool stream, size_t body_bytes) {
  bodiless_ = HasNoBody(response.status);
  chunked_ = stream && !http_1_0_ && !bodiless_;
  if (EqualNames(Find(response.headers, "Connection"), "close") || (stream && http_1_0_)) keep_alive_ = false;
  if (keep_alive_ && core_->Draining()) keep_alive_ = false;
  out_ += fmt::format("HTTP/1.1 {} {}\r\n", response.status, ReasonPhrase(response.status));
  for (const auto& [name, value] : response.headers) {
    if (EqualNames(name, "Connection") || EqualNames(name, "Content-Length") || EqualNames(name, "Date") ||
        EqualNames(name, "Transfer-Encoding")) {
      continue;
    }
    AppendField(out_, name, value);
  }
  AppendField(out_, "Date", Date());
  if (chunked_) {
    AppendField(out_, "Transfer-Encoding", "chunked");
  } else if (!stream && !bodiless_) {
    AppendField(out_, "Content-Length", fmt::format("{}", body_bytes));
  }
  if (!keep_alive_) AppendField(out_, "Connection", "close");
  if (keep_alive_ && http_1_0_) AppendField(out_, "Connection", "keep-alive");
  out_ += "\r\n";
}

void Connection::Flush() {
  if (phase_ != Phase::kAnswering) return;
  if (writing_) {
    if (answer_->broken()) Close();
    return;
  }
  Answer::Part part = answer_->Take();
  if (part.broken) return Close();
  if (part.head) AppendHead(*part.head, part.stream, part.data.size());
  if (head_only_ || bodiless_) {
    answer_->Written(part.data.size());
  } else if (!part.data.empty()) {
    constexpr size_t kChunkFrame = 32;  // length, line ends and the last chunk's mark
    out_.reserve(out_.size() + part.data.size() + kChunkFrame);
    if (chunked_) fmt::format_to(std::back_inserter(out_), "{:x}\r\n", part.data.size());
    out_ += part.data;
    if (chunked_) out_ += "\r\n";
  }
  cut_ = cut_ || part.cut;
  if (part.last) {
    last_ = true;
    if (chunked_ && !head_only_) out_ += "0\r\n\r\n";
  }
  if (!out_.empty()) {
    SetDeadline(core_->options.write_seconds);
    Write();
  } else if (last_) {
    AnswerComplete();
  } else if (cut_) {
    Close();
  }
}

void Connection::Write() {
  writing_ = true;
  transport_->WriteSome(
      boost::asio::const_buffer(out_.data() + written_, out_.size() - written_),
      [self = shared_from_this()](const ErrorCode& error, size_t bytes) { self->OnWritten(error, bytes); });
}

void Connection::OnWritten(const ErrorCode& error, size_t bytes) {
  writing_ = false;
  if (phase_ == Phase::kClosed) return;
  if (error) return Close();
  written_ += bytes;
  if (answer_) answer_->Written(bytes);
  if (written_ < out_.size()) {
    if (phase_ == Phase::kAnswering || phase_ == Phase::kRefusing) SetDeadline(core_->options.write_seconds);
    return Write();
  }
  written_ = 0;
  out_.clear();
  if (out_.capacity() > kKeptOutput) out_ = {};
  if (phase_ == Phase::kRefusing) {
    if (refusal_.empty()) return Finish();
    out_ = std::exchange(refusal_, {});
    return Write();
  }
  if (phase_ != Phase::kAnswering) return;  // a 100 Continue
  ClearDeadline();
  last_ ? AnswerComplete() : Flush();
}

void Connection::AnswerComplete() {
  const auto answer = std::move(answer_);
  answer->Complete();
  core_->AnswerEnds();
  keep_alive_ ? ReadRequest() : Finish();
}

void Connection::Finish() {
  phase_ = Phase::kFinishing;
  SetDeadline(kFinishSeconds);
  transport_->Finish([self = shared_from_this()](const ErrorCode&, size_t) { self->Close(); });
}

// ---- deadlines: one at a time. The timer is not moved with each of them; when it fires too early it is set again.

void Connection::SetDeadline(double seconds) {
  deadline_ = Clock::now() + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
  has_deadline_ = true;
  if (waiting_ && timer_.expiry() <= deadline_) return;
  WaitForDeadline();
}

void Connection::ClearDeadline() { has_deadline_ = false; }

void Connection::WaitForDeadline() {
  waiting_ = true;
  timer_.expires_at(deadline_);
  timer_.async_wait([weak = weak_from_this()](const ErrorCode& error) {
    const auto self = weak.lock();
    if (!self || error) return;  // an error: set anew or closed
    self->waiting_ = false;
    if (!self->has_deadline_) return;
    Clock::now() < self->deadline_ ? self->WaitForDeadline() : self->OnDeadline();
  });
}

void Connection::OnDeadline() {
  has_deadline_ = false;
  switch (phase_) {
    case Phase::kHead:
      return Refuse(408, "the request's head took too long");
    case Phase::kBody:
      return Refuse(408, "the request's body took too long");
    default:
      return Close();
  }
}

}  // namespace fathom::net
