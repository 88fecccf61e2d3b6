#include "cli/serve_flags.h"

#include <CLI/CLI.hpp>

#include "cli/numbers.h"
#include "cli/serve_config.h"
#include "cli/template_options.h"

namespace fathom::cli {

OptionValues ValuesOf(const CLI::App& command) {
  OptionValues values;
  for (const CLI::Option* option : command.get_options()) {
    if (option->count() > 0) values[option->get_name()] = option->results();
  }
  return values;
}

ServeSetup ReadSetup(const OptionValues& command_line) {
  ServeSetup setup;
  CLI::App app;
  AddServeOptions(app, setup.flags);
  for (const auto& [name, values] : command_line) {
    CLI::Option* option = app.get_option_no_throw(name);
    if (!option) continue;
    for (const std::string& value : values) option->add_result(value);
    option->run_callback();
  }
  std::vector<ApplyTable> tables;
  if (!setup.flags.config_file.empty()) ApplyConfigFile(app, setup.flags.config_file, &tables);
  setup.values = ValuesOf(app);
  for (const ApplyTable& apply : tables) {
    ServeFlags& flags = setup.models.emplace_back(setup.flags);
    flags.model.model.clear();
    flags.names.clear();
    flags.memory_share = static_cast<int64_t>(flags.memory_limit * (1 << 30) / static_cast<double>(tables.size()));
    CLI::App own;
    AddServedModelOptions(own, flags);
    apply(own);
    if (flags.model.model.empty())
      throw Error(setup.flags.config_file + ": a model of [[models]] has no path", "", "path = \"DIRECTORY\"");
  }
  if (!tables.empty() && !setup.flags.model.model.empty())
    throw Error("a MODEL and [[models]] are both given", setup.flags.model.model, "one of the two");
  return setup;
}

void AddServedModelOptions(CLI::App& c, ServeFlags& f) {
  AddModelOptions(c, f.model);
  c.get_option("MODEL")->required(false);  // the file of --config may name it
  c.remove_option(c.get_option("--config"));
  c.add_option("--model-config", f.model.config, "Model configuration, where the directory has none");

  const char* shown = "The model as clients see it";
  c.add_option("--served-model-name", f.names,
               "Name in the API; may be repeated, the first is shown (the directory's name works too)")
      ->type_name("NAME")
      ->allow_extra_args(false)
      ->group(shown);
  AddTemplateOptions(c, f.chat_template, shown);
  c.add_option("--ctx-size,-c", f.ctx_size,
               "Longest prompt and answer together (default: the model's, if memory allows)")
      ->check(kPositive)
      ->group(shown);

  c.add_flag("--deepseek-temperature", f.deepseek_temperature,
             "Requests have the temperature of DeepSeek's API: 0.3 of it up to 1, it less 0.7 above; 1 by default")
      ->group(shown);
  c.add_flag("--preload", f.preload, "Of [[models]]: load it at the start and keep it")->group(shown);

  const char* engine = "Engine";
  c.add_option("--cache-tokens", f.cache_tokens,
               "Positions that the cache holds for all requests together (default: by free memory)")
      ->check(kPositive)
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
      ->check(kNonNegative)
      ->group(engine);
  c.add_option("--step-tokens", f.step_tokens, "Tokens of a step at most (default: by memory, 2048 at most)")
      ->check(kPositive)
      ->group(engine);
  c.add_option("--prompt-tokens", f.prompt_tokens,
               "Of them for prompts while answers are written: fewer make these smoother")
      ->capture_default_str()
      ->check(kPositive)
      ->group(engine);
  c.add_option("--drafts", f.drafts,
               "Tokens that the MTP module drafts ahead, 0 to 4 (default: 1 if the model has one)")
      ->check(CLI::Range(0, 4))
      ->group(engine);
  c.add_flag("--mlock", f.mlock, "Keep the weights in memory: the system may not take their pages back")->group(engine);
  c.add_flag("--no-prefix-cache", f.no_prefix_cache, "Compute every prompt anew")->group(engine);
  c.add_flag(
       "--no-greedy-head", f.no_greedy_head,
       "All logits also where only the likeliest token is wanted: the same tokens, slower, without 8-bit codes of "
       "lm_head in memory")
      ->group(engine);
  c.add_flag(
       "--no-compact-weights", f.no_compact_weights,
       "Only the checkpoint's weights in memory: otherwise those of BF16 models, where memory allows, once more in "
       "12 bits a value, the same values, which makes answers faster")
      ->group(engine);
  c.add_flag("--batch-invariant", f.batch_invariant, "The same answer to a request whatever else runs")->group(engine);
}

void AddServeOptions(CLI::App& c, ServeFlags& f) {
  AddServedModelOptions(c, f);
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
  c.add_option("--api-key-file", f.api_key_file, "File of such keys, with names and limits; read again when it changes")
      ->type_name("FILE")
      ->group(listen);
  c.add_option("--cors-origin", f.cors_origin, "Origin of web pages that may call; * is any, none is none")
      ->capture_default_str()
      ->group(listen);
  c.add_option("--max-body", f.max_body_mib, "Largest request, MiB")
      ->capture_default_str()
      ->check(CLI::Range(1, 1024))
      ->group(listen);
  c.add_option("--max-connections", f.max_connections, "Connections at once")
      ->capture_default_str()
      ->check(kPositive)
      ->group(listen);
  c.add_option("--drain-seconds", f.drain_seconds, "After SIGTERM or Ctrl-C, time for running answers to finish")
      ->capture_default_str()
      ->check(kNonNegative)
      ->group(listen);
  c.add_option("--keep-alive-seconds", f.keep_alive_seconds,
               "Without a byte: then a stream gets a comment that clients skip; 0: never")
      ->capture_default_str()
      ->check(kNonNegative)
      ->group(listen);
  c.add_option("--wait-seconds", f.wait_seconds, "For an answer to begin: then it ends with an error; 0: any time")
      ->capture_default_str()
      ->check(kNonNegative)
      ->group(listen);
  c.add_option("--balance", f.balance,
               "What GET /user/balance (DeepSeek's API) shows; 0 or less: requests get 402 Insufficient Balance")
      ->group(listen);
  c.add_option("--currency", f.currency, "Of --balance")->capture_default_str()->group(listen);
  c.add_option("--log-file", f.log_file, "Access log, a JSON line a request (default: standard error)")
      ->type_name("FILE")
      ->group(listen);
  c.add_flag("--no-log", f.no_log, "No access log")->group(listen);
  c.add_flag("--no-page", f.no_page, "No chat page at /")->group(listen);
  const char* cache = "Cache on disk";
  c.add_option("--disk-cache", f.disk_cache,
               "Directory where what prompts give is kept over restarts; one for each server")
      ->type_name("DIR")
      ->group(cache);
  c.add_option("--disk-cache-gib", f.disk_cache_gib, "Its size at most, GiB")
      ->capture_default_str()
      ->check(kPositive)
      ->group(cache);
  const char* operations = "Operations";
  c.add_option("--admin-key", f.admin_keys,
               "Key for the admin page at /admin, which is not there without one; may be repeated")
      ->type_name("KEY")
      ->allow_extra_args(false)
      ->group(operations);
  c.add_option("--usage-db", f.usage_db, "SQLite file of what each key uses, by day and model (fathom usage shows it)")
      ->type_name("FILE")
      ->group(operations);
  c.add_option("--trace", f.trace_file, "Write what becomes of each request, for chrome://tracing or ui.perfetto.dev")
      ->type_name("FILE")
      ->group(operations);
  c.add_option("--memory-limit", f.memory_limit, "GiB for the models of [[models]] together; 0: no limit")
      ->capture_default_str()
      ->check(kNonNegative)
      ->group(operations);
  c.add_option("--load-wait", f.load_wait_seconds, "Seconds that a model waits for memory that others use")
      ->capture_default_str()
      ->check(kNonNegative)
      ->group(operations);
  c.add_option("--max-parked", f.max_parked, "Requests that may wait for models to be loaded; more get 429")
      ->capture_default_str()
      ->check(kNonNegative)
      ->group(operations);
}

}  // namespace fathom::cli
