#include "server/metrics.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>

#include "core/machine.h"

namespace fathom::server {
namespace {

// vLLM's bounds; finer ones below, because small models answer faster than any of those.
std::vector<double> FirstTokenBounds() {
  return {0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75,
          1,     2.5,   5,    7.5,  10,   20,   40,   80,  160,  640, 2560};
}
std::vector<double> InterTokenBounds() {
  return {0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2,
          0.3,    0.4,     0.5,    0.75,  1,      2.5,   5,    7.5,   10,   20,    40,  80};
}
std::vector<double> RequestBounds() {
  return {0.005, 0.01, 0.025, 0.05, 0.1, 0.3, 0.5, 0.8, 1,   1.5, 2,   2.5,  5,
          10,    15,   20,    30,   40,  50,  60,  120, 240, 480, 960, 1920, 7680};
}
std::vector<double> TokenBounds() {
  std::vector<double> bounds;
  for (double decade = 1; decade <= 100'000; decade *= 10) {
    for (double step : {1.0, 2.0, 5.0}) bounds.push_back(decade * step);
  }
  return bounds;
}

// A label's value: \ " and line ends escaped.
std::string Escape(std::string_view text) {
  std::string out;
  for (char c : text) {
    if (c == '\n') {
      out += "\\n";
    } else {
      if (c == '\\' || c == '"') out += '\\';
      out += c;
    }
  }
  return out;
}

class Writer {
 public:
  Writer(std::string& out, std::string_view labels) : out_(out), labels_(labels) {}

  void Head(std::string_view name, std::string_view type, std::string_view help) {
    fmt::format_to(std::back_inserter(out_), "# HELP fathom:{} {}\n# TYPE fathom:{} {}\n", name, help, name, type);
  }
  void Value(std::string_view name, double value, std::string_view more = "") {
    fmt::format_to(std::back_inserter(out_), "fathom:{}{{{}{}}} {}\n", name, labels_, more, value);
  }
  void Gauge(std::string_view name, double value, std::string_view help) {
    Head(name, "gauge", help);
    Value(name, value);
  }
  void Counter(std::string_view name, double value, std::string_view help) {
    Head(name, "counter", help);
    Value(name, value);
  }

