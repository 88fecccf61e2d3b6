// A checkpoint as a running server of it: its weights, its engine on a thread of its own, and what clients know of it.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "cache/block_store.h"
#include "cli/loaded_model.h"
#include "cli/serve_flags.h"
#include "engine/engine_thread.h"
#include "server/model_hub.h"

namespace fathom::cli {

std::string NameOfModel(const std::string& directory);  // the directory's own name

class ServedCheckpoint : public server::HostedModel {
 public:
  // Loads; throws Error. `flags`, `store` (may be null) and what `options` points to outlive it.
  ServedCheckpoint(const ServeFlags& flags, server::AccessLog* log, cache::BlockStore* store,
                   server::ServerOptions options);

  // Of its weights and its cache, by the headers of its files; throws Error.
  static int64_t EstimateBytes(const ServeFlags& flags);

  server::Server& api() override { return *api_; }
  engine::EngineThread& thread() override { return *thread_; }
  const engine::Engine& engine() const override { return *engine_; }
  int64_t bytes() const override;
  std::string Announcement() const;  // lines for the terminal

 private:
  void MakeEngine(cache::BlockStore* store);
  std::function<void(int64_t, int64_t)> Telling(const char* doing) const;
  void LoadWeights(int64_t other_bytes);
  void MakeCompactWeights();
  int64_t CompactBytes() const;

  const ServeFlags& f_;
  LoadedModel model_;
  server::ServedModel served_;
  std::optional<engine::Engine> engine_;
  std::optional<engine::EngineThread> thread_;
  std::optional<server::Server> api_;
};

}  // namespace fathom::cli
