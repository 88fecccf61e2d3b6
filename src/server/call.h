// One request being answered: its exchange, with the headers that every response carries, and its line of the access
// log, written when the answer is complete or its client gone.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include "net/http_server.h"
#include "server/access_log.h"
#include "server/api_error.h"
#include "server/api_keys.h"
#include "server/metrics.h"
#include "server/request_trace.h"
#include "server/usage_ledger.h"

namespace fathom::server {

using Clock = std::chrono::steady_clock;

// What calls share; outlives them.
struct CallContext {
  Metrics& metrics;
  AccessLog* log = nullptr;
  std::string cors_origin;  // empty: none
  UsageLedger* usage = nullptr;
  std::string model = {};  // in the ledger
  RequestTrace* trace = nullptr;
  int64_t engine_track = 0;  // of the trace
};

class Call {
 public:
  Call(CallContext& context, const net::HttpRequest& request, std::shared_ptr<net::Exchange> exchange,
       std::string_view route, Dialect dialect = Dialect::kOpenAi);

  ~Call();
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;

  // Who asks: its limits are shown in the answer. Admit takes a request of them, until the answer is complete; throws
  // ApiError 429.
  void SetAccount(std::shared_ptr<KeyAccount> account);
  void Admit();

  // Of what was admitted, if there is one.
  RequestTrace* trace() const { return track_ > 0 ? context_.trace : nullptr; }
  int64_t track() const { return track_; }
  int64_t engine_track() const { return context_.engine_track; }

  Dialect dialect() const { return dialect_; }
  void Fail(const ApiError& error) { Send(ErrorResponse(error, dialect_)); }
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
  void Settle();

  CallContext& context_;
  std::shared_ptr<net::Exchange> exchange_;
  std::string route_;
  Dialect dialect_;
  AccessEntry entry_;
  Clock::time_point arrival_ = Clock::now();
  bool begun_ = false;
  std::shared_ptr<KeyAccount> account_;
  bool admitted_ = false;
  int64_t track_ = 0;
};

}  // namespace fathom::server
