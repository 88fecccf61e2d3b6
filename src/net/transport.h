// The bytes of one connection, with TLS or without, behind one interface, so that what is above is compiled once. All
// calls and callbacks are on the thread that runs the socket's io_context. One read and one write may be under way at a
// time. Whoever starts one keeps the transport alive until it ends.
#pragma once

#include <boost/asio/buffer.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

namespace boost::asio::ssl {
class context;
}

namespace fathom::net {

using Tcp = boost::asio::ip::tcp;
using ErrorCode = boost::system::error_code;

class Transport {
 public:
  using Done = std::function<void(const ErrorCode& error, size_t bytes)>;
  virtual ~Transport() = default;
  virtual void Handshake(Done done) = 0;
  virtual void ReadSome(boost::asio::mutable_buffer to, Done done) = 0;
  virtual void WriteSome(boost::asio::const_buffer from, Done done) = 0;
  // Says that nothing more will be written and waits until the other side has understood: what was written last would
  // be lost if the connection were closed while bytes of the other side are still under way. Nothing else but Close may
  // be called afterwards.
  virtual void Finish(Done done) = 0;
  virtual void Close() = 0;
};

std::unique_ptr<Transport> MakePlainTransport(Tcp::socket socket);
std::unique_ptr<Transport> MakeTlsServerTransport(Tcp::socket socket, boost::asio::ssl::context& context);
// `host`: named to the server, and checked against its certificate where the context verifies.
std::unique_ptr<Transport> MakeTlsClientTransport(Tcp::socket socket, boost::asio::ssl::context& context,
                                                  const std::string& host);

// Raises this process's limit of open files, as far as the system lets it, so that `count` sockets fit beside the rest:
// the usual limit, 1,024, is a relic of select().
void AllowSockets(int64_t count);

// No Nagle delay, and probes that find out within about two minutes that the other machine has vanished.
void SetSocketOptions(Tcp::socket& socket);

}  // namespace fathom::net
