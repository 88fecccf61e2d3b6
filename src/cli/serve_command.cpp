// fathom serve: models behind HTTP, for many clients.
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <map>
#include <memory>
#include <set>
#include <thread>

#include "cache/disk_store.h"
#include "cli/commands.h"
#include "cli/serve_flags.h"
#include "cli/served_checkpoint.h"
#include "cli/terminal.h"
#include "io/file.h"
#include "net/http_server.h"
#include "server/key_file.h"
#include "server/model_hub.h"

namespace fathom::cli {
namespace {

void WarnServing(const std::string& text) { std::fprintf(stderr, "fathom: warning: %s\n", text.c_str()); }

bool IsLoopback(const std::string& host) {
  return host == "localhost" || host == "::1" || host == "[::1]" || host.rfind("127.", 0) == 0;
}

// What tells a file that was changed or replaced from what it was.
struct FileStamp {
  ino_t inode = 0;
  off_t size = -1;
  int64_t seconds = 0, nanoseconds = 0;
  bool operator==(const FileStamp& o) const {
    return inode == o.inode && size == o.size && seconds == o.seconds && nanoseconds == o.nanoseconds;
  }
};
FileStamp StampOf(const std::string& path) {
  struct stat s {};
  if (path.empty() || stat(path.c_str(), &s) != 0) return {};
  return {s.st_ino, s.st_size, s.st_mtim.tv_sec, s.st_mtim.tv_nsec};
}

std::vector<server::KeyEntry> ReadKeys(const ServeFlags& f) {
  std::vector<server::KeyEntry> keys;
  std::set<std::string> names;
  const auto add = [&](server::KeyEntry entry) {
    if (!names.insert(entry.name).second) throw Error("two API keys have the same name", entry.name);
    keys.push_back(std::move(entry));
  };
  for (size_t i = 0; i < f.api_keys.size(); ++i) {
    if (f.api_keys[i].empty()) throw Error("--api-key is empty");
    add(server::KeyOf(f.api_keys[i], fmt::format("api-key-{}", i + 1)));
  }
  for (size_t i = 0; i < f.admin_keys.size(); ++i) {
    if (f.admin_keys[i].empty()) throw Error("--admin-key is empty");
    add(server::KeyOf(f.admin_keys[i], fmt::format("admin-key-{}", i + 1), /*admin=*/true));
  }
  if (!f.api_key_file.empty()) {
    for (server::KeyEntry& entry : server::ReadKeyFile(f.api_key_file)) add(std::move(entry));
  }
  return keys;
}

class Serve {
 public:
  explicit Serve(OptionValues command_line)
      : command_line_(std::move(command_line)), setup_(ReadSetup(command_line_)), f_(setup_.flags) {}

