// The place where an answer's parts wait for their connection: filled from any thread, emptied by the server's.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "net/server_core.h"

namespace fathom::net {

class Answer {
 public:
  Answer(std::shared_ptr<ServerCore> core, std::weak_ptr<Connection> connection)
      : core_(std::move(core)), connection_(std::move(connection)) {}

  // Any thread.
  void Send(HttpResponse response);
  void Begin(HttpResponse response);
  void Write(std::string data);
  void End();
  void OnGone(std::function<void()> callback);
  bool gone() const;
  void Abandon();  // the last one who could answer has dropped it

  // The server's thread.
  struct Part {
    std::optional<HttpResponse> head;  // its body is in `data`
    bool stream = false;               // more may come behind `data`
    std::string data;
    bool last = false;
    bool cut = false;     // nothing will come behind `data`, but it is not complete
    bool broken = false;  // its client does not read: the end at once
  };
  Part Take();  // everything that has been added since
  bool broken() const;
  void Written(size_t bytes);  // of what was taken
  void SetGone();              // calls the callback, on this thread
  void Complete();             // written to its end
  static std::shared_ptr<Exchange> MakeExchange(std::shared_ptr<Answer> answer);

 private:
  void Wake(std::unique_lock<std::mutex>& lock);  // tells the connection, once; unlocks

  const std::shared_ptr<ServerCore> core_;
  const std::weak_ptr<Connection> connection_;
  mutable std::mutex mutex_;
  Part waiting_;
  size_t in_flight_ = 0;  // bytes taken and not yet written
  bool begun_ = false, ended_ = false, gone_ = false, complete_ = false, woken_ = false;
  std::function<void()> on_gone_;
};

}  // namespace fathom::net
