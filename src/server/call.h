// One request being answered: its exchange, with the headers that every response carries, and its line of the access
// log, written when the answer is complete or its client gone.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include "net/http_server.h"
#include "server/access_log.h"
#include "server/metrics.h"

namespace fathom::server {

using Clock = std::chrono::steady_clock;

// What calls share; outlives them.
struct CallContext {
  Metrics& metrics;
  AccessLog* log = nullptr;
  std::string cors_origin;  // empty: none
};

class Call {
 public:
  Call(CallContext& context, const net::HttpRequest& request, std::shared_ptr<net::Exchange> exchange,
       std::string_view route);

  void Send(net::HttpResponse response);  // the whole answer
  void Begin(net::HttpResponse response);
  void Write(std::string data) { exchange_->Write(std::move(data)); }
  void End();
  bool begun() const { return begun_; }
  // The client has gone: nothing more is sent, the line says 499.
  void Gone();
  void OnGone(std::function<void()> callback) { exchange_->OnGone(std::move(callback)); }

  // Tokens and finish reason, for the line; set before the answer's end.
  AccessEntry& entry() { return entry_; }
  Clock::time_point arrival() const { return arrival_; }
  double Seconds() const { return std::chrono::duration<double>(Clock::now() - arrival_).count(); }

 private:
  void AddHeaders(net::HttpResponse& response) const;
  void Log();

  CallContext& context_;
  std::shared_ptr<net::Exchange> exchange_;
  std::string route_;
  AccessEntry entry_;
  Clock::time_point arrival_ = Clock::now();
  bool begun_ = false;
};

}  // namespace fathom::server
