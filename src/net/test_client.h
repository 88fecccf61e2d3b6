// For tests: a server on any free port, and a bare socket to it, so that a test can send anything and see every byte.
#pragma once

#include <arpa/inet.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <functional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>

#include "net/http_server.h"

namespace fathom::net {

class TestClient {
 public:
  explicit TestClient(int port, int receive_buffer = 0) : fd_(socket(AF_INET, SOCK_STREAM, 0)) {
    if (receive_buffer > 0) setsockopt(fd_, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof(receive_buffer));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    connected_ = connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0;
  }
  ~TestClient() { Close(); }
  TestClient(TestClient&& other) noexcept
      : fd_(std::exchange(other.fd_, -1)), connected_(other.connected_), received_(std::move(other.received_)) {}
  TestClient(const TestClient&) = delete;
  TestClient& operator=(const TestClient&) = delete;

  bool connected() const { return connected_; }
  void Close() {
    if (fd_ >= 0) close(std::exchange(fd_, -1));
  }
  // False if the other side has closed.
  bool Send(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t n = send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (n <= 0) return false;
      bytes.remove_prefix(static_cast<size_t>(n));
    }
    return true;
  }
  bool Readable() const {
    pollfd waiting{fd_, POLLIN, 0};
    return poll(&waiting, 1, 0) > 0;
  }
  // All bytes received until `enough` says so, the end of the stream, or ten seconds.
  const std::string& ReceiveUntil(const std::function<bool(const std::string&)>& enough) {
    const auto limit = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    while (!enough(received_) && !ended_ && std::chrono::steady_clock::now() < limit) {
      pollfd waiting{fd_, POLLIN, 0};
      if (poll(&waiting, 1, 50) <= 0) continue;
      char buffer[4096];
      const ssize_t n = recv(fd_, buffer, sizeof(buffer), 0);
      if (n <= 0) {
        ended_ = true;
        reset_ = n < 0;
      } else {
        received_.append(buffer, static_cast<size_t>(n));
      }
    }
    return received_;
  }
  const std::string& ReceiveUntil(std::string_view text) {
    return ReceiveUntil([text](const std::string& s) { return s.find(text) != std::string::npos; });
  }
  const std::string& ReceiveAll() {
    return ReceiveUntil([](const std::string&) { return false; });
  }
  bool ended() const { return ended_; }
  bool reset() const { return reset_; }  // it did not end in order
  void Forget() { received_.clear(); }

  // Sends one request and returns the whole answer, which has a Content-Length.
  std::string Ask(std::string_view request) {
    Forget();
    if (!Send(request)) return "";
    return ReceiveUntil([](const std::string& s) {
      const size_t head = s.find("\r\n\r\n");
      const size_t length = s.find("Content-Length: ");
      return head != std::string::npos && length != std::string::npos &&
             s.size() >= head + 4 + std::stoul(s.substr(length + 16));
    });
  }

 private:
  int fd_;
  bool connected_ = false, ended_ = false, reset_ = false;
  std::string received_;
};

inline HttpServerOptions AnyPort() {
  HttpServerOptions options;
  options.port = 0;
  return options;
}

inline bool Begins(const std::string& text, std::string_view part) { return text.rfind(part, 0) == 0; }

// Whether it becomes true within a minute, which sanitizers need beside other work.
inline bool Eventually(const std::function<bool()>& condition) {
  const auto limit = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > limit) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  return true;
}

}  // namespace fathom::net
