#include "cli/bench_serve.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <ctime>
#include <limits>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "cli/numbers.h"
#include "cli/serve_figures.h"
#include "cli/serve_load.h"
#include "cli/serve_prompts.h"
#include "cli/serve_trace.h"
#include "cli/terminal.h"
#include "core/rng.h"
#include "io/file.h"

namespace fathom::cli {
namespace {

using nlohmann::ordered_json;

// Numbers of random texts: blocks of a trace have their own ids, what belongs to one request lies far above.
constexpr uint64_t kOwnText = uint64_t{1} << 62, kSharedPrefix = kOwnText - 1, kProbe = kOwnText - 2;

struct ServeFlags {
  std::string url, api = "completions", prompt_kind = "auto", goodput, plot, trace, extra;
  std::string api_key, model;
  int64_t input_len = 512, output_len = 128, prefix_len = 0, num_prompts = 64, concurrency = 0, warmup = 0;
  int64_t vocab_size = 0, limit = std::numeric_limits<int64_t>::max(), max_context = 0;
  double request_rate = 0, time_scale = 1, length_scale = 1, timeout = 600, temperature = 0;
  std::optional<uint64_t> given_seed;
  uint64_t seed = 0;
  bool insecure = false, heed_eos = false, json = false, details = false;
};

// What the server says of its model, as far as it does.
struct ServedModel {
  std::string name;
  int64_t max_context = 0, vocab_size = 0;
};

Endpoint MakeEndpoint(const ServeFlags& o) {
  Endpoint e;
  e.base = net::ParseUrl(o.url).Value();
  std::string& path = e.base.target;
  while (!path.empty() && path.back() == '/') path.pop_back();
  if (path.size() < 3 || path.compare(path.size() - 3, 3, "/v1") != 0) path += "/v1";
  e.chat = o.api == "chat";
  e.api_key = o.api_key;
  e.temperature = o.temperature;
  e.ignore_eos = !o.heed_eos;
  e.seconds = o.timeout;
  if (!o.extra.empty()) {
    e.extra = ordered_json::parse(o.extra, nullptr, /*allow_exceptions=*/false);
    if (!e.extra.is_object()) throw Error("--extra-body is not a JSON object", o.extra, R"({"top_k": 1})");
  }
  return e;
}

ServedModel FindModel(net::HttpClient& client, const Endpoint& endpoint, const std::string& wanted) {
  const net::ClientResult r = client.Fetch(endpoint.Get("/models"));
  const std::string where = fmt::format("{}:{}{}/models", endpoint.base.host, endpoint.base.port, endpoint.base.target);
  if (r.error != net::ClientError::kNone) {
    throw Error("cannot ask " + where, fmt::format("{}: {}", net::Name(r.error), r.message), "a running server",
                r.error == net::ClientError::kTls ? "--insecure takes any certificate" : "");
  }
  if (r.status != 200) {
    if (!wanted.empty()) return {.name = wanted};
    throw Error(where + " gives no list of models", fmt::format("status {}", r.status), "200",
                r.status == 401 ? "--api-key KEY" : "--model NAME");
  }
  const ordered_json j = ordered_json::parse(r.body, nullptr, /*allow_exceptions=*/false);
  ServedModel found{.name = wanted};
  if (j.is_object() && j.contains("data") && j["data"].is_array()) {
    const auto number = [](const ordered_json& object, const char* key) {
      return object.contains(key) && object[key].is_number() ? object[key].get<int64_t>() : int64_t{0};
    };
    for (const auto& m : j["data"]) {
      if (!m.is_object() || !m.contains("id") || !m["id"].is_string()) continue;
      if (!wanted.empty() && m["id"] != wanted) continue;
      found.name = m["id"].get<std::string>();
      found.max_context = number(m, "max_model_len");
      if (m.contains("meta") && m["meta"].is_object()) {  // llama-server
        found.vocab_size = number(m["meta"], "n_vocab");
        if (found.max_context == 0) found.max_context = number(m["meta"], "n_ctx");
      }
      break;
    }
  }
  if (found.name.empty()) throw Error(where + " names no model", r.body.substr(0, 200), "", "--model NAME");
  return found;
}

// Asks with prompts of two lengths how many tokens the server makes of a word, and of everything besides.
void Calibrate(net::HttpClient& client, const Endpoint& endpoint, PromptMaker& prompts) {
  constexpr int64_t kShort = 16, kLong = 272;
  int64_t tokens[2] = {0, 0};
  for (int i = 0; i < 2; ++i) {
    const RequestRecord r = SendOne(client, endpoint, prompts.Words(i == 0 ? kShort : kLong, kProbe), 1);
    if (!r.ok()) {
      throw Error("the server refuses a request", fmt::format("{}: {}", r.error, r.message), "a stream of tokens",
                  r.error == "http_401"   ? "--api-key KEY"
                  : r.error == "http_404" ? "--api chat or completions, whichever the server has"
                  : r.error == "http_400" || r.error == "http_422"
                      ? "--heed-eos leaves out ignore_eos, which not every server knows"
                      : "");
    }
    tokens[i] = r.prompt_tokens;
  }
  if (tokens[0] <= 0 || tokens[1] <= tokens[0]) return;  // no usage: a word is taken for a token
  prompts.tokens_per_word = static_cast<double>(tokens[1] - tokens[0]) / static_cast<double>(kLong - kShort);
  prompts.overhead = std::max(0.0, static_cast<double>(tokens[0]) - prompts.tokens_per_word * kShort);
}

struct Plan {
  std::vector<PlannedRequest> requests;
  std::string description;  // what was asked for, and what was scaled or left out
};

Plan FixedPlan(const ServeFlags& o) {
  Plan plan;
  Rng rng(o.seed, kProbe);
  double at = 0;
  const int64_t prefix = std::min(o.prefix_len, o.input_len);
  for (int64_t i = 0; i < o.num_prompts; ++i) {
    PlannedRequest& r = plan.requests.emplace_back();
    if (o.request_rate > 0) at -= std::log1p(-rng.NextDouble()) / o.request_rate;
    r.arrival = at;
    r.input_tokens = o.input_len;
    r.output_tokens = o.output_len;
    if (prefix > 0) r.pieces.push_back({kSharedPrefix, prefix});
    r.pieces.push_back({kOwnText + static_cast<uint64_t>(i), o.input_len - prefix});
  }
  plan.description =
      fmt::format("{} requests, prompts of {} tokens, answers of {}", o.num_prompts, o.input_len, o.output_len);
  if (prefix > 0) plan.description += fmt::format(", the first {} of all prompts the same", prefix);
  if (o.request_rate > 0) plan.description += fmt::format(", {:g} a second at random", o.request_rate);
  return plan;
}

Plan TracePlan(const ServeFlags& o, int64_t max_context) {
  const Trace trace = ReadTrace(o.trace, o.limit).Value();
  Plan plan;
  const auto scaled = [&](int64_t tokens) {
    return std::max<int64_t>(1, std::llround(static_cast<double>(tokens) * o.length_scale));
  };
  int64_t too_long = 0;
  for (const TraceRequest& t : trace.requests) {
    PlannedRequest r;
    r.arrival = t.arrival * o.time_scale;
    r.input_tokens = scaled(t.input_tokens);
    r.output_tokens = scaled(t.output_tokens);
    if (max_context > 0 && r.input_tokens + r.output_tokens > max_context) {
      ++too_long;
      continue;
    }
    int64_t left = r.input_tokens;
    for (const int64_t id : t.blocks) {
      const int64_t tokens = std::min(left, scaled(kTraceBlockTokens));
      if (tokens > 0) r.pieces.push_back({static_cast<uint64_t>(id), tokens});
      left -= tokens;
    }
    // Without blocks, or by rounding.
    if (left > 0) r.pieces.push_back({kOwnText + plan.requests.size(), left});
    plan.requests.push_back(std::move(r));
  }
  plan.description = fmt::format("{} requests of the {} trace {}", plan.requests.size(), trace.format, o.trace);
  if (o.time_scale != 1) plan.description += fmt::format(", times x {:g}", o.time_scale);
  if (o.length_scale != 1) plan.description += fmt::format(", lengths x {:g}", o.length_scale);
  if (too_long > 0) {
    plan.description += fmt::format(", {} left out as longer than {} tokens", too_long, max_context);
  }
  if (plan.requests.empty()) {
    throw Error("no request of the trace fits the server's context", fmt::format("{} tokens", max_context), "",
                "a smaller --length-scale");
  }
  return plan;
}

ordered_json DetailsJson(const LoadResult& result) {
  ordered_json requests = ordered_json::array();
  for (const RequestRecord& r : result.requests) {
    ordered_json j = {{"index", r.index}, {"start", r.start}, {"e2el", r.seconds}};
    if (r.ok()) {
      j["ttft"] = r.ttft();
      j["tpot"] = r.seconds_per_token();
      j["prompt_tokens"] = r.prompt_tokens;
      j["completion_tokens"] = r.output_tokens();
      j["chunks"] = r.chunks;
      if (r.cached_tokens >= 0) j["prompt_cache_hit_tokens"] = r.cached_tokens;
      j["finish_reason"] = r.finish_reason;
    } else {
      j["error"] = r.error;
      j["message"] = r.message;
    }
    requests.push_back(std::move(j));
  }
  return requests;
}

std::string Now() {
  const std::time_t now = std::time(nullptr);
  std::tm utc{};
  gmtime_r(&now, &utc);
  char text[32];
  std::strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &utc);
  return text;
}

int Run(ServeFlags o) {
  o.seed = o.given_seed ? *o.given_seed : std::random_device{}();
  const Goals goals = ParseGoals(o.goodput);
  Endpoint endpoint = MakeEndpoint(o);
  net::HttpClientOptions client_options;
  client_options.verify_tls = !o.insecure;
  net::HttpClient client(client_options);
  const ServedModel model = FindModel(client, endpoint, o.model);
  endpoint.model = model.name;

  PromptMaker prompts;
  prompts.seed = o.seed;
  const int64_t vocab_size = o.vocab_size > 0 ? o.vocab_size : model.vocab_size;
  const bool ids = o.prompt_kind == "ids" || (o.prompt_kind == "auto" && !endpoint.chat && vocab_size > 0);
  if (ids && endpoint.chat) throw Error("chats cannot be asked with token ids", "--prompt ids", "--prompt words");
  if (ids && vocab_size <= 0) {
    throw Error("the server does not say how large its vocabulary is", "--prompt ids", "", "--vocab-size N");
  }
  if (ids) {
    prompts.vocab_size = vocab_size;
  }
  const int64_t max_context = o.max_context > 0 ? o.max_context : model.max_context;
  Plan plan = o.trace.empty() ? FixedPlan(o) : TracePlan(o, max_context);
  Calibrate(client, endpoint, prompts);
  const int64_t concurrency = o.concurrency > 0 || o.request_rate > 0 || !o.trace.empty() ? o.concurrency : 1;
  if (concurrency > 0) plan.description += fmt::format(", at most {} at a time", concurrency);

  const bool show = StderrIsTerminal();
  const GracefulInterrupt interrupt;
  const auto on_progress = [&](const LoadProgress& p) {
    if (show && p.seconds > 0) {
      std::fprintf(stderr, "\r\033[K%s",
                   fmt::format("{} of {} done, {} running, {} failed, {:.1f} tokens/s, {:.0f} s", p.done, p.total,
                               p.running, p.failed, static_cast<double>(p.output_tokens) / p.seconds, p.seconds)
                       .c_str());
    }
    return interrupt.ExitCode() == 0;
  };
  for (int64_t i = 0; i < o.warmup; ++i) {
    const PlannedRequest& r = plan.requests.front();
    SendOne(client, endpoint, prompts.Make({{kProbe, r.input_tokens}}), r.output_tokens);
  }
  const LoadResult result = RunLoad(client, endpoint, prompts, plan.requests, concurrency, on_progress);
  if (show) std::fprintf(stderr, "\r\033[K");

  const ServeFigures figures = Summarise(result, plan.requests, goals);
  double latest = 0;  // how far the generator itself fell behind
  for (const RequestRecord& r : result.requests) latest = std::max(latest, r.late);
  const bool open = concurrency == 0;
  if (o.json) {
    ordered_json j = {{"date", Now()}, {"base_url", o.url}, {"endpoint_type", o.api}, {"model_id", endpoint.model}};
    j["load"] = plan.description;
    j["num_prompts"] = plan.requests.size();
    if (concurrency > 0) j["max_concurrency"] = concurrency;
    if (o.request_rate > 0) j["request_rate"] = o.request_rate;
    if (!o.trace.empty()) j["time_scale"] = o.time_scale, j["length_scale"] = o.length_scale;
    j["prompt_kind"] = ids ? "ids" : "words";
    j["seed"] = o.seed;
    if (!ids) j["tokens_per_word"] = prompts.tokens_per_word;
    j.update(FiguresJson(figures, goals));
    if (open) j["max_send_delay_ms"] = latest * 1e3;
    if (o.details) j["requests"] = DetailsJson(result);
    Print(j.dump(2, ' ', false, ordered_json::error_handler_t::replace) + "\n");
  } else {
    std::string t =
        fmt::format("server   {} ({}), model {}\n", o.url, endpoint.chat ? "chat" : "completions", endpoint.model);
    t += fmt::format("load     {}; {}, seed {}\n", plan.description,
                     ids ? "random token ids" : fmt::format("random words of {:.2f} tokens", prompts.tokens_per_word),
                     o.seed);
    t += FiguresTable(figures, goals);
    if (open && latest > 0.01) t += fmt::format("\nsent up to {:.0f} ms late: this machine is busy\n", latest * 1e3);
    Print(t);
  }
  if (!o.plot.empty()) {
    const std::string svg = FiguresPlot(result);
    if (!svg.empty()) io::WriteFileAtomically(o.plot, svg);
  }
  if (const int code = interrupt.ExitCode()) return code;
  return figures.completed > 0 ? 0 : kExitError;
}

}  // namespace

