#include "net/http_client.h"

#include <fmt/format.h>
#include <pthread.h>

#include <boost/asio/connect.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <charconv>
#include <csignal>
#include <future>
#include <map>
#include <mutex>
#include <thread>
#include <unordered_map>
#include <vector>

#include "net/response_reader.h"
#include "net/transport.h"

namespace fathom::net {
namespace {

namespace asio = boost::asio;
using Clock = std::chrono::steady_clock;

constexpr size_t kChunk = 16 << 10;
constexpr int64_t kSockets = 8192;  // that should be allowed

std::string HostText(const Url& url) {  // as in the Host header
  std::string text = url.host.find(':') == std::string::npos ? url.host : "[" + url.host + "]";
  if (url.port != (url.tls ? 443 : 80)) text += fmt::format(":{}", url.port);
  return text;
}

std::string RequestText(const ClientRequest& r) {
  std::string out = fmt::format("{} {} HTTP/1.1\r\nHost: {}\r\n", r.method, r.url.target, HostText(r.url));
  for (const auto& [name, value] : r.headers) {
    FATHOM_CHECK((name + value).find_first_of("\r\n") == std::string::npos, "a header is one line");
    out += fmt::format("{}: {}\r\n", name, value);
  }
  if (!r.body.empty() || r.method == "POST" || r.method == "PUT") {
    out += fmt::format("Content-Length: {}\r\n", r.body.size());
  }
  return out + "\r\n" + r.body;
}

Error BadUrl(std::string_view text, std::string_view why) {
  return Error(fmt::format("not a URL that can be asked: {}", why), std::string(text), "http://host:port/path");
}

}  // namespace

Result<Url> ParseUrl(std::string_view text) {
  const std::string_view whole = text;
  for (const char c : text) {
    if (static_cast<unsigned char>(c) <= ' ' || c == 0x7f) return BadUrl(whole, "it has a space or control character");
  }
  Url url;
  if (text.rfind("http://", 0) == 0) {
    text.remove_prefix(7);
  } else if (text.rfind("https://", 0) == 0) {
    text.remove_prefix(8);
    url.tls = true;
    url.port = 443;
  } else {
    return BadUrl(whole, "it begins with neither http:// nor https://");
  }
  const size_t end = std::min(text.find_first_of("/?#"), text.size());
  std::string_view authority = text.substr(0, end), rest = text.substr(end);
  if (authority.find('@') != std::string_view::npos) return BadUrl(whole, "it has a user's name");
  std::string_view port;
  if (!authority.empty() && authority.front() == '[') {
    const size_t close = authority.find(']');
    if (close == std::string_view::npos) return BadUrl(whole, "a ] is missing");
    url.host = authority.substr(1, close - 1);
    port = authority.substr(close + 1);
  } else {
    const size_t colon = std::min(authority.find(':'), authority.size());
    url.host = authority.substr(0, colon);
    port = authority.substr(colon);
  }
  if (url.host.empty()) return BadUrl(whole, "the host is missing");
  if (!port.empty()) {
    port.remove_prefix(1);
    const auto [at, code] = std::from_chars(port.data(), port.data() + port.size(), url.port);
    if (code != std::errc() || at != port.data() + port.size() || url.port < 1 || url.port > 65535) {
      return BadUrl(whole, "the port is not a number from 1 to 65535");
    }
  }
  rest = rest.substr(0, rest.find('#'));
  url.target = rest.empty() || rest.front() != '/' ? "/" + std::string(rest) : std::string(rest);
  return url;
}

const char* Name(ClientError error) {
  switch (error) {
    case ClientError::kNone:
      return "none";
    case ClientError::kConnect:
      return "connect";
    case ClientError::kTls:
      return "tls";
    case ClientError::kTimeout:
      return "timeout";
    case ClientError::kClosed:
      return "closed";
    case ClientError::kProtocol:
      return "protocol";
    case ClientError::kTooLarge:
      return "too_large";
    case ClientError::kCancelled:
      return "cancelled";
  }
  return "?";
}

// ---- all but the public functions is on the client's thread

class HttpClient::State {
 public:
  explicit State(const HttpClientOptions& options) : options_(options), tls_(asio::ssl::context::tls_client) {
    AllowSockets(kSockets);
    ErrorCode error;
    if (options.verify_tls) {
      tls_.set_default_verify_paths(error);
      tls_.set_verify_mode(asio::ssl::verify_peer, error);
    } else {
      tls_.set_verify_mode(asio::ssl::verify_none, error);
    }
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    thread_ = std::thread([this] { io_.run(); });
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
  }
  ~State();

  uint64_t Start(ClientRequest request, ClientListener listener);
  void Cancel(uint64_t id);

 private:
  class Call;
  struct Connection {  // an idle one, or the one of a call
    std::shared_ptr<Transport> transport;
    std::shared_ptr<std::vector<char>> chunk;
    bool used = false;
  };
  using Place = std::pair<bool, std::string>;  // TLS, host:port

