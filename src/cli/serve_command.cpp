// fathom serve: a model behind HTTP, for many clients.
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <ctime>
#include <filesystem>
#include <memory>
#include <thread>

#include "cli/commands.h"
#include "cli/loaded_model.h"
#include "cli/sampling_options.h"
#include "cli/serve_config.h"
#include "cli/terminal.h"
#include "core/machine.h"
#include "engine/engine_thread.h"
#include "net/http_server.h"
#include "server/api_keys.h"
#include "server/server.h"

namespace fathom::cli {
namespace {

struct ServeFlags {
  ModelOptions model;
  std::string config_file, host = "127.0.0.1", api_key_file, chat_template, cache_dtype, tls_cert, tls_key, log_file,
                           cors_origin = "*";
  std::vector<std::string> api_keys, names;
  int port = 8080;
  int64_t ctx_size = 0, cache_tokens = 0, max_running = 64, max_waiting = 1024, step_tokens = 0, prompt_tokens = 512,
          drafts = -1, max_body_mib = 32, max_connections = 4096;
  double drain_seconds = 30;
  bool no_prefix_cache = false, batch_invariant = false, no_log = false, no_page = false;
};

std::string Size(int64_t bytes) {
  constexpr double kMib = 1 << 20, kGib = 1 << 30;
  const auto value = static_cast<double>(bytes);
  return value >= kGib ? fmt::format("{:.1f} GiB", value / kGib) : fmt::format("{:.1f} MiB", value / kMib);
}

DType CacheType(const std::string& name, const LoadedModel& model) {
  if (name.empty()) return model.cache_dtype();
  if (name == "f32") return DType::kF32;
  if (name == "bf16") return DType::kBF16;
  if (name == "fp8") return DType::kF8E4M3;
  throw Error("unknown --cache-dtype", name, "f32, bf16 or fp8");
}

int64_t WeightBytes(const checkpoint::Checkpoint& checkpoint) {
  int64_t bytes = 0;
  checkpoint.ForEachParam(
      [&](const model::ParamInfo&, const kernels::Weight& w) { bytes += w.rows * w.cols * SizeOf(w.dtype); });
  return bytes;
}

// How many positions the cache holds. By default: what the sequences that run together can use at most, in half of the
// memory that is free beside the weights (the other half is for working memory and for everybody else).
struct CacheSize {
  int64_t ctx_size, tokens;
};
CacheSize PlanCache(const ServeFlags& f, const LoadedModel& model, DType dtype, int64_t layers) {
  const int64_t token_bytes = engine::LatentLayout::Of(model.config(), layers, dtype).token_bytes();
  const int64_t limit = model.config().max_position_embeddings;
  if (f.ctx_size > limit) {
    throw Error("--ctx-size is more than the model's context", fmt::format("{}", f.ctx_size),
                fmt::format("at most {} (max_position_embeddings)", limit));
  }
  constexpr int64_t kUnit = engine::kBlockTokens;
  CacheSize size{.ctx_size = f.ctx_size > 0 ? f.ctx_size : limit, .tokens = f.cache_tokens};
  if (size.tokens > 0) {
    if (f.ctx_size == 0) size.ctx_size = std::min(size.ctx_size, size.tokens);
    if (size.tokens < size.ctx_size) {
      throw Error("--cache-tokens is less than --ctx-size", fmt::format("{}", size.tokens),
                  fmt::format("at least {}", size.ctx_size), "one sequence must fit");
    }
  } else {
    const int64_t available = AvailableMemory();
    const int64_t spare = available < 0 ? 0 : std::max<int64_t>(available - WeightBytes(model.checkpoint()), 0) / 2;
    const int64_t fits = spare / token_bytes / kUnit * kUnit;
    if (f.ctx_size == 0)
      size.ctx_size = std::min(size.ctx_size, std::max<int64_t>(fits, std::min<int64_t>(limit, 4096)));
    size.tokens = std::clamp(fits, size.ctx_size, engine::BlocksFor(size.ctx_size) * kUnit * f.max_running);
  }
  size.tokens = engine::BlocksFor(size.tokens) * kUnit;
  return size;
}

server::ServedModel Describe(const ServeFlags& f, const LoadedModel& model) {
  namespace fs = std::filesystem;
  server::ServedModel served{.names = f.names, .text = tokenizer::LoadModelText(model.checkpoint().path())};
  CheckVocabulary(served.text.tokenizer, model.config());
  const fs::path path = fs::weakly_canonical(fs::path(model.checkpoint().path()));
  const std::string base = path.filename().empty() ? path.parent_path().filename().string() : path.filename().string();
  if (std::find(served.names.begin(), served.names.end(), base) == served.names.end()) served.names.push_back(base);
  served.Prepare(f.chat_template.empty() ? std::nullopt : std::optional(f.chat_template));
  served.vocab_size = model.config().vocab_size;
  for (int64_t id : model.checkpoint().eos_ids()) served.eos_ids.push_back(static_cast<int32_t>(id));
  served.defaults = Resolve({}, model.checkpoint().generation_config());
  served.created = std::time(nullptr);
  served.fingerprint = "fathom-" + BuildCommit();
  return served;
}

bool IsLoopback(const std::string& host) {
  return host == "localhost" || host == "::1" || host == "[::1]" || host.rfind("127.", 0) == 0;
}

class Serve {
 public:
  explicit Serve(const ServeFlags& flags) : f_(flags), model_(flags.model), served_(Describe(flags, model_)) {}

