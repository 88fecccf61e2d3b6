#include "server/model_hub.h"

#include <fmt/format.h>

#include <algorithm>
#include <new>
#include <utility>

namespace fathom::server {
namespace {

using SteadyClock = std::chrono::steady_clock;

constexpr size_t kInlineBytes = 16 << 10;  // of bodies that are looked into at once
constexpr size_t kMaxParkedBodies = 256;
constexpr auto kLook = std::chrono::seconds(1);

double SecondsSince(SteadyClock::time_point then) {
  return std::chrono::duration<double>(SteadyClock::now() - then).count();
}

double GibOf(int64_t bytes) { return static_cast<double>(bytes) / (1 << 30); }

ApiError NotLoaded(const std::string& name, const std::string& reason, double retry_seconds) {
  ApiError e;
  e.status = 503;
  e.type = "server_error";
  e.code = "model_not_loaded";
  e.message = fmt::format("The model `{}` could not be loaded: {}", name, reason);
  e.retry_after = std::max(1, static_cast<int>(retry_seconds + 0.999));
  return e;
}

}  // namespace

std::string_view Name(ModelState state) {
  constexpr std::string_view kNames[] = {"unloaded", "waiting", "loading", "ready", "unloading", "failed"};
  return kNames[static_cast<size_t>(state)];
}

// Keeps a model in use as long as somebody may still answer through it. It does not own the model: its last holder may
// be one of the model's threads, which the model's end waits for.
class ModelHub::Lease : public net::Exchange {
 public:
  Lease(ModelHub& hub, Entry& entry, std::shared_ptr<net::Exchange> exchange)
      : hub_(hub), entry_(entry), exchange_(std::move(exchange)) {}
  ~Lease() override {
    exchange_.reset();
    const std::scoped_lock lock(hub_.mutex_);
    hub_.Release(entry_);
  }
  Lease(const Lease&) = delete;
  Lease& operator=(const Lease&) = delete;
  void Send(net::HttpResponse response) override { exchange_->Send(std::move(response)); }
  void Begin(net::HttpResponse response) override { exchange_->Begin(std::move(response)); }
  void Write(std::string data) override { exchange_->Write(std::move(data)); }
  void End() override { exchange_->End(); }
  void OnGone(std::function<void()> callback) override { exchange_->OnGone(std::move(callback)); }
  bool gone() const override { return exchange_->gone(); }