  static Place PlaceOf(const Url& url) { return {url.tls, fmt::format("{}:{}", url.host, url.port)}; }

  const HttpClientOptions options_;
  asio::io_context io_{1};
  asio::executor_work_guard<asio::io_context::executor_type> work_{io_.get_executor()};
  asio::ssl::context tls_;
  std::unordered_map<uint64_t, std::shared_ptr<Call>> calls_;
  std::map<Place, std::vector<Connection>> idle_;
  std::map<Place, std::vector<Tcp::endpoint>> resolved_;
  std::mutex mutex_;
  uint64_t last_id_ = 0;  // under mutex_
  std::thread thread_;
};

class HttpClient::State::Call : public std::enable_shared_from_this<Call> {
 public:
  Call(State& state, uint64_t id, ClientRequest request, ClientListener listener)
      : state_(state),
        id_(id),
        request_(std::move(request)),
        listener_(std::move(listener)),
        text_(RequestText(request_)),
        place_(PlaceOf(request_.url)),
        timer_(state.io_),
        connect_timer_(state.io_),
        resolver_(state.io_) {}

  void Begin() {
    if (request_.seconds > 0) Arm(timer_, request_.seconds, ClientError::kTimeout, "the answer took too long");
    auto& idle = state_.idle_[place_];
    if (!idle.empty()) {
      connection_ = std::move(idle.back());
      idle.pop_back();
      return Send();
    }
    Connect();
  }

  void Fail(ClientError error, std::string message) {
    if (done_) return;
    result_.error = error;
    result_.message = std::move(message);
    Close();
    Done();
  }

 private:
  void Arm(asio::steady_timer& timer, double seconds, ClientError error, const char* message) {
    timer.expires_after(std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds)));
    timer.async_wait([self = shared_from_this(), error, message](const ErrorCode& stopped) {
      if (!stopped) self->Fail(error, message);
    });
  }

  void Connect() {
    Arm(connect_timer_, state_.options_.connect_seconds, ClientError::kConnect, "connecting took too long");
    if (const auto known = state_.resolved_.find(place_); known != state_.resolved_.end()) {
      return ConnectTo(known->second);
    }
    resolver_.async_resolve(
        request_.url.host, std::to_string(request_.url.port),
        [self = shared_from_this()](const ErrorCode& error, const Tcp::resolver::results_type& found) {
          if (self->done_) return;
          if (error) return self->Fail(ClientError::kConnect, error.message());
          auto& endpoints = self->state_.resolved_[self->place_];
          endpoints.assign(found.begin(), found.end());
          self->ConnectTo(endpoints);
        });
  }

  void ConnectTo(const std::vector<Tcp::endpoint>& endpoints) {
    socket_ = std::make_unique<Tcp::socket>(state_.io_);
    asio::async_connect(*socket_, endpoints, [self = shared_from_this()](const ErrorCode& error, const Tcp::endpoint&) {
      if (self->done_) return;
      if (error) return self->Fail(ClientError::kConnect, error.message());
      self->Handshake();
    });
  }

  void Handshake() {
    SetSocketOptions(*socket_);
    connection_.transport = request_.url.tls
                                ? MakeTlsClientTransport(std::move(*socket_), state_.tls_, request_.url.host)
                                : MakePlainTransport(std::move(*socket_));
    connection_.chunk = std::make_shared<std::vector<char>>(kChunk);
    connection_.used = false;
    connection_.transport->Handshake(
        [self = shared_from_this(), keep = connection_.transport](const ErrorCode& error, size_t) {
          if (self->done_) return;
          if (error) return self->Fail(ClientError::kTls, error.message());
          self->connect_timer_.cancel();
          self->Send();
        });
  }

  void Send() {
    reader_ = std::make_unique<ResponseReader>(state_.options_.max_head_bytes, request_.method == "HEAD",
                                               [this](std::string_view bytes) { OnBody(bytes); });
    in_.clear();
    written_ = 0;
    Write();
    Read();
  }

  void Write() {
    connection_.transport->WriteSome(
        asio::const_buffer(text_.data() + written_, text_.size() - written_),
        [self = shared_from_this(), keep = connection_.transport](const ErrorCode& error, size_t bytes) {
          // An error shows in the read too, behind what the server may have answered before it closed.
          if (self->done_ || error || keep != self->connection_.transport) return;
          self->written_ += bytes;
          if (self->written_ < self->text_.size()) self->Write();
        });
  }

  void Read() {
    connection_.transport->ReadSome(
        asio::buffer(*connection_.chunk),
        [self = shared_from_this(), keep = connection_.transport, chunk = connection_.chunk](
            const ErrorCode& error, size_t bytes) { self->OnRead(error, bytes); });
  }

  void OnRead(const ErrorCode& error, size_t bytes) {
    if (done_) return;
    arrival_ = Clock::now();
    if (error && connection_.used && result_.status == 0 && in_.empty()) {
      // The server had closed it while it was idle: the request was not read.
      Close();
      return Connect();
    }
    if (error) {
      reader_->End();
    } else if (in_.empty()) {
      const std::string_view come(connection_.chunk->data(), bytes);
      in_ = come.substr(reader_->Feed(come));
    } else {
      in_.append(connection_.chunk->data(), bytes);
      in_.erase(0, reader_->Feed(in_));
    }
    if (done_) return;  // too large
    NoteHead();
    switch (reader_->status()) {
      case ResponseReader::Status::kBad:
        return error ? Fail(ClientError::kClosed, reader_->reason()) : Fail(ClientError::kProtocol, reader_->reason());
      case ResponseReader::Status::kComplete:
        if (!error && reader_->keep_alive() && written_ == text_.size() && in_.empty()) {
          connection_.used = true;
          state_.idle_[place_].push_back(std::exchange(connection_, {}));
        } else {
          Close();
        }
        return Done();
      default:
        return Read();
    }
  }

  void NoteHead() {
    const auto status = reader_->status();
    if (result_.status != 0 || status == ResponseReader::Status::kHead || status == ResponseReader::Status::kBad)
      return;
    result_.status = reader_->code();
    result_.headers = reader_->headers();
    if (listener_.on_head) listener_.on_head(result_.status, result_.headers);
  }

  void OnBody(std::string_view bytes) {
    if (done_) return;
    NoteHead();
    if (listener_.on_body) return listener_.on_body(bytes, arrival_);
    if (static_cast<int64_t>(result_.body.size() + bytes.size()) > state_.options_.max_body_bytes) {
      return Fail(ClientError::kTooLarge, "the answer is too large");
    }
    result_.body += bytes;
  }

  void Close() {
    if (socket_) {
      ErrorCode ignored;
      socket_->close(ignored);
    }
    if (connection_.transport) connection_.transport->Close();
    connection_ = {};
  }

  void Done() {
    done_ = true;
    timer_.cancel();
    connect_timer_.cancel();
    resolver_.cancel();
    const auto self = shared_from_this();
    state_.calls_.erase(id_);
    const ClientListener listener = std::exchange(listener_, {});
    if (listener.on_done) listener.on_done(std::move(result_));
  }

  State& state_;
  const uint64_t id_;
  const ClientRequest request_;
  ClientListener listener_;
  const std::string text_;
  const Place place_;
  asio::steady_timer timer_, connect_timer_;
  Tcp::resolver resolver_;
  std::unique_ptr<Tcp::socket> socket_;  // while connecting
  Connection connection_;
  std::unique_ptr<ResponseReader> reader_;
  std::string in_;
  size_t written_ = 0;
  Clock::time_point arrival_;
  ClientResult result_;
  bool done_ = false;
};

