#include "net/http_server.h"

#include <fmt/format.h>
#include <pthread.h>

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <csignal>
#include <optional>
#include <thread>

#include "core/error.h"
#include "net/connection.h"
#include "net/server_core.h"

namespace fathom::net {
namespace {

namespace asio = boost::asio;

constexpr int64_t kMaxRefused = 64;  // connections beyond the limit that get an answer at the same time

std::unique_ptr<asio::ssl::context> MakeTls(const std::string& cert, const std::string& key) {
  if (cert.empty() && key.empty()) return nullptr;
  if (cert.empty() || key.empty()) {
    throw Error("TLS needs a certificate and its key", cert.empty() ? "only a key" : "only a certificate",
                "two PEM files");
  }
  auto tls = std::make_unique<asio::ssl::context>(asio::ssl::context::tls_server);
  ErrorCode error;
  tls->set_options(asio::ssl::context::default_workarounds | asio::ssl::context::no_sslv2 |
                       asio::ssl::context::no_sslv3 | asio::ssl::context::no_tlsv1 | asio::ssl::context::no_tlsv1_1,
                   error);
  tls->use_certificate_chain_file(cert, error);
  if (error) throw Error("cannot use the TLS certificate " + cert, error.message(), "a chain of certificates, PEM");
  tls->use_private_key_file(key, asio::ssl::context::pem, error);
  if (error) throw Error("cannot use the TLS key " + key, error.message(), "the certificate's private key, PEM");
  SSL_CTX_set_mode(tls->native_handle(), SSL_MODE_RELEASE_BUFFERS);  // idle connections keep no buffers
  return tls;
}

}  // namespace

class HttpServer::State {
 public:
  State(const HttpServerOptions& options, Handler handler)
      : core_(std::make_shared<ServerCore>(options, std::move(handler))),
        tls_(MakeTls(options.tls_cert, options.tls_key)),
        acceptor_(core_->io),
        retry_(core_->io) {
    core_->connection_count = 0;
    AllowSockets(options.max_connections);
    Listen();
  }

  ~State() {
    core_->Post([this] { StopAll(); });
    {
      std::lock_guard lock(core_->mutex);
      core_->stopped = true;
    }
    work_.reset();
    if (thread_.joinable()) {
      thread_.join();
    } else {
      core_->io.run();
    }
  }

  void Start() {
    FATHOM_CHECK(!thread_.joinable(), "a server is started once");
    Accept();
    // Signals are for the threads that wait for them.
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    thread_ = std::thread([this] { Run(); });
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
  }

  int port() const { return port_; }
  int64_t connections() const { return core_->connection_count; }

  bool Drain(double seconds) {
    core_->Post([this] { StopAccepting(); });
    std::unique_lock lock(core_->mutex);
    core_->draining = true;
    return core_->idle.wait_for(lock, std::chrono::duration<double>(seconds), [&] { return core_->answers == 0; });
  }

 private:
  void Listen() {
    const HttpServerOptions& o = core_->options;
    ErrorCode error;
    Tcp::resolver resolver(core_->io);
    const auto found = resolver.resolve(o.host, std::to_string(o.port), Tcp::resolver::passive, error);
    if (error || found.empty()) {
      throw Error("cannot listen on " + o.host, error.message(), "an address of this machine", "127.0.0.1 or 0.0.0.0");
    }
    const Tcp::endpoint endpoint = found.begin()->endpoint();
    acceptor_.open(endpoint.protocol(), error);
    if (!error) acceptor_.set_option(asio::socket_base::reuse_address(true), error);
    if (!error) acceptor_.bind(endpoint, error);
    if (!error) acceptor_.listen(asio::socket_base::max_listen_connections, error);
    if (error) {
      throw Error(fmt::format("cannot listen on {} port {}", o.host, o.port), error.message(), "a free port",
                  error == asio::error::address_in_use ? "another program listens there: choose another port" : "");
    }
    port_ = acceptor_.local_endpoint().port();
  }

  void Run() {
    for (;;) {
      try {
        core_->io.run();
        return;
      } catch (const std::exception&) {  // of one connection, which has lost its callbacks and ends by itself
      }
    }
  }

  void Accept() {
    acceptor_.async_accept([this](const ErrorCode& error, Tcp::socket socket) {
      if (!acceptor_.is_open()) return;
      if (error) {  // most likely no file descriptors are left: others must end first
        retry_.expires_after(std::chrono::milliseconds(100));
        retry_.async_wait([this](const ErrorCode& stopped) {
          if (!stopped) Accept();
        });
        return;
      }
      Welcome(std::move(socket));
      Accept();
    });
  }

  void Welcome(Tcp::socket socket) {
    ErrorCode error;
    const Tcp::endpoint peer = socket.remote_endpoint(error);
    if (error) return;
    SetSocketOptions(socket);
    const bool full = core_->connection_count >= core_->options.max_connections;
    if (full && (tls_ || core_->refused >= kMaxRefused)) return;
    auto transport = tls_ ? MakeTlsServerTransport(std::move(socket), *tls_) : MakePlainTransport(std::move(socket));
    const auto connection = std::make_shared<Connection>(core_, std::move(transport), peer.address().to_string());
    full ? connection->StartRefusing(503, "the server has too many connections") : connection->Start();
  }

  void StopAccepting() {
    ErrorCode ignored;
    acceptor_.close(ignored);
    retry_.cancel();
  }

  void StopAll() {
    StopAccepting();
    while (!core_->connections.empty()) std::shared_ptr<Connection>(*core_->connections.begin())->Close();
  }

  const std::shared_ptr<ServerCore> core_;
  const std::unique_ptr<asio::ssl::context> tls_;
  Tcp::acceptor acceptor_;
  asio::steady_timer retry_;
  std::optional<asio::executor_work_guard<asio::io_context::executor_type>> work_{core_->io.get_executor()};
  std::thread thread_;
  int port_ = 0;
};

HttpServer::HttpServer(const HttpServerOptions& options, Handler handler)
    : state_(std::make_unique<State>(options, std::move(handler))) {}
HttpServer::~HttpServer() = default;
void HttpServer::Start() { state_->Start(); }
int HttpServer::port() const { return state_->port(); }
int64_t HttpServer::connections() const { return state_->connections(); }
bool HttpServer::Drain(double seconds) { return state_->Drain(seconds); }

}  // namespace fathom::net
