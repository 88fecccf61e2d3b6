// Visits the answers that are under way every now and then, so that a client that waits long sees its connection alive
// (Reply::Beat). One thread for all of them.
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "server/reply.h"

namespace fathom::server {

struct HeartbeatOptions {
  double quiet_seconds = 10;  // without a byte: then one that is skipped; 0: never
  double wait_seconds = 600;  // for the first token: then an error; 0: for ever
};

class Heartbeat {
 public:
  explicit Heartbeat(const HeartbeatOptions& options);
  ~Heartbeat();
  Heartbeat(const Heartbeat&) = delete;
  Heartbeat& operator=(const Heartbeat&) = delete;

  void Watch(const std::shared_ptr<Reply>& reply);  // thread-safe

 private:
  void Run();

  const HeartbeatOptions options_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::vector<std::weak_ptr<Reply>> replies_;
  bool stop_ = false;
  std::thread thread_;  // none where both options are 0
};

}  // namespace fathom::server
