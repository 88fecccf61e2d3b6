// An Engine on a thread of its own, for any number of clients. Listeners are called on that thread.
#pragma once

#include <memory>
#include <optional>

#include "engine/engine.h"

namespace fathom::engine {

class EngineThread {
 public:
  // The engine must not be used by others until this object is gone.
  explicit EngineThread(Engine& engine);
  ~EngineThread();  // as Stop

  // Thread-safe. Throws what Engine::Check throws; nullopt if the queue is full or the thread is draining.
  std::optional<RequestId> Submit(Request request, Listener listener);
  void Cancel(RequestId id);
  EngineStats stats() const;  // as of the last step
  bool draining() const;
  // No more requests are taken; returns when all are finished, or after `seconds`: the rest is cancelled by Stop. True
  // if all finished by themselves.
  bool Drain(double seconds);
  void Stop();  // cancels everything and joins

 private:
  struct Shared;
  std::unique_ptr<Shared> shared_;
};

}  // namespace fathom::engine