  int Run() {
    if (setup_.models.empty() && f_.model.model.empty()) throw CLI::RequiredError("MODEL");
    key_stamp_ = StampOf(f_.api_key_file);
    keys_.Set(ReadKeys(f_));
    server::UsageLedger usage({.path = f_.usage_db, .warn = WarnServing});
    std::unique_ptr<server::AccessLog> log;
    if (!f_.no_log) log = std::make_unique<server::AccessLog>(f_.log_file);
    std::unique_ptr<server::RequestTrace> trace;
    if (!f_.trace_file.empty()) trace = std::make_unique<server::RequestTrace>(f_.trace_file);
    const std::unique_ptr<cache::DiskStore> store = OpenStore();
    server::ModelHub hub(Sources(log.get(), usage, store.get(), trace.get()), HubOptionsOf(log.get(), usage));
    hub.LoadPinned();
    GracefulInterrupt interrupt;  // until here a signal ends the program at once
    HangupListener hangup;
    net::HttpServer http({.host = f_.host,
                          .port = f_.port,
                          .tls_cert = f_.tls_cert,
                          .tls_key = f_.tls_key,
                          .max_body_bytes = f_.max_body_mib << 20,
                          .max_connections = f_.max_connections},
                         [&](net::HttpRequest request, std::shared_ptr<net::Exchange> exchange) {
                           hub.Handle(std::move(request), std::move(exchange));
                         });
    if (!Interrupted()) {
      http.Start();
      Announce(hub, http.port());
    }
    constexpr int kLooks = 20;  // of 50 ms, between looks at the key file
    for (int n = 1; !Interrupted(); ++n) {
      if (hangup.Take()) Reload(log.get(), usage);
      if (n % kLooks == 0 && !f_.api_key_file.empty() && !(StampOf(f_.api_key_file) == key_stamp_)) ReloadKeys();
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
    Drain(hub, http);
    return 0;
  }

 private:
  std::string CorsOrigin() const { return f_.cors_origin == "none" ? "" : f_.cors_origin; }

  std::unique_ptr<cache::DiskStore> OpenStore() const {
    if (f_.disk_cache.empty()) return nullptr;
    constexpr double kGib = 1 << 30;
    auto store = std::make_unique<cache::DiskStore>(
        cache::DiskStoreOptions{.directory = f_.disk_cache,
                                .limit_bytes = static_cast<int64_t>(f_.disk_cache_gib * kGib),
                                .warn = [](const Error& e) { WarnServing(fmt::format("disk cache: {}", e.what())); }});
    const cache::StoreStats s = store->stats();
    if (s.writable) {
      Print(fmt::format("cache on disk: {} blocks, {} of {} in {}\n", s.blocks, io::HumanBytes(s.bytes),
                        io::HumanBytes(s.limit_bytes), f_.disk_cache));
    }
    return store;
  }

  std::vector<server::ModelSource> Sources(server::AccessLog* log, server::UsageLedger& usage, cache::BlockStore* store,
                                           server::RequestTrace* trace) {
    std::vector<ServeFlags*> all;
    for (ServeFlags& flags : setup_.models) all.push_back(&flags);
    if (all.empty()) all.push_back(&f_);
    const bool single = all.size() == 1;
    std::map<std::string, int> directories;  // a directory's name is a model's where it is no other's
    for (const ServeFlags* flags : all) ++directories[NameOfModel(flags->model.model)];
    std::vector<server::ModelSource> sources;
    for (ServeFlags* flags : all) {
      const std::string own = NameOfModel(flags->model.model);
      if (flags->names.empty()) flags->names.push_back(own);
      std::vector<std::string> names = flags->names;
      if (directories[own] == 1 && std::find(names.begin(), names.end(), own) == names.end()) names.push_back(own);
      server::ServerOptions options{
          .keys = keys_,
          .usage = &usage,
          .trace = trace,
          .cors_origin = CorsOrigin(),
          .version = FATHOM_VERSION,
          .page = !f_.no_page,
          .heartbeat = {.quiet_seconds = f_.keep_alive_seconds, .wait_seconds = f_.wait_seconds},
          .balance = f_.balance,
          .currency = f_.currency};
      sources.push_back({.names = names,
                         .pinned = single || flags->preload,
                         .estimate = [flags] { return ServedCheckpoint::EstimateBytes(*flags); },
                         .load = [this, flags, log, store, options]() -> std::unique_ptr<server::HostedModel> {
                           auto loaded = std::make_unique<ServedCheckpoint>(*flags, log, store, options);
                           if (setup_.models.empty()) announcement_ = loaded->Announcement();
                           return loaded;
                         }});
    }
    return sources;
  }

  server::HubOptions HubOptionsOf(server::AccessLog* log, server::UsageLedger& usage) const {
    constexpr double kGib = 1 << 30;
    return {.memory_bytes = static_cast<int64_t>(f_.memory_limit * kGib),
            .max_waiting = static_cast<size_t>(f_.max_parked),
            .wait_seconds = f_.load_wait_seconds,
            .cors_origin = CorsOrigin(),
            .version = FATHOM_VERSION,
            .page = !f_.no_page,
            .keys = keys_,
            .log = log,
            .usage = &usage};
  }

  void ReloadKeys() {
    key_stamp_ = StampOf(f_.api_key_file);
    try {
      const std::vector<server::KeyEntry> keys = ReadKeys(f_);
      keys_.Set(keys);
      Print(fmt::format("keys: {} read again\n", keys.size()));
    } catch (const Error& e) {
      WarnServing(fmt::format("the keys stay as they were: {}", e.what()));
    }
  }

  // SIGHUP. What cannot change while the program runs is named.
  void Reload(server::AccessLog* log, server::UsageLedger& usage) {
    static const std::set<std::string> at_once = {"--api-key", "--api-key-file", "--admin-key", "--drain-seconds"};
    if (log) log->Reopen();
    usage.Reopen();
    try {
      const ServeSetup fresh = ReadSetup(command_line_);
      std::set<std::string> names;
      for (const auto& [name, values] : setup_.values) names.insert(name);
      for (const auto& [name, values] : fresh.values) names.insert(name);
      const auto of = [](const OptionValues& all, const std::string& name) {
        const auto it = all.find(name);
        return it == all.end() ? std::vector<std::string>() : it->second;
      };
      for (const std::string& name : names) {
        if (at_once.count(name) == 0 && of(setup_.values, name) != of(fresh.values, name))
          WarnServing(fmt::format("{} has changed in {}: that needs a restart", name.substr(name.rfind('-', 1) + 1),
                                  f_.config_file));
      }
      if (fresh.models.size() != setup_.models.size())
        WarnServing(fmt::format("[[models]] has changed in {}: that needs a restart", f_.config_file));
      f_.api_keys = fresh.flags.api_keys;
      f_.api_key_file = fresh.flags.api_key_file;
      f_.admin_keys = fresh.flags.admin_keys;
      f_.drain_seconds = fresh.flags.drain_seconds;
    } catch (const CLI::Error& e) {
      WarnServing(fmt::format("the options stay as they were: {}", e.what()));
    } catch (const Error& e) {
      WarnServing(fmt::format("the options stay as they were: {}", e.what()));
    }
    ReloadKeys();
  }

  void Announce(const server::ModelHub& hub, int port) const {
    if (!announcement_.empty()) Print(announcement_);
    if (!setup_.models.empty()) {
      for (const server::ModelHub::View& v : hub.Look())
        Print(fmt::format("{}: {}{}\n", v.names.front(), Name(v.state), v.error.empty() ? "" : ": " + v.error));
    }
    const bool v6 = f_.host.find(':') != std::string::npos && f_.host.front() != '[';
    const std::string host = v6 ? "[" + f_.host + "]" : f_.host;
    const std::string url = fmt::format("{}://{}:{}", f_.tls_cert.empty() ? "http" : "https", host, port);
    Print(fmt::format("serving at {} (API under {}/v1)\n", url, url));
    if (!IsLoopback(f_.host) && !keys_.required())
      WarnServing(fmt::format("--host {} without --api-key: whoever reaches this port can use the model", f_.host));
  }

  void Drain(server::ModelHub& hub, net::HttpServer& http) const {
    constexpr double kLastWords = 5;  // for what is already written
    const int64_t running = hub.running();
    Print(fmt::format("stopping: {} request{} to finish, {} seconds at most\n", running, running == 1 ? "" : "s",
                      f_.drain_seconds));
    const bool all = hub.Drain(f_.drain_seconds);
    hub.Stop();
    http.Drain(kLastWords);
    Print(all ? "stopped\n" : "stopped; some requests were cut off\n");
  }

  const OptionValues command_line_;
  ServeSetup setup_;
  ServeFlags& f_;
  server::ApiKeys keys_{std::vector<std::string>{}};
  FileStamp key_stamp_;
  std::string announcement_;
};

}  // namespace

void AddServeCommand(CLI::App& app, int& exit_code) {
  auto f = std::make_shared<ServeFlags>();
  CLI::App* c = app.add_subcommand("serve", "Serve models over HTTP: OpenAI's API and a chat page");
  AddServeOptions(*c, *f);
  c->footer(
      "Examples:\n"
      "  fathom serve models/fathom-16m\n"
      "  fathom serve MODEL --host 0.0.0.0 --api-key \"$KEY\" --served-model-name deepseek-chat\n"
      "  fathom serve --config server.toml\n"
      "  curl http://127.0.0.1:8080/v1/completions -d '{\"prompt\": \"Once upon a time\", \"max_tokens\": 32}'\n"
      "It is ready when GET /health answers 200. docs/server.md has the API, docs/operations.md what runs it for "
      "long.\n");
  c->callback([c, f, &exit_code] { exit_code = Serve(ValuesOf(*c)).Run(); });
}

}  // namespace fathom::cli
