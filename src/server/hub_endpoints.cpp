// What a ModelHub answers itself.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "core/machine.h"
#include "server/json_text.h"
#include "server/model_hub.h"
#include "server/page.h"

namespace fathom::server {
namespace {

using OrderedJson = nlohmann::ordered_json;

constexpr std::string_view kModelsPath = "/v1/models/";

net::HttpResponse AsJson(const OrderedJson& json) {
  return {.headers = {{"Content-Type", "application/json"}, {"Cache-Control", "no-store"}},
          .body = json.dump(-1, ' ', false, OrderedJson::error_handler_t::replace)};
}

// Stops at the first `model` of the outermost object.
class ModelFinder : public nlohmann::json_sax<nlohmann::json> {
 public:
  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(number_integer_t) override { return true; }
  bool number_unsigned(number_unsigned_t) override { return true; }
  bool number_float(number_float_t, const string_t&) override { return true; }
  bool binary(binary_t&) override { return true; }
  bool string(string_t& value) override {
    if (depth_ != 1 || !here_) return true;
    found = value;
    return false;
  }
  bool key(string_t& name) override {
    here_ = depth_ == 1 && name == "model";
    return true;
  }
  bool start_object(std::size_t) override { return Enter(); }
  bool end_object() override { return Leave(); }
  bool start_array(std::size_t) override { return depth_ > 0 && Enter(); }
  bool end_array() override { return Leave(); }
  bool parse_error(std::size_t, const std::string&, const nlohmann::detail::exception&) override { return false; }

  std::string found;

