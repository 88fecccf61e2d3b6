#include "net/answer.h"

#include <algorithm>
#include <exception>
#include <vector>

#include "core/error.h"
#include "net/connection.h"

namespace fathom::net {
namespace {

// Connections that have something to write, where they are told together.
struct Waking {
  std::shared_ptr<ServerCore> core;
  std::weak_ptr<Connection> connection;
};
thread_local std::vector<Waking>* gathered = nullptr;

// What a handler holds. The answer itself also lives in its connection, so only this one's end says that nobody is left
// to complete it.
class Handle : public Exchange {
 public:
  explicit Handle(std::shared_ptr<Answer> answer) : answer_(std::move(answer)) {}
  ~Handle() override { answer_->Abandon(); }
  void Send(HttpResponse response) override { answer_->Send(std::move(response)); }
  void Begin(HttpResponse response) override { answer_->Begin(std::move(response)); }
  void Write(std::string data) override { answer_->Write(std::move(data)); }
  void End() override { answer_->End(); }
  void OnGone(std::function<void()> callback) override { answer_->OnGone(std::move(callback)); }
  bool gone() const override { return answer_->gone(); }

 private:
  const std::shared_ptr<Answer> answer_;
};

}  // namespace

std::shared_ptr<Exchange> Answer::MakeExchange(std::shared_ptr<Answer> answer) {
  return std::make_shared<Handle>(std::move(answer));
}

void Answer::Wake(std::unique_lock<std::mutex>& lock) {
  const bool wake = !std::exchange(woken_, true);
  lock.unlock();
  if (!wake) return;
  if (gathered) {
    gathered->push_back({core_, connection_});
    return;
  }
  core_->Post([connection = connection_] {
    if (const auto c = connection.lock()) c->Flush();
  });
}

void WriteTogether(const std::function<void()>& write) {
  if (gathered) return write();
  std::vector<Waking> all;
  gathered = &all;
  std::exception_ptr thrown;
  try {
    write();
  } catch (...) {
    thrown = std::current_exception();
  }
  gathered = nullptr;
  for (auto begin = all.begin(); begin != all.end();) {
    const auto end = std::find_if(begin, all.end(), [&](const Waking& w) { return w.core != begin->core; });
    begin->core->Post([some = std::vector<Waking>(begin, end)] {
      for (const Waking& w : some) {
        if (const auto c = w.connection.lock()) c->Flush();
      }
    });
    begin = end;
  }
  if (thrown) std::rethrow_exception(thrown);
}

void Answer::Send(HttpResponse response) {
  std::unique_lock lock(mutex_);
  FATHOM_CHECK(!begun_, "an exchange is answered once");
  begun_ = ended_ = true;
  if (gone_) return;
  waiting_.data = std::move(response.body);
  waiting_.head = std::move(response);
  waiting_.last = true;
  Wake(lock);
}

void Answer::Begin(HttpResponse response) {
  std::unique_lock lock(mutex_);
  FATHOM_CHECK(!begun_, "an exchange is answered once");
  begun_ = true;
  if (gone_) return;
  waiting_.data = std::move(response.body);
  waiting_.head = std::move(response);
  waiting_.stream = true;
  Wake(lock);
}

void Answer::Write(std::string data) {
  std::unique_lock lock(mutex_);
  FATHOM_CHECK(begun_ && !ended_, "Write belongs between Begin and End");
  if (gone_ || waiting_.broken || data.empty()) return;
  const size_t unsent = waiting_.data.size() + in_flight_;
  if (unsent > 0 && unsent + data.size() > static_cast<size_t>(core_->options.max_unsent_bytes)) {
    waiting_.broken = true;
    waiting_.data = {};
    woken_ = false;  // at once, though the connection is still writing
  } else if (waiting_.data.empty()) {
    waiting_.data = std::move(data);
  } else {
    waiting_.data += data;
  }
  Wake(lock);
}

void Answer::End() {
  std::unique_lock lock(mutex_);
  FATHOM_CHECK(begun_ && !ended_, "End comes once, after Begin");
  ended_ = true;
  if (gone_) return;
  waiting_.last = true;
  Wake(lock);
}

void Answer::OnGone(std::function<void()> callback) {
  std::lock_guard lock(mutex_);
  if (gone_) {
    core_->Post(std::move(callback));
  } else if (!complete_) {
    on_gone_ = std::move(callback);
  }
}

bool Answer::gone() const {
  std::lock_guard lock(mutex_);
  return gone_;
}

void Answer::Abandon() {
  std::unique_lock lock(mutex_);
  if (ended_ || gone_) return;
  ended_ = true;
  if (begun_) {
    waiting_.cut = true;
  } else {
    HttpResponse response = ErrorResponse(500, "the request was dropped without an answer", "server_error");
    waiting_.data = std::move(response.body);
    waiting_.head = std::move(response);
    waiting_.last = true;
  }
  Wake(lock);
}

Answer::Part Answer::Take() {
  std::lock_guard lock(mutex_);
  woken_ = false;
  in_flight_ += waiting_.data.size();
  Part part = std::move(waiting_);
  waiting_ = {};
  return part;
}

bool Answer::broken() const {
  std::lock_guard lock(mutex_);
  return waiting_.broken;
}

void Answer::Written(size_t bytes) {
  std::lock_guard lock(mutex_);
  in_flight_ -= std::min(bytes, in_flight_);
}

void Answer::SetGone() {
  std::function<void()> callback;
  {
    std::lock_guard lock(mutex_);
    gone_ = true;
    waiting_ = {};
    callback = std::exchange(on_gone_, nullptr);
  }
  if (callback) callback();
}

void Answer::Complete() {
  std::function<void()> callback;  // destroyed without the lock: it may hold the last exchange
  std::lock_guard lock(mutex_);
  complete_ = true;
  callback.swap(on_gone_);
}

}  // namespace fathom::net
