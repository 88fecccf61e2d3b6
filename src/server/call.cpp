#include "server/call.h"

#include <utility>

namespace fathom::server {
namespace {

constexpr int kClientGone = 499;  // nginx's

}  // namespace

Call::Call(CallContext& context, const net::HttpRequest& request, std::shared_ptr<net::Exchange> exchange,
           std::string_view route)
    : context_(context), exchange_(std::move(exchange)), route_(route) {
  entry_.time = std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
  entry_.peer = request.peer;
  entry_.method = request.method.substr(0, 32);
  entry_.path = request.path.substr(0, 512);
}

void Call::AddHeaders(net::HttpResponse& response) const {
  if (!context_.cors_origin.empty()) {
    response.headers.emplace_back("Access-Control-Allow-Origin", context_.cors_origin);
    if (context_.cors_origin != "*") response.headers.emplace_back("Vary", "Origin");
    response.headers.emplace_back("Access-Control-Expose-Headers", "X-Request-Id, Retry-After");
  }
  if (!entry_.id.empty()) response.headers.emplace_back("X-Request-Id", entry_.id);
  response.headers.emplace_back("X-Content-Type-Options", "nosniff");
}

void Call::Send(net::HttpResponse response) {
  if (std::exchange(begun_, true)) return;  // an error behind an answer that has begun
  AddHeaders(response);
  entry_.status = response.status;
  exchange_->Send(std::move(response));
  Log();
}

void Call::Begin(net::HttpResponse response) {
  begun_ = true;
  AddHeaders(response);
  entry_.status = response.status;
  exchange_->Begin(std::move(response));
}

void Call::End() {
  exchange_->End();
  Log();
}

void Call::Gone() {
  entry_.status = kClientGone;
  Log();
}

void Call::Log() {
  entry_.seconds = Seconds();
  context_.metrics.CountResponse(route_, entry_.method, entry_.status);
  if (context_.log) context_.log->Add(entry_);
}

}  // namespace fathom::server