 private:
  std::string& out_;
  std::string_view labels_;
};

}  // namespace

Histogram::Histogram(std::vector<double> bounds)
    : bounds_(std::move(bounds)), counts_(std::make_unique<std::atomic<uint64_t>[]>(bounds_.size() + 1)) {}

void Histogram::Observe(double value) {
  const auto bucket = std::lower_bound(bounds_.begin(), bounds_.end(), value) - bounds_.begin();
  counts_[static_cast<size_t>(bucket)].fetch_add(1, std::memory_order_relaxed);
  sum_.fetch_add(value, std::memory_order_relaxed);
}

void Histogram::Append(std::string& out, std::string_view name, std::string_view help, std::string_view labels) const {
  fmt::format_to(std::back_inserter(out), "# HELP fathom:{} {}\n# TYPE fathom:{} histogram\n", name, help, name);
  uint64_t count = 0;
  for (size_t i = 0; i <= bounds_.size(); ++i) {
    count += counts_[i].load(std::memory_order_relaxed);
    const std::string bound = i < bounds_.size() ? fmt::format("{}", bounds_[i]) : "+Inf";
    fmt::format_to(std::back_inserter(out), "fathom:{}_bucket{{{},le=\"{}\"}} {}\n", name, labels, bound, count);
  }
  fmt::format_to(std::back_inserter(out), "fathom:{}_sum{{{}}} {}\nfathom:{}_count{{{}}} {}\n", name, labels,
                 sum_.load(std::memory_order_relaxed), name, labels, count);
}

Metrics::Metrics(std::string model_name)
    : first_token(FirstTokenBounds()),
      inter_token(InterTokenBounds()),
      end_to_end(RequestBounds()),
      queue(RequestBounds()),
      prefill(RequestBounds()),
      decode(RequestBounds()),
      prompt_tokens(TokenBounds()),
      generation_tokens(TokenBounds()),
      labels_(fmt::format("model_name=\"{}\"", Escape(model_name))) {}

void Metrics::CountResponse(std::string_view route, std::string_view method, int status) {
  const std::scoped_lock lock(mutex_);
  ++responses_[{std::string(route), std::string(method), status}];
}

std::string Metrics::ResponsesText() const {
  std::string out;
  Writer w(out, labels_);
  w.Head("http_responses_total", "counter", "Responses by route, method and status.");
  const std::scoped_lock lock(mutex_);
  for (const auto& [key, count] : responses_) {
    w.Value("http_responses_total", static_cast<double>(count),
            fmt::format(",route=\"{}\",method=\"{}\",status=\"{}\"", Escape(std::get<0>(key)), Escape(std::get<1>(key)),
                        std::get<2>(key)));
  }
  return out;
}

std::string Metrics::Text(const engine::EngineStats& s, const engine::EngineOptions& o, int64_t cache_bytes) const {
  std::string out;
  Writer w(out, labels_);
  const auto number = [](int64_t v) { return static_cast<double>(v); };
  w.Gauge("num_requests_running", number(s.running), "Requests in the steps of the engine.");
  w.Gauge("num_requests_waiting", number(s.waiting), "Requests that wait.");
  w.Gauge("kv_cache_usage_perc", s.blocks > 0 ? number(s.blocks_used) / number(s.blocks) : 0,
          "Share of the cache's blocks that requests use; 1 is all.");
  w.Gauge("kv_cache_blocks", number(s.blocks), "Blocks of the cache.");
  w.Gauge("kv_cache_blocks_reusable", number(s.blocks_cached),
          "Blocks kept for prompts that begin alike, used by none.");
  w.Gauge("kv_cache_bytes", number(cache_bytes), "Memory of the cache.");
  w.Gauge("max_running_requests", number(o.max_running), "Requests that a step can hold.");
  w.Counter("prefix_cache_queries_total", number(s.prefix_queries), "Tokens of prompts that were looked up.");
  w.Counter("prefix_cache_hits_total", number(s.prefix_hits), "Tokens of prompts that were found.");
  w.Counter("prompt_tokens_total", number(s.prompt_tokens), "Tokens of prompts that were computed.");
  w.Counter("generation_tokens_total", number(s.generated_tokens), "Tokens of answers.");
  w.Counter("num_preemptions_total", number(s.preemptions), "Requests set back because the cache was full.");
  w.Counter("spec_decode_num_draft_tokens_total", number(s.drafted), "Tokens that the MTP modules drafted.");
  w.Counter("spec_decode_num_accepted_tokens_total", number(s.accepted), "Drafted tokens that were kept.");
  w.Counter("engine_steps_total", number(s.steps), "Steps of the engine.");
  w.Counter("engine_step_rows_total", number(s.rows), "Rows of all steps.");
  w.Counter("engine_step_seconds_total", s.step_seconds, "Time in steps.");
  if (o.block_store) {
    const cache::StoreStats d = o.block_store->stats();
    w.Gauge("disk_cache_writable", d.writable ? 1 : 0, "0 while nothing can be stored.");
    w.Gauge("disk_cache_blocks", number(d.blocks), "Blocks on the disk.");
    w.Gauge("disk_cache_bytes", number(d.bytes), "Their size.");
    w.Gauge("disk_cache_limit_bytes", number(d.limit_bytes), "The most there may be.");
    w.Gauge("disk_cache_queued_bytes", number(d.queued_bytes), "Waiting to be written.");
    w.Counter("disk_cache_queries_total", number(s.disk_queries),
              "Tokens of prompts that were not in memory and looked up on the disk.");
    w.Counter("disk_cache_hits_total", number(s.disk_hits), "Tokens of prompts that came from the disk.");
    w.Counter("disk_cache_misses_total", number(s.disk_queries - s.disk_hits), "Tokens of prompts that did not.");
    w.Counter("disk_cache_given_up_total", number(s.disk_late), "Loads that took longer than computing.");
    w.Counter("disk_cache_read_bytes_total", number(d.loaded_bytes), "Bytes of blocks that were read.");
    w.Counter("disk_cache_read_seconds_total", d.load_seconds, "Time in reading them.");
    w.Counter("disk_cache_written_bytes_total", number(d.stored_bytes), "Bytes of blocks that were written.");
    w.Counter("disk_cache_written_seconds_total", d.store_seconds, "Time in writing them.");
    w.Counter("disk_cache_evicted_blocks_total", number(d.evicted), "Blocks that made room for others.");
    w.Counter("disk_cache_dropped_blocks_total", number(d.dropped),
              "Blocks that were not stored: the queue was full, or nothing could be written.");
    w.Counter("disk_cache_damaged_blocks_total", number(d.damaged), "Blocks that were damaged, and not used.");
    w.Head("disk_cache_errors_total", "counter", "Operations that the system refused.");
    w.Value("disk_cache_errors_total", number(d.read_errors), ",operation=\"read\"");
    w.Value("disk_cache_errors_total", number(d.write_errors), ",operation=\"write\"");
  }
  w.Head("request_success_total", "counter", "Requests that ended, by their reason.");
  static constexpr const char* kReasons[] = {"stop", "length", "abort", "error"};
  for (size_t i = 0; i < std::size(kReasons); ++i) {
    w.Value("request_success_total", number(s.finished[i]), fmt::format(",finished_reason=\"{}\"", kReasons[i]));
  }
  first_token.Append(out, "time_to_first_token_seconds", "From a request's arrival to its first token.", labels_);
  inter_token.Append(out, "inter_token_latency_seconds", "Between two tokens of an answer.", labels_);
  end_to_end.Append(out, "e2e_request_latency_seconds", "From a request's arrival to its last token.", labels_);
  queue.Append(out, "request_queue_time_seconds", "Before a request was first in a step.", labels_);
  prefill.Append(out, "request_prefill_time_seconds", "From there to the first token.", labels_);
  decode.Append(out, "request_decode_time_seconds", "From the first token to the last.", labels_);
  prompt_tokens.Append(out, "request_prompt_tokens", "Tokens of a prompt.", labels_);
  generation_tokens.Append(out, "request_generation_tokens", "Tokens of an answer.", labels_);
  out += ResponsesText();
  out += fmt::format(
      "# HELP process_resident_memory_bytes Resident memory size in bytes.\n"
      "# TYPE process_resident_memory_bytes gauge\nprocess_resident_memory_bytes {}\n",
      ResidentBytes());
  return out;
}

}  // namespace fathom::server