  int Run() {
    const std::vector<std::string> keys = Keys();
    MakeEngine();
    GracefulInterrupt interrupt;  // until here a signal ends the program at once
    engine::EngineThread thread(*engine_);
    std::unique_ptr<server::AccessLog> log;
    if (!f_.no_log) log = std::make_unique<server::AccessLog>(f_.log_file);
    server::Server api(served_, *engine_, thread, log.get(),
                       {.api_keys = keys,
                        .cors_origin = f_.cors_origin == "none" ? "" : f_.cors_origin,
                        .version = FATHOM_VERSION,
                        .page = !f_.no_page});
    net::HttpServer http({.host = f_.host,
                          .port = f_.port,
                          .tls_cert = f_.tls_cert,
                          .tls_key = f_.tls_key,
                          .max_body_bytes = f_.max_body_mib << 20,
                          .max_connections = f_.max_connections},
                         [&](net::HttpRequest request, std::shared_ptr<net::Exchange> exchange) {
                           api.Handle(std::move(request), std::move(exchange));
                         });
    if (!Interrupted()) {
      http.Start();
      Announce(http.port());
    }
    while (!Interrupted()) std::this_thread::sleep_for(std::chrono::milliseconds(50));
    Drain(api, thread, http);
    return 0;
  }

 private:
  void MakeEngine() {
    const bool has_mtp = model_.config().num_nextn_predict_layers > 0;
    const int64_t drafts = f_.drafts >= 0 ? f_.drafts : has_mtp ? 1 : 0;
    const DType dtype = CacheType(f_.cache_dtype, model_);
    const CacheSize size = PlanCache(f_, model_, dtype, model_.config().num_hidden_layers + (drafts > 0 ? 1 : 0));
    model_.BuildTransformer(size.ctx_size);
    engine_.emplace(model_.ctx(), model_.transformer(),
                    engine::EngineOptions{.compute = model_.compute(),
                                          .cache_dtype = dtype,
                                          .max_context = size.ctx_size,
                                          .cache_tokens = size.tokens,
                                          .max_running = f_.max_running,
                                          .step_tokens = f_.step_tokens,
                                          .prompt_tokens = f_.prompt_tokens,
                                          .max_waiting = f_.max_waiting,
                                          .prefix_cache = !f_.no_prefix_cache,
                                          .batch_invariant = f_.batch_invariant,
                                          .drafts = drafts});
    served_.max_context = size.ctx_size;
    if (drafts > 0) engine_->Calibrate();
  }

  std::vector<std::string> Keys() const {
    std::vector<std::string> keys = f_.api_keys;
    if (!f_.api_key_file.empty()) {
      for (std::string& key : server::ReadKeyFile(f_.api_key_file)) keys.push_back(std::move(key));
    }
    for (const std::string& key : keys) {
      if (key.empty()) throw Error("--api-key is empty");
    }
    return keys;
  }

