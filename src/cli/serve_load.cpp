#include "cli/serve_load.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <future>
#include <memory>
#include <mutex>
#include <optional>
#include <unordered_map>

#include "net/sse.h"

namespace fathom::cli {
namespace {

using Clock = std::chrono::steady_clock;
using nlohmann::json;

constexpr size_t kMaxErrorBody = 4 << 10;

double Between(Clock::time_point a, Clock::time_point b) { return std::chrono::duration<double>(b - a).count(); }

// "message" of {"error": {"message": ...}}, of FastAPI's {"detail": ...}, or the text itself.
std::string ErrorText(const std::string& body) {
  const json j = json::parse(body, nullptr, /*allow_exceptions=*/false);
  if (j.is_object()) {
    for (const char* key : {"error", "message", "detail"}) {
      if (!j.contains(key)) continue;
      const json& value = j[key];
      if (value.is_string()) return value.get<std::string>();
      if (value.is_object() && value.contains("message") && value["message"].is_string()) {
        return value["message"].get<std::string>();
      }
    }
  }
  return body.substr(0, 200);
}

int64_t Count(const json& object, const char* key) {
  return object.is_object() && object.contains(key) && object[key].is_number() ? object[key].get<int64_t>() : -1;
}

// One answer as it comes. Everything but its making is on the client's thread.
class Answer {
 public:
  Answer(int64_t index, std::function<void(RequestRecord)> on_end) : on_end_(std::move(on_end)) {
    record_.index = index;
  }
  void SetStart(Clock::time_point begin, double late) {
    sent_ = Clock::now();
    record_.start = Between(begin, sent_);
    record_.late = late;
  }

  static net::ClientListener Listener(std::shared_ptr<Answer> a) {
    return {.on_head = [a](int status, const net::Headers& headers) { a->OnHead(status, headers); },
            .on_body = [a](std::string_view bytes, Clock::time_point arrival) { a->OnBody(bytes, arrival); },
            .on_done = [a](const net::ClientResult& result) { a->OnDone(result); }};
  }

 private:
  void OnHead(int status, const net::Headers& headers) {
    if (status != 200) {
      Fail(fmt::format("http_{}", status), "");
    } else if (net::Find(headers, "Content-Type").find("text/event-stream") == std::string_view::npos) {
      Fail("stream", "the answer is no stream of events");
    }
  }
  void OnBody(std::string_view bytes, Clock::time_point arrival) {
    if (!record_.ok()) {
      if (body_.size() < kMaxErrorBody) body_ += bytes;
      return;
    }
    const double seconds = Between(sent_, arrival);
    if (!parser_.Feed(bytes, [&](const net::SseEvent& event) { OnEvent(event.data, seconds); })) {
      Fail("stream", "an event is too large");
    }
  }
  void OnEvent(const std::string& data, double seconds) {
    if (!record_.ok() || finished_) return;
    if (data == "[DONE]") {
      finished_ = true;
      return;
    }
    const json j = json::parse(data, nullptr, /*allow_exceptions=*/false);
    if (!j.is_object()) return Fail("stream", "not JSON: " + data.substr(0, 80));
    if (j.contains("error")) return Fail("stream", ErrorText(data));
    if (j.contains("usage")) OnUsage(j["usage"]);
    if (!j.contains("choices") || !j["choices"].is_array() || j["choices"].empty()) return;
    const json& choice = j["choices"][0];
    if (!choice.is_object()) return;
    if (HasText(choice)) {
      ++record_.chunks;
      if (record_.arrivals.empty() || record_.arrivals.back().seconds != seconds) {
        record_.arrivals.push_back({seconds, 0});
      }
      ++record_.arrivals.back().chunks;
    }
    if (choice.contains("finish_reason") && choice["finish_reason"].is_string()) {
      record_.finish_reason = choice["finish_reason"].get<std::string>();
    }
  }
  static bool HasText(const json& choice) {
    const auto filled = [](const json& object, const char* key) {
      return object.contains(key) && object[key].is_string() && !object[key].get_ref<const std::string&>().empty();
    };
    if (filled(choice, "text")) return true;
    if (!choice.contains("delta") || !choice["delta"].is_object()) return false;
    const json& delta = choice["delta"];
    return filled(delta, "content") || filled(delta, "reasoning_content") || filled(delta, "reasoning");
  }
  void OnUsage(const json& usage) {
    if (!usage.is_object()) return;
    record_.prompt_tokens = Count(usage, "prompt_tokens");
    record_.completion_tokens = Count(usage, "completion_tokens");
    record_.cached_tokens = Count(usage, "prompt_cache_hit_tokens");  // DeepSeek's name, then OpenAI's
    if (record_.cached_tokens < 0 && usage.contains("prompt_tokens_details")) {
      record_.cached_tokens = Count(usage["prompt_tokens_details"], "cached_tokens");
    }
    if (usage.contains("completion_tokens_details")) {
      record_.accepted_drafts = Count(usage["completion_tokens_details"], "accepted_prediction_tokens");
      record_.rejected_drafts = Count(usage["completion_tokens_details"], "rejected_prediction_tokens");
    }
  }
  void OnDone(const net::ClientResult& result) {
    record_.seconds = Between(sent_, Clock::now());
    if (result.error != net::ClientError::kNone) {
      Fail(net::Name(result.error), result.message);
    } else if (!record_.ok() && record_.message.empty()) {
      record_.message = ErrorText(body_);
    } else if (record_.ok() && !finished_ && record_.finish_reason.empty()) {
      Fail("stream", "it ended without an end");
    }
    on_end_(std::move(record_));
  }
  void Fail(std::string kind, std::string message) {
    if (!record_.ok()) return;
    record_.error = std::move(kind);
    record_.message = std::move(message);
  }