HttpClient::State::~State() {
  asio::post(io_, [this] {
    while (!calls_.empty()) {
      std::shared_ptr<Call>(calls_.begin()->second)->Fail(ClientError::kCancelled, "the client ends");
    }
    for (auto& [place, connections] : idle_) {
      for (Connection& c : connections) c.transport->Close();
    }
    idle_.clear();
    work_.reset();
  });
  thread_.join();
}

uint64_t HttpClient::State::Start(ClientRequest request, ClientListener listener) {
  uint64_t id = 0;
  {
    std::lock_guard lock(mutex_);
    id = ++last_id_;
  }
  asio::post(io_, [this, call = std::make_shared<Call>(*this, id, std::move(request), std::move(listener)), id] {
    calls_.emplace(id, call);
    call->Begin();
  });
  return id;
}

void HttpClient::State::Cancel(uint64_t id) {
  asio::post(io_, [this, id] {
    if (const auto it = calls_.find(id); it != calls_.end()) {
      std::shared_ptr<Call>(it->second)->Fail(ClientError::kCancelled, "cancelled");
    }
  });
}

HttpClient::HttpClient(const HttpClientOptions& options) : state_(std::make_unique<State>(options)) {}
HttpClient::~HttpClient() = default;
uint64_t HttpClient::Start(ClientRequest request, ClientListener listener) {
  return state_->Start(std::move(request), std::move(listener));
}
void HttpClient::Cancel(uint64_t id) { state_->Cancel(id); }

ClientResult HttpClient::Fetch(ClientRequest request) {
  const auto promise = std::make_shared<std::promise<ClientResult>>();
  state_->Start(std::move(request), {.on_head = {}, .on_body = {}, .on_done = [promise](ClientResult r) {
                                       promise->set_value(std::move(r));
                                     }});
  return promise->get_future().get();
}

}  // namespace fathom::net