  void Announce(int port) const {
    const engine::EngineOptions& o = engine_->options();
    Print(fmt::format("{}: {}\n", served_.names.front(), model_.Description()));
    Print(fmt::format("cache: {} tokens in {} ({}); context {}; up to {} requests at once, {} waiting\n",
                      o.cache_tokens, Name(o.cache_dtype), Size(engine_->cache_bytes()), o.max_context, o.max_running,
                      o.max_waiting > 0 ? fmt::format("{}", o.max_waiting) : "any number"));
    Print(fmt::format("drafts: {}; chat: {}\n",
                      o.drafts > 0 ? fmt::format("at most {} a step by the model's MTP module", o.drafts) : "none",
                      served_.chat ? fmt::format("template {}", tokenizer::Name(*served_.chat))
                                   : served_.no_chat + "; completion only"));
    const bool v6 = f_.host.find(':') != std::string::npos && f_.host.front() != '[';
    const std::string host = v6 ? "[" + f_.host + "]" : f_.host;
    const std::string url = fmt::format("{}://{}:{}", f_.tls_cert.empty() ? "http" : "https", host, port);
    Print(fmt::format("serving at {} (API under {}/v1)\n", url, url));
    if (!IsLoopback(f_.host) && f_.api_keys.empty() && f_.api_key_file.empty()) {
      std::fprintf(stderr,
                   "fathom: warning: --host %s without --api-key: whoever reaches this port can use the model\n",
                   f_.host.c_str());
    }
  }

  void Drain(server::Server& api, engine::EngineThread& thread, net::HttpServer& http) const {
    constexpr double kLastWords = 5;  // for what is already written
    const int64_t running = thread.stats().running + thread.stats().waiting;
    Print(fmt::format("stopping: {} request{} to finish, {} seconds at most\n", running, running == 1 ? "" : "s",
                      f_.drain_seconds));
    api.SetDraining();
    const bool all = thread.Drain(f_.drain_seconds);
    thread.Stop();
    http.Drain(kLastWords);
    Print(all ? "stopped\n" : "stopped; some requests were cut off\n");
  }