  const std::function<void(RequestRecord)> on_end_;
  Clock::time_point sent_;
  RequestRecord record_;
  net::SseParser parser_;
  std::string body_;  // of an error
  bool finished_ = false;
};

net::Headers Authorization(const Endpoint& e) {
  net::Headers headers;
  if (!e.api_key.empty()) headers.emplace_back("Authorization", "Bearer " + e.api_key);
  return headers;
}

}  // namespace

double RequestRecord::seconds_per_token() const {
  const int64_t first = arrivals.empty() ? 0 : arrivals.front().chunks;
  if (chunks <= first) return 0;
  const double per_chunk = static_cast<double>(output_tokens()) / static_cast<double>(chunks);
  return (arrivals.back().seconds - arrivals.front().seconds) / (static_cast<double>(chunks - first) * per_chunk);
}

net::ClientRequest Endpoint::Get(const std::string& path) const {
  net::ClientRequest r;
  r.url = base;
  r.url.target += path;
  r.headers = Authorization(*this);
  r.seconds = seconds;
  return r;
}

net::ClientRequest Endpoint::Completion(const nlohmann::ordered_json& prompt, int64_t output_tokens) const {
  net::ClientRequest r = Get(chat ? "/chat/completions" : "/completions");
  r.method = "POST";
  r.headers.emplace_back("Content-Type", "application/json");
  r.headers.emplace_back("Accept", "text/event-stream");
  nlohmann::ordered_json body = {{"model", model}};
  if (chat) {
    body["messages"] = {{{"role", "user"}, {"content", prompt}}};
  } else {
    body["prompt"] = prompt;
  }
  body["max_tokens"] = output_tokens;
  body["temperature"] = temperature;
  body["stream"] = true;
  body["stream_options"] = {{"include_usage", true}};
  if (ignore_eos) body["ignore_eos"] = true;
  if (extra.is_object()) body.update(extra);
  r.body = body.dump();
  return r;
}

RequestRecord SendOne(net::HttpClient& client, const Endpoint& endpoint, const nlohmann::ordered_json& prompt,
                      int64_t output_tokens) {
  const auto promise = std::make_shared<std::promise<RequestRecord>>();
  const auto answer =
      std::make_shared<Answer>(0, [promise](RequestRecord record) { promise->set_value(std::move(record)); });
  answer->SetStart(Clock::now(), 0);
  client.Start(endpoint.Completion(prompt, output_tokens), Answer::Listener(answer));
  return promise->get_future().get();
}

LoadResult RunLoad(net::HttpClient& client, const Endpoint& endpoint, const PromptMaker& prompts,
                   const std::vector<PlannedRequest>& plan, int64_t concurrency,
                   const std::function<bool(const LoadProgress&)>& on_progress) {
  struct Shared {
    std::mutex mutex;
    std::condition_variable ended;
    LoadResult result;
    LoadProgress progress;
    bool stopped = false;
    std::unordered_map<int64_t, uint64_t> running;  // plan's index -> the client's id
  };
  const auto shared = std::make_shared<Shared>();
  Shared& s = *shared;
  s.progress.total = static_cast<int64_t>(plan.size());
  const Clock::time_point begin = Clock::now();
  const auto on_end = [shared, begin](RequestRecord record) {
    std::lock_guard lock(shared->mutex);
    LoadProgress& p = shared->progress;
    --p.running;
    shared->running.erase(record.index);
    if (!shared->stopped) {
      ++p.done;
      p.failed += record.ok() ? 0 : 1;
      p.output_tokens += record.output_tokens();
      shared->result.seconds = Between(begin, Clock::now());
      shared->result.requests.push_back(std::move(record));
    }
    shared->ended.notify_all();
  };

  size_t next = 0;
  std::optional<net::ClientRequest> prepared;  // of plan[next]: making it must not delay it
  Clock::time_point asked = begin;
  std::unique_lock lock(s.mutex);
  while (next < plan.size() || s.progress.running > 0) {
    const Clock::time_point now = Clock::now();
    if (Between(asked, now) >= 0.1) {
      asked = now;
      s.progress.seconds = Between(begin, now);
      const LoadProgress seen = s.progress;
      lock.unlock();
      const bool go_on = on_progress(seen);
      lock.lock();
      if (!go_on) break;
    }
    if (next < plan.size() && !prepared) {
      lock.unlock();
      prepared = endpoint.Completion(prompts.Make(plan[next].pieces), plan[next].output_tokens);
      lock.lock();
    }
    const bool room = concurrency == 0 || s.progress.running < concurrency;
    const double wait = next < plan.size() && room ? plan[next].arrival - Between(begin, Clock::now()) : 1;
    if (wait > 0) {
      s.ended.wait_for(lock, std::chrono::duration<double>(std::min(wait, 0.1)));
      continue;
    }
    const int64_t index = static_cast<int64_t>(next++);
    ++s.progress.running;
    const auto answer = std::make_shared<Answer>(index, on_end);
    answer->SetStart(begin, -wait);
    // Under the lock, so that its end is not met before its id is known.
    s.running[index] = client.Start(*std::exchange(prepared, std::nullopt), Answer::Listener(answer));
  }
  s.stopped = true;
  for (const auto& [index, id] : s.running) client.Cancel(id);
  s.ended.wait(lock, [&] { return s.progress.running == 0; });
  return std::move(s.result);
}

}  // namespace fathom::cli