CLI::App* AddBenchServe(CLI::App& bench, int& exit_code) {
  auto o = std::make_shared<ServeFlags>();
  CLI::App* c = bench.add_subcommand("serve", "Load a server that has an OpenAI API and measure its latency and rate");
  c->add_option("URL", o->url, "http://host:port, of fathom serve or of any other")->required();
  c->add_option("--api", o->api, "completions or chat")
      ->check(CLI::IsMember({"completions", "chat"}))
      ->type_name("NAME")
      ->capture_default_str();
  c->add_option("--api-key", o->api_key, "Sent as a bearer token")->envname("FATHOM_API_KEY")->type_name("KEY");
  c->add_option("--model", o->model, "Default: the first that /v1/models names")->type_name("NAME");
  CLI::Option* input =
      c->add_option("--input-len", o->input_len, "Tokens of a prompt")->check(kPositive)->capture_default_str();
  CLI::Option* output =
      c->add_option("--output-len", o->output_len, "Tokens of an answer")->check(kPositive)->capture_default_str();
  CLI::Option* prefix = c->add_option("--prefix-len", o->prefix_len, "Of these, tokens that all prompts begin with")
                            ->check(kNonNegative)
                            ->capture_default_str();
  CLI::Option* count = c->add_option("--num-prompts", o->num_prompts, "Requests")
                           ->check(CLI::Range(int64_t{1}, int64_t{10'000'000}))
                           ->capture_default_str();
  c->add_option("--concurrency", o->concurrency, "Requests open at a time (default: 1, without limit with a rate)")
      ->check(kPositive);
  CLI::Option* rate =
      c->add_option("--request-rate", o->request_rate, "Requests a second, arriving at random (Poisson)")
          ->check(kPositive);
  CLI::Option* trace =
      c->add_option("--trace", o->trace, "Replay the requests of a trace: Azure's CSV, Mooncake's JSONL (.gz, .zst)")
          ->check(CLI::ExistingFile)
          ->type_name("FILE");
  for (CLI::Option* fixed : {input, output, prefix, count, rate}) trace->excludes(fixed);
  c->add_option("--time-scale", o->time_scale, "Multiplies the trace's times: 0.5 is twice as fast")
      ->check(kNonNegative)
      ->needs(trace);
  c->add_option("--length-scale", o->length_scale, "Multiplies the trace's lengths")->check(kPositive)->needs(trace);
  c->add_option("--limit", o->limit, "Only the trace's first requests")->check(kPositive)->type_name("N")->needs(trace);
  c->add_option("--max-context", o->max_context,
                "Leave out longer requests of the trace (default: what the server says)")
      ->check(kPositive)
      ->needs(trace);
  c->add_option("--prompt", o->prompt_kind, "auto, words or ids; auto: ids where the vocabulary's size is known")
      ->check(CLI::IsMember({"auto", "words", "ids"}))
      ->type_name("NAME")
      ->capture_default_str();
  c->add_option("--vocab-size", o->vocab_size, "Ids are drawn below this")->check(kPositive);
  c->add_option("--temperature", o->temperature)->check(kNonNegative)->capture_default_str();
  c->add_flag("--heed-eos", o->heed_eos, "Answers may end early: ignore_eos is not sent");
  c->add_option("--extra-body", o->extra, "Further fields of each request")->type_name("JSON");
  c->add_option("--warmup", o->warmup, "Requests before the measured ones")->check(kNonNegative)->capture_default_str();
  c->add_option("--goodput", o->goodput, "Limits in ms that a good request keeps: ttft:500,itl:50,e2el:10000")
      ->type_name("LIST");
  c->add_option("--timeout", o->timeout, "Seconds for a request")->check(kPositive)->capture_default_str();
  c->add_option("--seed", o->given_seed,
                "Of prompts and arrivals (default: a new one, so that no cache knows the prompts)");
  c->add_flag("--insecure", o->insecure, "Take any TLS certificate");
  c->add_option("--plot", o->plot, "Latencies over time as an SVG file")->type_name("FILE");
  c->add_flag("--json", o->json, "One JSON object instead of tables");
  c->add_flag("--details", o->details, "With --json: each request too");
  c->footer(
      "Examples:\n"
      "  fathom bench serve http://127.0.0.1:8080 --concurrency 8 --input-len 512 --output-len 128\n"
      "  fathom bench serve http://127.0.0.1:8080 --request-rate 2 --goodput ttft:500,itl:50\n"
      "  fathom bench serve http://127.0.0.1:8080 --trace mooncake.jsonl.gz --length-scale 0.02 --time-scale 4\n");
  c->callback([o, &exit_code] { exit_code = Run(*o); });
  return c;
}

}  // namespace fathom::cli
