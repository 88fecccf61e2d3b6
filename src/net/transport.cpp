#include "net/transport.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/resource.h>

#include <algorithm>
#include <array>
#include <boost/asio/ssl.hpp>

namespace fathom::net {
namespace {

namespace asio = boost::asio;

void CloseSocket(Tcp::socket& socket) {
  ErrorCode ignored;
  socket.close(ignored);
}

class PlainTransport : public Transport {
 public:
  explicit PlainTransport(Tcp::socket socket) : socket_(std::move(socket)) {}
  void Handshake(Done done) override {
    asio::post(socket_.get_executor(), [done = std::move(done)] { done({}, 0); });
  }
  void ReadSome(asio::mutable_buffer to, Done done) override { socket_.async_read_some(to, std::move(done)); }
  void WriteSome(asio::const_buffer from, Done done) override { socket_.async_write_some(from, std::move(done)); }
  void Finish(Done done) override {
    ErrorCode error;
    socket_.shutdown(Tcp::socket::shutdown_send, error);
    Discard(std::make_shared<Sink>(), std::move(done));
  }
  void Close() override { CloseSocket(socket_); }

 private:
  using Sink = std::array<char, 4096>;
  void Discard(std::shared_ptr<Sink> sink, Done done) {
    const asio::mutable_buffer to(sink->data(), sink->size());
    socket_.async_read_some(
        to, [this, sink = std::move(sink), done = std::move(done)](const ErrorCode& error, size_t) mutable {
          if (error) return done(error, 0);
          Discard(std::move(sink), std::move(done));
        });
  }
  Tcp::socket socket_;
};

class TlsTransport : public Transport {
 public:
  TlsTransport(Tcp::socket socket, asio::ssl::context& context, bool server)
      : stream_(std::move(socket), context), server_(server) {}
  asio::ssl::stream<Tcp::socket>& stream() { return stream_; }
  void Handshake(Done done) override {
    stream_.async_handshake(server_ ? asio::ssl::stream_base::server : asio::ssl::stream_base::client,
                            [done = std::move(done)](const ErrorCode& error) { done(error, 0); });
  }
  void ReadSome(asio::mutable_buffer to, Done done) override { stream_.async_read_some(to, std::move(done)); }
  void WriteSome(asio::const_buffer from, Done done) override { stream_.async_write_some(from, std::move(done)); }
  void Finish(Done done) override {
    stream_.async_shutdown([done = std::move(done)](const ErrorCode& error) { done(error, 0); });
  }
  void Close() override { CloseSocket(stream_.next_layer()); }

 private:
  asio::ssl::stream<Tcp::socket> stream_;
  bool server_;
};

}  // namespace

std::unique_ptr<Transport> MakePlainTransport(Tcp::socket socket) {
  return std::make_unique<PlainTransport>(std::move(socket));
}

std::unique_ptr<Transport> MakeTlsServerTransport(Tcp::socket socket, asio::ssl::context& context) {
  return std::make_unique<TlsTransport>(std::move(socket), context, /*server=*/true);
}

std::unique_ptr<Transport> MakeTlsClientTransport(Tcp::socket socket, asio::ssl::context& context,
                                                  const std::string& host) {
  auto transport = std::make_unique<TlsTransport>(std::move(socket), context, /*server=*/false);
  ErrorCode not_a_name;
  asio::ip::make_address(host, not_a_name);
  if (not_a_name) SSL_set_tlsext_host_name(transport->stream().native_handle(), host.c_str());
  if (SSL_CTX_get_verify_mode(context.native_handle()) != SSL_VERIFY_NONE) {
    transport->stream().set_verify_callback(asio::ssl::host_name_verification(host));
  }
  return transport;
}

void AllowSockets(int64_t count) {
  constexpr rlim_t kRest = 1024;
  rlimit files{};
  if (getrlimit(RLIMIT_NOFILE, &files) != 0) return;
  const rlim_t wanted = std::min(files.rlim_max, static_cast<rlim_t>(count) + kRest);
  if (files.rlim_cur >= wanted) return;
  files.rlim_cur = wanted;
  setrlimit(RLIMIT_NOFILE, &files);
}

void SetSocketOptions(Tcp::socket& socket) {
  ErrorCode ignored;
  socket.set_option(Tcp::no_delay(true), ignored);
  socket.set_option(asio::socket_base::keep_alive(true), ignored);
  const auto set = [&](int name, int value) {
    setsockopt(socket.native_handle(), IPPROTO_TCP, name, &value, sizeof(value));
  };
  set(TCP_KEEPIDLE, 60);
  set(TCP_KEEPINTVL, 15);
  set(TCP_KEEPCNT, 4);
}

}  // namespace fathom::net
