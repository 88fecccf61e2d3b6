// What the parts of a server share. The members that are not marked otherwise belong to the server's thread.
#pragma once

#include <atomic>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_set>
#include <utility>

#include "net/http_server.h"

namespace fathom::net {

class Connection;

struct ServerCore {
  ServerCore(const HttpServerOptions& server_options, Handler server_handler)
      : options(server_options), handler(std::move(server_handler)) {}

  const HttpServerOptions options;
  const Handler handler;
  boost::asio::io_context io{1};

  std::unordered_set<std::shared_ptr<Connection>> connections;
  int64_t bodies_bytes = 0;               // of the bodies that are being received
  int64_t refused = 0;                    // of them, those that only get a 503
  std::atomic<int64_t> connection_count;  // of the others; any thread

  std::mutex mutex;  // of what follows; any thread
  std::condition_variable idle;
  int64_t answers = 0;  // under way
  bool draining = false;
  bool stopped = false;  // nothing is posted any more

  // Any thread. Without effect once the server is being destroyed.
  template <class F>
  void Post(F f) {
    std::lock_guard lock(mutex);
    if (!stopped) boost::asio::post(io, std::move(f));
  }
  bool Draining() {
    std::lock_guard lock(mutex);
    return draining;
  }
  void AnswerBegins() {
    std::lock_guard lock(mutex);
    ++answers;
  }
  void AnswerEnds() {
    std::lock_guard lock(mutex);
    if (--answers == 0) idle.notify_all();
  }
};

}  // namespace fathom::net
