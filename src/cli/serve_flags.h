// The options of `fathom serve`. Those of a model (AddServedModelOptions) may differ between the models of one server.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "cli/loaded_model.h"

namespace fathom::cli {

using OptionValues = std::map<std::string, std::vector<std::string>>;

struct ServeFlags {
  ModelOptions model;
  std::string config_file, host = "127.0.0.1", api_key_file, chat_template, cache_dtype, tls_cert, tls_key, log_file,
                           cors_origin = "*", usage_db, trace_file, disk_cache;
  std::vector<std::string> api_keys, admin_keys, names;
  int port = 8080;
  int64_t ctx_size = 0, cache_tokens = 0, max_running = 64, max_waiting = 1024, step_tokens = 0, prompt_tokens = 512,
          drafts = -1, max_body_mib = 32, max_connections = 4096;
  double keep_alive_seconds = 10, wait_seconds = 600;
  std::optional<double> balance;
  std::string currency = "CNY";
  double drain_seconds = 30, memory_limit = 0, disk_cache_gib = 10, load_wait_seconds = 300;
  int64_t max_parked = 256;
  int64_t memory_share = 0;  // bytes of the limit that are a model's part, if all have the same; 0: no limit
  bool no_prefix_cache = false, no_greedy_head = false, no_compact_weights = false, batch_invariant = false,
       no_log = false, no_page = false, preload = false, mlock = false, deepseek_temperature = false;
};

// What the command line and the file of --config say together.
struct ServeSetup {
  ServeFlags flags;
  std::vector<ServeFlags>
      models;           // of [[models]]: what one does not say is as it is for all. Empty: flags is the model
  OptionValues values;  // of every option that was given, [[models]] not among them
};

// `command_line`: the options that were given there, which win. Reads the file; throws Error.
ServeSetup ReadSetup(const OptionValues& command_line);
OptionValues ValuesOf(const CLI::App& command);

void AddServeOptions(CLI::App& command, ServeFlags& flags);  // all of them
// MODEL, its arithmetic, and the groups of options that are its own.
void AddServedModelOptions(CLI::App& command, ServeFlags& flags);

}  // namespace fathom::cli