  const ServeFlags& f_;
  LoadedModel model_;
  server::ServedModel served_;
  std::optional<engine::Engine> engine_;
};

void AddOptions(CLI::App& c, ServeFlags& f) {
  AddModelOptions(c, f.model);
  c.get_option("MODEL")->required(false);  // the file of --config may name it
  c.remove_option(c.get_option("--config"));
  c.add_option("--model-config", f.model.config, "Model configuration, where the directory has none");
  c.add_option("--config", f.config_file,
               "TOML file with any of these options: port = 8000, api-key = [\"k1\", \"k2\"]")
      ->type_name("FILE");
  const char* listen = "Listening";
  c.add_option("--host", f.host, "Address to listen at; 0.0.0.0 is every one of this machine")
      ->capture_default_str()
      ->group(listen);
  c.add_option("--port,-p", f.port, "Port; 0 takes a free one")
      ->capture_default_str()
      ->check(CLI::Range(0, 65535))
      ->group(listen);
  c.add_option("--tls-cert", f.tls_cert, "Certificate chain (PEM): serve https")->type_name("FILE")->group(listen);
  c.add_option("--tls-key", f.tls_key, "Its private key (PEM)")->type_name("FILE")->group(listen);
  c.add_option("--api-key", f.api_keys, "Key that clients must send (Authorization: Bearer KEY); may be repeated")
      ->type_name("KEY")
      ->allow_extra_args(false)
      ->group(listen);
  c.add_option("--api-key-file", f.api_key_file, "File of such keys, one a line")->type_name("FILE")->group(listen);
  c.add_option("--cors-origin", f.cors_origin, "Origin of web pages that may call; * is any, none is none")
      ->capture_default_str()
      ->group(listen);
  c.add_option("--max-body", f.max_body_mib, "Largest request, MiB")
      ->capture_default_str()
      ->check(CLI::Range(1, 1024))
      ->group(listen);
  c.add_option("--max-connections", f.max_connections, "Connections at once")
      ->capture_default_str()
      ->check(CLI::PositiveNumber)
      ->group(listen);
  c.add_option("--drain-seconds", f.drain_seconds, "After SIGTERM or Ctrl-C, time for running answers to finish")
      ->capture_default_str()
      ->check(CLI::NonNegativeNumber)
      ->group(listen);
  c.add_option("--log-file", f.log_file, "Access log, a JSON line a request (default: standard error)")
      ->type_name("FILE")
      ->group(listen);
  c.add_flag("--no-log", f.no_log, "No access log")->group(listen);
  c.add_flag("--no-page", f.no_page, "No chat page at /")->group(listen);

  const char* shown = "The model as clients see it";
  c.add_option("--served-model-name", f.names,
               "Name in the API; may be repeated, the first is shown (the directory's name works too)")
      ->type_name("NAME")
      ->allow_extra_args(false)
      ->group(shown);
  c.add_option("--template", f.chat_template, "Chat template: v2, v3, r1 or v3.1 (default: the model's own)")
      ->type_name("NAME")
      ->group(shown);
  c.add_option("--ctx-size,-c", f.ctx_size,
               "Longest prompt and answer together (default: the model's, if memory allows)")
      ->check(CLI::PositiveNumber)
      ->group(shown);

  const char* engine = "Engine";
  c.add_option("--cache-tokens", f.cache_tokens,
               "Positions that the cache holds for all requests together (default: by free memory)")
      ->check(CLI::PositiveNumber)
      ->group(engine);
  c.add_option("--cache-dtype", f.cache_dtype, "Rows of the cache: f32, bf16 or fp8 (default: as --compute)")
      ->type_name("NAME")
      ->group(engine);
  c.add_option("--max-running", f.max_running, "Requests in a step at most")
      ->capture_default_str()
      ->check(CLI::Range(1, 4096))
      ->group(engine);
  c.add_option("--max-waiting", f.max_waiting, "Requests that may wait; more get 429. 0: any number")
      ->capture_default_str()
      ->check(CLI::NonNegativeNumber)
      ->group(engine);
  c.add_option("--step-tokens", f.step_tokens, "Tokens of a step at most (default: by memory, 2048 at most)")
      ->check(CLI::PositiveNumber)
      ->group(engine);
  c.add_option("--prompt-tokens", f.prompt_tokens,
               "Of them for prompts while answers are written: fewer make these smoother")
      ->capture_default_str()
      ->check(CLI::PositiveNumber)
      ->group(engine);
  c.add_option("--drafts", f.drafts,
               "Tokens that the MTP module drafts ahead, 0 to 4 (default: 1 if the model has one)")
      ->check(CLI::Range(0, 4))
      ->group(engine);
  c.add_flag("--no-prefix-cache", f.no_prefix_cache, "Compute every prompt anew")->group(engine);
  c.add_flag("--batch-invariant", f.batch_invariant, "The same answer to a request whatever else runs")->group(engine);
}

}  // namespace

void AddServeCommand(CLI::App& app, int& exit_code) {
  auto f = std::make_shared<ServeFlags>();
  CLI::App* c = app.add_subcommand("serve", "Serve a model over HTTP: OpenAI's API and a chat page");
  AddOptions(*c, *f);
  c->footer(
      "Examples:\n"
      "  fathom serve models/fathom-16m\n"
      "  fathom serve MODEL --host 0.0.0.0 --api-key \"$KEY\" --served-model-name deepseek-chat\n"
      "  fathom serve --config server.toml\n"
      "  curl http://127.0.0.1:8080/v1/completions -d '{\"prompt\": \"Once upon a time\", \"max_tokens\": 32}'\n"
      "It is ready when GET /health answers 200. docs/server.md has the API.\n");
  c->callback([c, f, &exit_code] {
    if (!f->config_file.empty()) ApplyConfigFile(*c, f->config_file);
    if (f->model.model.empty()) throw CLI::RequiredError("MODEL");
    exit_code = Serve(*f).Run();
  });
}

}  // namespace fathom::cli