 private:
  bool Enter() {
    here_ = here_ && depth_ == 0;
    ++depth_;
    return true;
  }
  bool Leave() {
    --depth_;
    return true;
  }
  int64_t depth_ = 0;
  bool here_ = false;
};

OrderedJson OfSums(const UsageSums& s) {
  return {{"requests", s.requests},
          {"errors", s.errors},
          {"prompt_tokens", s.prompt_tokens},
          {"cached_tokens", s.cached_tokens},
          {"completion_tokens", s.completion_tokens}};
}

OrderedJson OfStats(const engine::EngineStats& s) {
  return {{"running", s.running},
          {"waiting", s.waiting},
          {"blocks", s.blocks},
          {"blocks_used", s.blocks_used},
          {"blocks_cached", s.blocks_cached},
          {"steps", s.steps},
          {"step_seconds", s.step_seconds},
          {"rows", s.rows},
          {"prompt_tokens", s.prompt_tokens},
          {"generated_tokens", s.generated_tokens},
          {"prefix_queries", s.prefix_queries},
          {"prefix_hits", s.prefix_hits},
          {"preemptions", s.preemptions},
          {"drafted", s.drafted},
          {"accepted", s.accepted},
          {"finished", {s.finished[0], s.finished[1], s.finished[2], s.finished[3]}}};
}

}  // namespace

std::string ModelOf(std::string_view body) {
  ModelFinder finder;
  nlohmann::json::sax_parse(body.begin(), body.end(), &finder);
  return std::move(finder.found);
}

std::string JoinExpositions(const std::vector<std::string>& texts) {
  std::vector<std::string> order;
  std::map<std::string, std::pair<std::string, std::string>> families;  // its # lines, its samples
  for (const std::string& text : texts) {
    std::string* head = nullptr;
    std::string* samples = nullptr;
    for (size_t at = 0; at < text.size();) {
      const size_t end = std::min(text.find('\n', at), text.size() - 1);
      const std::string_view line = std::string_view(text).substr(at, end + 1 - at);
      at = end + 1;
      if (line.rfind("# HELP ", 0) == 0) {
        const std::string name(line.substr(7, line.find(' ', 7) - 7));
        const auto [it, fresh] = families.try_emplace(name);
        if (fresh) order.push_back(name);
        head = fresh ? &it->second.first : nullptr;
        samples = &it->second.second;
      }
      if (line.front() == '#') {
        if (head) head->append(line);
      } else if (samples) {
        samples->append(line);
      }
    }
  }
  std::string out;
  for (const std::string& name : order) out += families[name].first + families[name].second;
  return out;
}

bool ModelHub::AnswerHere(const net::HttpRequest& request, const std::shared_ptr<net::Exchange>& exchange) {
  const bool several = entries_.size() > 1;
  const std::string& path = request.path;
  const bool admin = path == "/admin" || path.rfind("/admin/", 0) == 0;
  HubAnswerer answer = nullptr;
  bool needs_key = false;
  std::string_view route = path;
  if (path == "/metrics") {
    answer = &ModelHub::MetricsText;
  } else if (admin) {
    answer = path == "/admin/state" ? &ModelHub::AdminState : &ModelHub::Page;
    if (path != "/admin/state" && path != "/admin") answer = nullptr;
    if (!answer) route = "other";
  } else if (several && path == "/health") {
    answer = &ModelHub::Health;
  } else if (several && path == "/version") {
    answer = &ModelHub::Version;
  } else if (several && request.method == "OPTIONS") {
    answer = &ModelHub::Version;  // any: it is not called
    route = "other";
  } else if (several &&
             (path == "/v1/models" || path == "/models" || path == "/beta/models" || path.rfind(kModelsPath, 0) == 0)) {
    answer = &ModelHub::Models;
    needs_key = true;
    if (path.rfind(kModelsPath, 0) == 0) route = kModelsPath;
  } else if (several && options_.page && FindPageFile(path)) {
    answer = &ModelHub::Page;
    route = "/";
  } else {
    return false;
  }
  const auto call = std::make_shared<Call>(context_, request, exchange, route, Server::DialectOf(path));
  try {
    if (admin && !options_.keys.has_admin()) throw Refused(404, "no such path: " + path.substr(0, 200), "unknown_url");
    if (!answer) throw Refused(404, "no such path: " + path.substr(0, 200), "unknown_url");
    if (request.method == "OPTIONS") {
      call->Send(AnswerPreflight(request, options_.cors_origin));
      return true;
    }
    const std::shared_ptr<KeyAccount> who = options_.keys.Find(request.headers);
    if (path == "/admin/state" && !(who && who->admin()))
      throw Refused(401, "an admin key is needed: Authorization: Bearer KEY", "invalid_api_key");
    if (needs_key && !who) throw NoKey();
    if (request.method != "GET") throw Refused(405, fmt::format("{} takes GET only", route), "method_not_allowed");
    call->Send((this->*answer)(request));
  } catch (const ApiError& e) {
    call->Fail(e);
  }
  return true;
}

void ModelHub::Refuse(const net::HttpRequest& request, std::shared_ptr<net::Exchange> exchange, const ApiError& error) {
  Call(context_, request, std::move(exchange), "other", Server::DialectOf(request.path)).Fail(error);
}

net::HttpResponse ModelHub::Models(const net::HttpRequest& request) {
  const std::string wanted =
      request.path.rfind(kModelsPath, 0) == 0 ? request.path.substr(kModelsPath.size()) : std::string();
  OrderedJson data = OrderedJson::array();
  const std::scoped_lock lock(mutex_);
  for (const auto& entry : entries_) {
    OrderedJson list = entry->description.empty() ? OrderedJson::array() : OrderedJson::parse(entry->description);
    if (list.empty()) {
      for (const std::string& name : entry->source.names)
        list.push_back({{"id", name},
                        {"object", "model"},
                        {"created", 0},
                        {"owned_by", "fathom"},
                        {"root", entry->source.names.front()},
                        {"parent", nullptr}});
    }
    for (OrderedJson& one : list) {
      one["state"] = Name(entry->state);
      if (!entry->error.empty()) one["error"] = entry->error;
      if (!wanted.empty() && one["id"] == wanted) return AsJson(one);
      data.push_back(std::move(one));
    }
  }
  if (!wanted.empty())
    throw Refused(404, fmt::format("The model `{}` does not exist here", wanted.substr(0, 200)), "model_not_found");
  return AsJson({{"object", "list"}, {"data", std::move(data)}});
}

net::HttpResponse ModelHub::Health(const net::HttpRequest&) {
  if (draining_) throw Draining();
  return AsJson({{"status", "ok"}});
}

net::HttpResponse ModelHub::Version(const net::HttpRequest&) { return AsJson({{"version", options_.version}}); }

net::HttpResponse ModelHub::Page(const net::HttpRequest& request) {
  return AnswerPage(request, *FindPageFile(request.path == "/admin" ? "/admin.html" : request.path));
}

net::HttpResponse ModelHub::MetricsText(const net::HttpRequest&) {
  std::vector<std::string> texts;
  for (const auto& model : Ready()) texts.push_back(model->api().MetricsExposition());
  texts.push_back(metrics_.ResponsesText());
  texts.push_back(OperationsMetrics());
  return {.headers = {{"Content-Type", "text/plain; version=0.0.4; charset=utf-8"}}, .body = JoinExpositions(texts)};
}

std::string ModelHub::OperationsMetrics() const {
  std::string out;
  const auto head = [&](std::string_view name, std::string_view type, std::string_view help) {
    out += fmt::format("# HELP fathom:{} {}\n# TYPE fathom:{} {}\n", name, help, name, type);
  };
  const auto single = [&](std::string_view name, std::string_view type, std::string_view help, int64_t value) {
    head(name, type, help);
    out += fmt::format("fathom:{} {}\n", name, value);
  };
  const std::vector<View> views = Look();
  head("model_state", "gauge", "1 for the state that a model is in.");
  for (const View& v : views) {
    for (int s = 0; s <= static_cast<int>(ModelState::kFailed); ++s) {
      const auto state = static_cast<ModelState>(s);
      out += fmt::format("fathom:model_state{{model_name={},state=\"{}\"}} {}\n", Quoted(v.names.front()), Name(state),
                         v.state == state ? 1 : 0);
    }
  }
  head("model_bytes", "gauge", "Memory of a model that is loaded.");
  for (const View& v : views)
    out += fmt::format("fathom:model_bytes{{model_name={}}} {}\n", Quoted(v.names.front()), v.bytes);
  head("model_loads_total", "counter", "Times that a model was loaded.");
  for (const View& v : views)
    out += fmt::format("fathom:model_loads_total{{model_name={}}} {}\n", Quoted(v.names.front()), v.loads);
  head("model_requests_parked", "gauge", "Requests that wait for a model to be loaded.");
  for (const View& v : views)
    out += fmt::format("fathom:model_requests_parked{{model_name={}}} {}\n", Quoted(v.names.front()), v.waiting);
  {
    const std::scoped_lock lock(mutex_);
    single("model_evictions_total", "counter", "Models unloaded to make room for others.", evictions_);
    single("model_load_failures_total", "counter", "Loads of models that failed.", failures_);
  }
  head("key_requests_refused_total", "counter", "Requests over a limit of their key.");
  for (const KeyAccount::State& k : options_.keys.Look())
    out += fmt::format("fathom:key_requests_refused_total{{key={}}} {}\n", Quoted(k.name), k.refused);
  if (options_.usage) {
    const UsageLedger::State s = options_.usage->Look();
    single("usage_accounting_up", "gauge", "1 if usage is being written to its file, or kept in memory by choice.",
           s.up ? 1 : 0);
    single("usage_write_failures_total", "counter", "Writes of usage that failed.", s.failures);
    single("usage_rows_waiting", "gauge", "Sums of usage that are not yet in the file.", s.waiting);
  }
  return out;
}

net::HttpResponse ModelHub::AdminState(const net::HttpRequest&) {
  OrderedJson models = OrderedJson::array();
  std::map<std::string, std::shared_ptr<HostedModel>> ready;
  {
    const std::scoped_lock lock(mutex_);
    for (const auto& e : entries_) {
      if (e->state == ModelState::kReady) ready[e->source.names.front()] = e->hosted;
    }
  }
  for (const View& v : Look()) {
    OrderedJson m = {{"names", v.names}, {"state", Name(v.state)}, {"error", v.error}, {"pinned", v.pinned},
                     {"bytes", v.bytes}, {"waiting", v.waiting},   {"loads", v.loads}};
    if (const auto it = ready.find(v.names.front()); it != ready.end()) {
      const engine::Engine& engine = it->second->engine();
      m["stats"] = OfStats(it->second->thread().stats());
      m["max_running"] = engine.options().max_running;
      m["max_context"] = engine.options().max_context;
      m["cache_bytes"] = engine.cache_bytes();
      m["experts"] = engine.ExpertLoad();
    }
    models.push_back(std::move(m));
  }
  OrderedJson keys = OrderedJson::array();
  std::map<std::string, OrderedJson> used;
  if (options_.usage) {
    for (const UsageRow& row : options_.usage->Since()) {
      OrderedJson one = OfSums(row.sums);
      one["model"] = row.model;
      used[row.key].push_back(std::move(one));
    }
  }
  for (const KeyAccount::State& k : options_.keys.Look()) {
    keys.push_back({{"name", k.name},
                    {"running", k.running},
                    {"refused", k.refused},
                    {"requests_per_minute", k.limits.requests_per_minute},
                    {"tokens_per_minute", k.limits.tokens_per_minute},
                    {"concurrent", k.limits.concurrent},
                    {"requests_left", k.requests_left},
                    {"tokens_left", k.tokens_left},
                    {"usage", used.count(k.name) > 0 ? used[k.name] : OrderedJson::array()}});
    used.erase(k.name);
  }
  for (auto& [name, usage] : used) keys.push_back({{"name", name}, {"gone", true}, {"usage", std::move(usage)}});
  OrderedJson state = {{"version", options_.version},
                       {"uptime", std::chrono::duration<double>(std::chrono::steady_clock::now() - started_).count()},
                       {"draining", draining_.load()},
                       {"resident_bytes", ResidentBytes()},
                       {"memory_limit", options_.memory_bytes},
                       {"models", std::move(models)},
                       {"keys", std::move(keys)}};
  if (options_.usage) {
    const UsageLedger::State s = options_.usage->Look();
    state["accounting"] = {{"kept", s.kept}, {"up", s.up}, {"failures", s.failures}, {"error", s.error}};
  }
  return AsJson(state);
}

}  // namespace fathom::server
