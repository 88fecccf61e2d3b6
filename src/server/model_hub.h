// Several models behind one port. A request's `model` chooses; a model that is not loaded is loaded when it is first
// asked for, within a limit of memory, for which those that nobody uses make room, the one longest unused first.
//
//   unloaded -> waiting -> loading -> ready -> unloading -> unloaded     (a failure: loading -> failed, with its
//   reason)
//
// One thread loads and unloads, so that neither delays the answers of the models that are ready. Requests for a model
// on its way wait here, up to a limit and for a time. Where it waits for models that are always in use, the one longest
// not asked for gets no new requests, until it has made room. Each ready model has a Server of its own, which gets its
// requests unchanged; what belongs to none of them (/v1/models, /health, /metrics, pages) is answered here
// (hub_endpoints.cpp). A model is used as long as an exchange of one of its requests is alive.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "server/server.h"
#include "server/usage_ledger.h"

namespace fathom::server {

// A model with all that it needs to answer; its end frees that.
class HostedModel {
 public:
  virtual ~HostedModel() = default;
  virtual Server& api() = 0;
  virtual engine::EngineThread& thread() = 0;
  virtual const engine::Engine& engine() const = 0;
  virtual int64_t bytes() const = 0;  // of memory: weights, cache, working memory
};

struct ModelSource {
  std::vector<std::string> names;                      // in requests; the first is shown
  bool pinned = false;                                 // loaded at the start and kept
  std::function<int64_t()> estimate;                   // bytes that it will take; may throw Error
  std::function<std::unique_ptr<HostedModel>()> load;  // may throw Error
};

struct HubOptions {
  int64_t memory_bytes = 0;   // for all models together; 0: no limit
  size_t max_waiting = 256;   // requests for models that are not ready
  double wait_seconds = 300;  // for room in memory
  double yield_seconds = 5;   // of them, until a model that is always in use takes no new requests for a while
  double retry_seconds = 30;  // before a model that failed is tried again
  std::string cors_origin = "*";
  std::string version = {};
  bool page = true;
  ApiKeys keys{std::vector<std::string>{}};
  AccessLog* log = nullptr;  // may be null, as the next; both outlive the hub
  UsageLedger* usage = nullptr;
};

enum class ModelState : uint8_t { kUnloaded, kWaiting, kLoading, kReady, kUnloading, kFailed };
std::string_view Name(ModelState state);  // unloaded waiting loading ready unloading failed

class ModelHub {
 public:
  ModelHub(std::vector<ModelSource> sources, HubOptions options);  // at least one, names distinct
  ~ModelHub();                                                     // Stop
  ModelHub(const ModelHub&) = delete;
  ModelHub& operator=(const ModelHub&) = delete;

  // Loads the pinned models, one after the other. With a single model its failure is thrown, else it is a state.
  void LoadPinned();
  void Handle(net::HttpRequest request, std::shared_ptr<net::Exchange> exchange);
  // From now on /health and requests for text answer 503; returns when all that run are finished or `seconds` have
  // passed. True if all were.
  bool Drain(double seconds);
  void Stop();              // what runs and waits ends
  int64_t running() const;  // requests under way and waiting

  struct View {
    std::vector<std::string> names;
    ModelState state = ModelState::kUnloaded;
    std::string error;
    bool pinned = false;
    int64_t bytes = 0, waiting = 0, loads = 0;
  };
  std::vector<View> Look() const;
  const HubOptions& options() const { return options_; }

 private:
  using Time = std::chrono::steady_clock::time_point;
  struct Parked {
    net::HttpRequest request;
    std::shared_ptr<net::Exchange> exchange;
  };
  struct Entry {
    ModelSource source;
    ModelState state = ModelState::kUnloaded;
    std::string error;
    std::shared_ptr<HostedModel> hosted;
    std::deque<Parked> parked;
    int64_t bytes = 0, leases = 0, loads = 0;
    uint64_t turn = 0;        // of waiting
    bool yielding = false;    // ready, but its new requests are parked: it is to become unused
    Time used{}, since{};     // last asked for; waiting or failed since
    std::string description;  // its elements of /v1/models, once known
  };
  class Lease;

  Entry* Find(std::string_view name);
  Entry& Choose(const net::HttpRequest& request, std::string_view name);  // throws ApiError
  void Dispatch(net::HttpRequest request, std::shared_ptr<net::Exchange> exchange, std::string_view name);
  void Release(Entry& entry);
  void Want(Entry& entry);
  void Run();
  Entry* NextWanted();
  bool MakeRoom(std::unique_lock<std::mutex>& lock, Entry& entry, int64_t bytes);
  void Resume(std::unique_lock<std::mutex>& lock);
  void Load(std::unique_lock<std::mutex>& lock, Entry& entry);
  void Fail(std::unique_lock<std::mutex>& lock, Entry& entry, ModelState state, const std::string& reason);
  int64_t BytesUsed() const;
  std::vector<std::shared_ptr<HostedModel>> Ready() const;

  // hub_endpoints.cpp
  using HubAnswerer = net::HttpResponse (ModelHub::*)(const net::HttpRequest&);
  bool AnswerHere(const net::HttpRequest& request, const std::shared_ptr<net::Exchange>& exchange);
  void Refuse(const net::HttpRequest& request, std::shared_ptr<net::Exchange> exchange, const ApiError& error);
  net::HttpResponse Models(const net::HttpRequest& request);
  net::HttpResponse Health(const net::HttpRequest& request);
  net::HttpResponse Version(const net::HttpRequest& request);
  net::HttpResponse MetricsText(const net::HttpRequest& request);
  net::HttpResponse Page(const net::HttpRequest& request);
  net::HttpResponse AdminState(const net::HttpRequest& request);
  std::string OperationsMetrics() const;

  const HubOptions options_;
  Metrics metrics_{""};  // of the responses that are given here
  CallContext context_;
  const std::chrono::steady_clock::time_point started_ = std::chrono::steady_clock::now();
  std::atomic<bool> draining_{false};
  mutable std::mutex mutex_;
  std::condition_variable wake_, idle_;
  std::vector<std::unique_ptr<Entry>> entries_;
  size_t parked_ = 0;
  uint64_t turns_ = 0;
  int64_t evictions_ = 0, failures_ = 0;
  bool stop_ = false;
  std::unique_ptr<WorkQueue> work_;  // looks into large bodies; none for a single model, as the next
  std::thread thread_;
};

// The `model` of a request's body, without making a tree of it: empty if there is none at the top, or no JSON.
std::string ModelOf(std::string_view body);
// Several expositions of /metrics as one: each family once, with the samples of all.
std::string JoinExpositions(const std::vector<std::string>& texts);

}  // namespace fathom::server