 private:
  ModelHub& hub_;
  Entry& entry_;
  std::shared_ptr<net::Exchange> exchange_;
};

ModelHub::ModelHub(std::vector<ModelSource> sources, HubOptions options)
    : options_(std::move(options)),
      context_{.metrics = metrics_, .log = options_.log, .cors_origin = options_.cors_origin} {
  for (ModelSource& source : sources) {
    for (const std::string& name : source.names) {
      if (Find(name)) throw Error("two models have the same name", name, "names that tell them apart");
    }
    entries_.push_back(std::make_unique<Entry>());
    entries_.back()->source = std::move(source);
  }
  FATHOM_CHECK(!entries_.empty());
  if (entries_.size() == 1) return;
  work_ = std::make_unique<WorkQueue>(1, kMaxParkedBodies);
  thread_ = std::thread([this] { Run(); });
}

ModelHub::~ModelHub() {
  Stop();
  work_.reset();
  for (const auto& entry : entries_) entry->hosted.reset();
}

void ModelHub::LoadPinned() {
  if (entries_.size() == 1) {
    std::unique_lock lock(mutex_);
    Load(lock, *entries_.front());
    return;
  }
  std::unique_lock lock(mutex_);
  for (const auto& entry : entries_) {
    if (entry->source.pinned) Want(*entry);
  }
  idle_.wait(lock, [&] {
    return std::all_of(entries_.begin(), entries_.end(), [](const auto& e) {
      return !e->source.pinned || e->state == ModelState::kReady || e->state == ModelState::kFailed;
    });
  });
}

ModelHub::Entry* ModelHub::Find(std::string_view name) {
  for (const auto& entry : entries_) {
    const auto& names = entry->source.names;
    if (std::find(names.begin(), names.end(), name) != names.end()) return entry.get();
  }
  return nullptr;
}

int64_t ModelHub::BytesUsed() const {
  int64_t bytes = 0;
  for (const auto& entry : entries_) bytes += entry->hosted ? entry->bytes : 0;
  return bytes;
}

std::vector<std::shared_ptr<HostedModel>> ModelHub::Ready() const {
  const std::scoped_lock lock(mutex_);
  std::vector<std::shared_ptr<HostedModel>> ready;
  for (const auto& entry : entries_) {
    if (entry->state == ModelState::kReady) ready.push_back(entry->hosted);
  }
  return ready;
}

// Where none is named, the first; for paths without a body, the first that is ready.
ModelHub::Entry& ModelHub::Choose(const net::HttpRequest& request, std::string_view name) {
  if (entries_.size() == 1) return *entries_.front();
  if (!name.empty()) {
    if (Entry* entry = Find(name)) return *entry;
    // Anthropic's clients name models that no server of this kind has; its Server decides.
    if (Server::DialectOf(request.path) != Dialect::kAnthropic) {
      std::vector<std::string> names;
      for (const auto& entry : entries_) names.push_back(entry->source.names.front());
      throw NoSuchModel(name, names);
    }
  }
  if (request.method == "POST") return *entries_.front();
  const auto ready =
      std::find_if(entries_.begin(), entries_.end(), [](const auto& e) { return e->state == ModelState::kReady; });
  return ready == entries_.end() ? *entries_.front() : **ready;
}

void ModelHub::Handle(net::HttpRequest request, std::shared_ptr<net::Exchange> exchange) {
  if (AnswerHere(request, exchange)) return;
  if (!work_ || request.method != "POST") return Dispatch(std::move(request), std::move(exchange), "");
  if (request.body.size() <= kInlineBytes) {
    const std::string name = ModelOf(request.body);
    return Dispatch(std::move(request), std::move(exchange), name);
  }
  const auto shared = std::make_shared<Parked>(Parked{std::move(request), std::move(exchange)});
  const bool taken = work_->Post([this, shared] {
    const std::string name = ModelOf(shared->request.body);
    Dispatch(std::move(shared->request), std::move(shared->exchange), name);
  });
  if (!taken) Refuse(shared->request, std::move(shared->exchange), QueueFull());
}

// To the model, at once if it is ready, else when it is.
void ModelHub::Dispatch(net::HttpRequest request, std::shared_ptr<net::Exchange> exchange, std::string_view name) {
  Entry* entry = nullptr;
  Server* api = nullptr;
  try {
    const std::scoped_lock lock(mutex_);
    entry = &Choose(request, name);
    entry->used = SteadyClock::now();
    if (entry->state == ModelState::kReady && !entry->yielding) {
      ++entry->leases;
      api = &entry->hosted->api();
    } else {
      if (!options_.keys.Allows(request.headers)) throw NoKey();
      if (draining_ || stop_) throw Draining();
      const double left = options_.retry_seconds - SecondsSince(entry->since);
      if (entry->state == ModelState::kFailed && left > 0)
        throw NotLoaded(entry->source.names.front(), entry->error, left);
      if (parked_ >= options_.max_waiting) throw QueueFull();
      ++parked_;
      entry->parked.push_back({std::move(request), std::move(exchange)});
      Want(*entry);
      return;
    }
  } catch (const ApiError& e) {
    return Refuse(request, std::move(exchange), e);
  }
  api->Handle(std::move(request), std::make_shared<Lease>(*this, *entry, std::move(exchange)));
}

void ModelHub::Release(Entry& entry) {
  entry.used = SteadyClock::now();
  if (--entry.leases == 0) wake_.notify_all();
}

void ModelHub::Want(Entry& entry) {
  if (entry.state != ModelState::kUnloaded && entry.state != ModelState::kFailed) return;
  entry.state = ModelState::kWaiting;
  entry.turn = ++turns_;
  entry.since = SteadyClock::now();
  wake_.notify_all();
}

ModelHub::Entry* ModelHub::NextWanted() {
  Entry* next = nullptr;
  for (const auto& entry : entries_) {
    if (entry->state == ModelState::kWaiting && (!next || entry->turn < next->turn)) next = entry.get();
  }
  return next;
}

void ModelHub::Run() {
  std::unique_lock lock(mutex_);
  while (true) {
    wake_.wait(lock, [&] { return stop_ || NextWanted(); });
    if (stop_) return;
    Load(lock, *NextWanted());
    Resume(lock);
    idle_.notify_all();
  }
}

// Models that were to become unused, and need not any more, go on.
void ModelHub::Resume(std::unique_lock<std::mutex>& lock) {
  for (const auto& entry : entries_) {
    if (!std::exchange(entry->yielding, false)) continue;
    std::deque<Parked> parked = std::exchange(entry->parked, {});
    parked_ -= parked.size();
    lock.unlock();
    for (Parked& p : parked) Dispatch(std::move(p.request), std::move(p.exchange), entry->source.names.front());
    lock.lock();
  }
}

// Unloads what is unused until `bytes` more fit, waiting for models that are in use. False: `entry` has failed.
bool ModelHub::MakeRoom(std::unique_lock<std::mutex>& lock, Entry& entry, int64_t bytes) {
  const int64_t limit = entries_.size() > 1 ? options_.memory_bytes : 0;
  const auto in = [](double seconds) {
    return SteadyClock::now() +
           std::chrono::duration_cast<SteadyClock::duration>(std::chrono::duration<double>(seconds));
  };
  const auto deadline = in(options_.wait_seconds), patience = in(options_.yield_seconds);
  while (!stop_ && limit > 0 && BytesUsed() + bytes > limit) {
    Entry *victim = nullptr, *busy = nullptr;
    int64_t kept = 0;
    for (const auto& e : entries_) {
      if (e->hosted && e->source.pinned) kept += e->bytes;
      if (e->state != ModelState::kReady || e->source.pinned) continue;
      if (!busy || (e->used < busy->used && !busy->yielding) || e->yielding) busy = e.get();
      if (e->leases > 0) continue;
      if (!victim || e->used < victim->used) victim = e.get();
    }
    if (kept + bytes > limit) {
      Fail(lock, entry, ModelState::kFailed,
           fmt::format("it needs {:.2f} GiB, and {:.2f} GiB of {:.2f} are free for models that are loaded on demand",
                       GibOf(bytes), GibOf(limit - kept), GibOf(limit)));
      return false;
    }
    if (!victim) {
      if (busy && SteadyClock::now() >= patience) busy->yielding = true;
      wake_.wait_until(lock, std::min(deadline, SteadyClock::now() + kLook));
      if (SteadyClock::now() >= deadline) {
        Fail(lock, entry, ModelState::kUnloaded, "the memory is in use by other models");
        return false;
      }
      continue;
    }
    victim->state = ModelState::kUnloading;
    victim->yielding = false;
    std::shared_ptr<HostedModel> gone = std::move(victim->hosted);
    victim->hosted = nullptr;
    ++evictions_;
    lock.unlock();
    gone.reset();
    lock.lock();
    victim->state = ModelState::kUnloaded;
    if (!victim->parked.empty()) Want(*victim);
  }
  return !stop_;
}

void ModelHub::Load(std::unique_lock<std::mutex>& lock, Entry& entry) {
  const bool single = entries_.size() == 1;
  std::string reason;
  std::shared_ptr<HostedModel> hosted;
  std::string description;
  try {
    lock.unlock();
    const int64_t guess = options_.memory_bytes > 0 ? entry.source.estimate() : 0;
    lock.lock();
    if (!MakeRoom(lock, entry, std::max(guess, entry.bytes))) return;
    entry.state = ModelState::kLoading;
    lock.unlock();
    hosted = entry.source.load();
    description = hosted->api().ModelsJson();
    lock.lock();
    entry.bytes = hosted->bytes();  // more than was thought, perhaps
    if (!MakeRoom(lock, entry, entry.bytes)) {
      lock.unlock();
      hosted.reset();
      lock.lock();
      return;
    }
  } catch (const Error& e) {
    if (!lock.owns_lock()) lock.lock();
    if (single) throw;
    return Fail(lock, entry, ModelState::kFailed, e.got().empty() ? e.summary() : e.summary() + ": " + e.got());
  } catch (const std::bad_alloc&) {
    if (!lock.owns_lock()) lock.lock();
    if (single) throw;
    return Fail(lock, entry, ModelState::kFailed, "out of memory");
  } catch (const std::exception& e) {
    if (!lock.owns_lock()) lock.lock();
    if (single) throw;
    return Fail(lock, entry, ModelState::kFailed, e.what());
  }
  entry.hosted = std::move(hosted);
  entry.description = std::move(description);
  entry.error.clear();
  entry.state = ModelState::kReady;
  entry.used = SteadyClock::now();
  ++entry.loads;
  if (draining_) entry.hosted->api().SetDraining();
  std::deque<Parked> parked = std::exchange(entry.parked, {});
  parked_ -= parked.size();
  ++entry.leases;  // until all of them have theirs
  lock.unlock();
  for (Parked& p : parked) {
    if (p.exchange->gone()) continue;
    const std::string name = entry.source.names.front();
    Dispatch(std::move(p.request), std::move(p.exchange), name);
  }
  lock.lock();
  Release(entry);
}

// Those who waited hear of it; the model can be asked for again, after a while if it is the model that failed.
void ModelHub::Fail(std::unique_lock<std::mutex>& lock, Entry& entry, ModelState state, const std::string& reason) {
  entry.state = state;
  entry.since = SteadyClock::now();
  entry.error = reason;
  ++failures_;
  std::deque<Parked> parked = std::exchange(entry.parked, {});
  parked_ -= parked.size();
  const ApiError error = NotLoaded(entry.source.names.front(), reason, options_.retry_seconds);
  lock.unlock();
  for (Parked& p : parked) Refuse(p.request, std::move(p.exchange), error);
  lock.lock();
}

bool ModelHub::Drain(double seconds) {
  draining_ = true;
  const auto deadline =
      SteadyClock::now() + std::chrono::duration_cast<SteadyClock::duration>(std::chrono::duration<double>(seconds));
  for (const auto& model : Ready()) model->api().SetDraining();
  bool all = true;
  for (const auto& model : Ready()) {
    const double left = std::chrono::duration<double>(deadline - SteadyClock::now()).count();
    all = model->thread().Drain(std::max(left, 0.0)) && all;
  }
  std::scoped_lock lock(mutex_);
  return all && parked_ == 0;
}

void ModelHub::Stop() {
  std::vector<Parked> parked;
  {
    const std::scoped_lock lock(mutex_);
    draining_ = stop_ = true;
    for (const auto& entry : entries_) {
      for (Parked& p : entry->parked) parked.push_back(std::move(p));
      entry->parked.clear();
    }
    parked_ = 0;
    wake_.notify_all();
    idle_.notify_all();
  }
  if (thread_.joinable()) thread_.join();
  for (Parked& p : parked) Refuse(p.request, std::move(p.exchange), Draining());
  for (const auto& model : Ready()) model->thread().Stop();
}

int64_t ModelHub::running() const {
  int64_t n = 0;
  for (const auto& model : Ready()) {
    const engine::EngineStats stats = model->thread().stats();
    n += stats.running + stats.waiting;
  }
  const std::scoped_lock lock(mutex_);
  return n + static_cast<int64_t>(parked_);
}

std::vector<ModelHub::View> ModelHub::Look() const {
  const std::scoped_lock lock(mutex_);
  std::vector<View> views;
  for (const auto& e : entries_) {
    views.push_back({.names = e->source.names,
                     .state = e->state,
                     .error = e->error,
                     .pinned = e->source.pinned,
                     .bytes = e->hosted ? e->bytes : 0,
                     .waiting = static_cast<int64_t>(e->parked.size()),
                     .loads = e->loads});
  }
  return views;
}

}  // namespace fathom::server
