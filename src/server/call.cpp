#include "server/call.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "server/json_text.h"

namespace fathom::server {
namespace {

constexpr int kClientGone = 499;  // nginx's

}  // namespace

Call::Call(CallContext& context, const net::HttpRequest& request, std::shared_ptr<net::Exchange> exchange,
           std::string_view route, Dialect dialect)
    : context_(context), exchange_(std::move(exchange)), route_(route), dialect_(dialect) {
  entry_.time = std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
  entry_.peer = request.peer;
  entry_.method = request.method.substr(0, 32);
  entry_.path = request.path.substr(0, 512);
}

Call::~Call() { Settle(); }

void Call::SetAccount(std::shared_ptr<KeyAccount> account) {
  account_ = std::move(account);
  if (account_) entry_.key = account_->name();
}

void Call::Admit() {
  account_->Admit();
  admitted_ = true;
  if (context_.trace) track_ = context_.trace->NewTrack();
}

// The key is charged, once, and before its client has the whole answer: it may ask again at once.
void Call::Settle() {
  if (!std::exchange(admitted_, false)) return;
  const UsageSums sums{.requests = 1,
                       .errors = entry_.status >= 400 && entry_.status != kClientGone ? 1 : 0,
                       .prompt_tokens = std::max<int64_t>(entry_.prompt_tokens, 0),
                       .cached_tokens = std::max<int64_t>(entry_.cached_tokens, 0),
                       .completion_tokens = std::max<int64_t>(entry_.completion_tokens, 0)};
  if (track_ > 0) {
    context_.trace->NameTrack(track_, entry_.id.empty() ? entry_.path : entry_.id);
    context_.trace->Span(track_, "request", arrival_, Clock::now(),
                         fmt::format(R"("path":{},"model":{},"status":{},"prompt_tokens":{},"cached_tokens":{},)"
                                     R"("completion_tokens":{},"finish_reason":{})",
                                     Quoted(entry_.path), Quoted(context_.model), entry_.status, sums.prompt_tokens,
                                     sums.cached_tokens, sums.completion_tokens, Quoted(entry_.finish_reason)));
  }
  account_->Finish(sums.prompt_tokens + sums.completion_tokens);
  if (context_.usage) context_.usage->Add(entry_.time, account_->name(), context_.model, sums);
}

void Call::AddHeaders(net::HttpResponse& response) const {
  if (!context_.cors_origin.empty()) {
    response.headers.emplace_back("Access-Control-Allow-Origin", context_.cors_origin);
    if (context_.cors_origin != "*") response.headers.emplace_back("Vary", "Origin");
    response.headers.emplace_back("Access-Control-Expose-Headers", "X-Request-Id, Retry-After");
  }
  if (!entry_.id.empty()) response.headers.emplace_back("X-Request-Id", entry_.id);
  response.headers.emplace_back("X-Content-Type-Options", "nosniff");
  if (account_) account_->AppendHeaders(response.headers);
}

void Call::Send(net::HttpResponse response) {
  if (std::exchange(begun_, true)) return;  // an error behind an answer that has begun
  entry_.status = response.status;
  Settle();
  AddHeaders(response);
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
  Settle();
  exchange_->End();
  Log();
}

void Call::Gone() {
  entry_.status = kClientGone;
  Log();
}

void Call::Log() {
  Settle();
  entry_.seconds = Seconds();
  context_.metrics.CountResponse(route_, entry_.method, entry_.status);
  if (context_.log) context_.log->Add(entry_);
}

}  // namespace fathom::server
