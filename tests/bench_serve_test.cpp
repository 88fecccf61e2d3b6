// fathom bench serve against a small server of known speed: what it sends, what it measures, and what it says of
// faults.
#include <gtest/gtest.h>

#include <CLI/CLI.hpp>
#include <cmath>
#include <condition_variable>
#include <filesystem>
#include <fstream>
#include <map>
#include <mutex>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "cli/bench_serve.h"
#include "cli/serve_figures.h"
#include "cli/serve_trace.h"
#include "net/http_server.h"
#include "net/sse.h"

namespace fathom::cli {
namespace {

using nlohmann::json;
using Clock = std::chrono::steady_clock;

// An OpenAI server that answers each request on a thread of its own: waits, then sends chunks in even steps.
class FakeServer {
 public:
  double first_seconds = 0.05, step_seconds = 0.02;
  int tokens_per_chunk = 1;
  bool usage = true, models = true, cached = false;
  int vocab_size = 0;
  std::string key;
  std::function<int(int64_t index)> status = [](int64_t) { return 200; };
  std::function<bool(int64_t index)> breaks = [](int64_t) { return false; };

  FakeServer()
      : server_(
            [] {
              net::HttpServerOptions options;
              options.port = 0;
              return options;
            }(),
            [this](net::HttpRequest r, std::shared_ptr<net::Exchange> e) { Handle(std::move(r), std::move(e)); }) {
    server_.Start();
  }
  ~FakeServer() {
    for (std::thread& t : threads_) t.join();
  }
  std::string url() const { return "http://127.0.0.1:" + std::to_string(server_.port()); }

  struct Seen {
    json body;
    double seconds;
    int64_t open;  // with this one
  };
  std::vector<Seen> seen() {  // without the two that calibrate
    std::lock_guard lock(mutex_);
    return {seen_.begin() + 2, seen_.end()};
  }

 private:
  static json Error(const std::string& message) { return {{"error", {{"message", message}}}}; }
  static net::HttpResponse Json(int code, const json& body) {
    return {.status = code, .headers = {{"Content-Type", "application/json"}}, .body = body.dump()};
  }
  // A word is two tokens, and three stand before the prompt; ids are tokens.
  static int64_t PromptTokens(const json& prompt) {
    if (prompt.is_array()) return static_cast<int64_t>(prompt.size());
    const std::string text = prompt.get<std::string>();
    return 3 + 2 * std::count(text.begin(), text.end(), ' ');
  }
  void Handle(net::HttpRequest request, std::shared_ptr<net::Exchange> exchange) {
    if (!key.empty() && net::Find(request.headers, "Authorization") != "Bearer " + key) {
      return exchange->Send(Json(401, Error("a key is needed")));
    }
    if (request.path == "/v1/models") {
      if (!models) return exchange->Send(Json(404, Error("no list")));
      json model = {{"id", "fake-1"}, {"max_model_len", 4000}};
      if (vocab_size > 0) model["meta"] = {{"n_vocab", vocab_size}};
      return exchange->Send(Json(200, {{"data", {model}}}));
    }
    const bool chat = request.path == "/v1/chat/completions";
    if (!chat && request.path != "/v1/completions") return exchange->Send(Json(404, Error("no such path")));
    std::lock_guard lock(mutex_);
    const int64_t index = static_cast<int64_t>(seen_.size()) - 2;
    const json body = json::parse(request.body);
    seen_.push_back({body, std::chrono::duration<double>(Clock::now() - begin_).count(), ++open_});
    threads_.emplace_back([this, body, chat, index, e = std::move(exchange)] { Answer(body, chat, index, e); });
  }
  void Answer(const json& body, bool chat, int64_t index, const std::shared_ptr<net::Exchange>& e) {
    const auto begin = Clock::now();
    const int code = index < 0 ? 200 : status(index);
    if (code != 200) {
      --open_;
      return e->Send(Json(code, Error("this one fails")));
    }
    const auto event = [](const json& j) {
      std::string text;
      net::AppendSse(text, j.dump());
      return text;
    };
    e->Begin({.status = 200, .headers = {{"Content-Type", "text/event-stream; charset=utf-8"}}, .body = ""});
    if (chat) e->Write(event({{"choices", {{{"delta", {{"role", "assistant"}, {"content", ""}}}}}}}));
    const int64_t tokens = body["max_tokens"].get<int64_t>();
    for (int64_t sent = 0; sent < tokens; sent += tokens_per_chunk) {
      const double due = first_seconds + step_seconds * static_cast<double>(sent / tokens_per_chunk);
      std::this_thread::sleep_until(begin + std::chrono::duration<double>(index < 0 ? 0 : due));
      if (index >= 0 && breaks(index) && sent >= tokens / 2) {
        --open_;
        return;  // drops the exchange: the connection breaks
      }
      const json text = chat ? json{{"delta", {{"content", "x"}}}} : json{{"text", "x"}};
      e->Write(event({{"choices", {text}}, {"usage", nullptr}}));
    }
    json end = {{"finish_reason", "length"}, {"text", ""}, {"delta", json::object()}};
    e->Write(event({{"choices", {end}}}));
    if (usage && body["stream_options"]["include_usage"] == true) {
      const json& prompt = chat ? body["messages"][0]["content"] : body["prompt"];
      json u = {{"prompt_tokens", PromptTokens(prompt)}, {"completion_tokens", tokens}};
      if (cached) u["prompt_tokens_details"] = {{"cached_tokens", 5}};
      e->Write(event({{"choices", json::array()}, {"usage", u}}));
    }
    --open_;
    std::string last;
    net::AppendSse(last, "[DONE]");
    e->Write(last);
    e->End();
  }

  std::mutex mutex_;
  std::vector<Seen> seen_;
  std::vector<std::thread> threads_;
  std::atomic<int64_t> open_ = 0;
  Clock::time_point begin_ = Clock::now();
  net::HttpServer server_;
};

struct Outcome {
  int exit_code = 0;
  std::string output;
  json figures;
};

Outcome Bench(const std::string& arguments) {
  CLI::App app;
  Outcome outcome;
  AddBenchServe(app, outcome.exit_code);
  testing::internal::CaptureStdout();
  try {
    app.parse("serve " + arguments);
  } catch (...) {
    testing::internal::GetCapturedStdout();
    throw;
  }
  outcome.output = testing::internal::GetCapturedStdout();
  outcome.figures = json::parse(outcome.output, nullptr, /*allow_exceptions=*/false);
  return outcome;
}

std::string TestFile(const std::string& name, const std::string& text) {
  const std::string path = testing::TempDir() + "bench-serve-" + name;
  std::ofstream(path) << text;
  return path;
}

// A machine that is busy makes everything later, never earlier.
TEST(BenchServe, LatenciesOfAServerOfKnownSpeed) {
  FakeServer server;
  const Outcome o = Bench(server.url() + " --num-prompts 6 --concurrency 2 --input-len 43 --output-len 10 --json");
  EXPECT_EQ(o.exit_code, 0);
  const json& j = o.figures;
  ASSERT_TRUE(j.is_object()) << o.output;
  EXPECT_EQ(j["model_id"], "fake-1");
  EXPECT_EQ(j["completed"], 6);
  EXPECT_EQ(j["failed"], 0);
  EXPECT_EQ(j["total_output_tokens"], 60);
  EXPECT_EQ(j["total_input_tokens"], 6 * 43);  // twenty words of two tokens, and three
  EXPECT_EQ(j["tokens_per_word"], 2.0);
  EXPECT_EQ(j["token_counts"], "usage");
  const auto ms = [&](const char* name) { return j[name].get<double>(); };
  EXPECT_GE(ms("median_ttft_ms"), 50);
  EXPECT_LE(ms("median_ttft_ms"), 50 + 500);
  // Tokens come at their own times: a late first one leaves less time to the others, and on a busy machine the second
  // may come with it.
  EXPECT_GE(ms("mean_ttft_ms") + 9 * ms("mean_tpot_ms"), 50 + 9 * 20 - 1);
  EXPECT_NEAR(ms("mean_itl_ms"), ms("mean_tpot_ms"), 0.1 * ms("mean_tpot_ms"));
  EXPECT_NEAR(ms("mean_e2el_ms"), ms("mean_ttft_ms") + 9 * ms("mean_tpot_ms"), 300);
  EXPECT_GE(ms("p99_e2el_ms"), ms("median_e2el_ms"));
  const double seconds = j["duration"].get<double>();
  EXPECT_GE(seconds, 3 * 0.229);  // three rounds of two
  EXPECT_NEAR(j["output_throughput"].get<double>(), 60 / seconds, 1e-6);
  EXPECT_NEAR(j["request_throughput"].get<double>(), 6 / seconds, 1e-6);
  const auto seen = server.seen();
  ASSERT_EQ(seen.size(), 6u);
  std::set<std::string> prompts;
  for (const auto& s : seen) {
    EXPECT_LE(s.open, 2);
    EXPECT_EQ(s.body["model"], "fake-1");
    EXPECT_EQ(s.body["ignore_eos"], true);
    EXPECT_EQ(s.body["max_tokens"], 10);
    EXPECT_EQ(s.body["stream"], true);
    prompts.insert(s.body["prompt"].get<std::string>());
  }
  EXPECT_EQ(prompts.size(), 6u);  // no two alike
}

TEST(BenchServe, ASeedRepeatsItsPrompts) {
  FakeServer server;
  server.step_seconds = 0;
  for (const char* seed : {"--seed 1", "--seed 1", "--seed 2", "", ""}) {
    EXPECT_EQ(Bench(server.url() + " --num-prompts 1 --input-len 99 --output-len 1 --json " + seed).exit_code, 0);
  }
  std::vector<std::string> prompts;
  for (const auto& s : server.seen()) prompts.push_back(s.body["prompt"].get<std::string>());
  // Each run: two that calibrate (the first two are not here), one that is measured.
  ASSERT_EQ(prompts.size(), 13u);
  EXPECT_EQ(prompts[0], prompts[3]);
  EXPECT_NE(prompts[0], prompts[6]);
  EXPECT_NE(prompts[9], prompts[12]);
}

// Four tokens a chunk: a gap of 20 ms is 5 ms a token, whatever the number of chunks.
TEST(BenchServe, ChunksOfSeveralTokens) {
  FakeServer server;
  server.tokens_per_chunk = 4;
  const Outcome o = Bench(server.url() + " --api chat --num-prompts 2 --output-len 40 --json --details --input-len 20");
  EXPECT_EQ(o.figures["total_output_tokens"], 80);
  const auto ms = [&](const char* name) { return o.figures[name].get<double>(); };
  EXPECT_NEAR(ms("mean_itl_ms"), ms("mean_tpot_ms"), 0.1 * ms("mean_tpot_ms"));
  // The wrong division would give four times as much, 720 ms and more.
  EXPECT_NEAR(36 * ms("mean_itl_ms"), ms("mean_e2el_ms") - ms("mean_ttft_ms"), 300);
  ASSERT_EQ(o.figures["requests"].size(), 2u);
  EXPECT_EQ(o.figures["requests"][0]["chunks"], 10);
  EXPECT_EQ(server.seen()[0].body["messages"][0]["role"], "user");
}

TEST(BenchServe, WithoutUsageChunksAreCounted) {
  FakeServer server;
  server.usage = false;
  const Outcome o = Bench(server.url() + " --num-prompts 2 --output-len 5 --json");
  EXPECT_EQ(o.figures["token_counts"], "chunks");
  EXPECT_EQ(o.figures["total_output_tokens"], 10);
}

TEST(BenchServe, ARateAndGoodput) {
  FakeServer server;
  server.first_seconds = 0.01;
  server.step_seconds = 0.001;
  const Outcome o = Bench(server.url() +
                          " --num-prompts 60 --request-rate 100 --output-len 3 --goodput ttft:60000,e2el:60000 --json");
  EXPECT_EQ(o.figures["completed"], 60);
  const auto seen = server.seen();
  ASSERT_EQ(seen.size(), 60u);
  // 59 gaps of a Poisson process: their sum has mean 0.6 s, standard deviation 0.08 s; later on a busy machine.
  EXPECT_GT(seen.back().seconds - seen.front().seconds, 0.3);
  double square = 0, mean = 0;
  std::vector<double> gaps;
  for (size_t i = 1; i < seen.size(); ++i) gaps.push_back(seen[i].seconds - seen[i - 1].seconds);
  for (const double g : gaps) mean += g / static_cast<double>(gaps.size());
  for (const double g : gaps) square += (g - mean) * (g - mean) / static_cast<double>(gaps.size());
  EXPECT_GT(std::sqrt(square) / mean, 0.5);  // 1 for a Poisson process, 0 for even steps
  EXPECT_EQ(o.figures["request_goodput"], o.figures["request_throughput"]);
  const Outcome strict = Bench(server.url() + " --num-prompts 3 --output-len 3 --goodput ttft:0.001 --json");
  EXPECT_EQ(strict.figures["request_goodput"], 0.0);
  EXPECT_THROW(Bench(server.url() + " --goodput speed:3"), Error);
  EXPECT_THROW(Bench(server.url() + " --goodput ttft:x"), Error);
}

TEST(BenchServe, ErrorsByKind) {
  FakeServer server;
  server.step_seconds = 0.001;
  server.status = [](int64_t i) { return i % 4 == 1 ? 429 : 200; };
  server.breaks = [](int64_t i) { return i % 4 == 2; };
  const Outcome o = Bench(server.url() + " --num-prompts 12 --concurrency 4 --output-len 4 --json");
  EXPECT_EQ(o.exit_code, 0);
  EXPECT_EQ(o.figures["completed"], 6) << o.output;
  EXPECT_EQ(o.figures["errors"]["http_429"]["count"], 3);
  EXPECT_EQ(o.figures["errors"]["http_429"]["message"], "this one fails");
  EXPECT_EQ(o.figures["errors"]["closed"]["count"], 3);
  FakeServer refuses;
  refuses.status = [](int64_t) { return 500; };
  EXPECT_EQ(Bench(refuses.url() + " --num-prompts 2").exit_code, 1);
  FakeServer slow;
  slow.first_seconds = 1;
  const Outcome late = Bench(slow.url() + " --num-prompts 1 --timeout 0.2 --json --output-len 1");
  EXPECT_EQ(late.figures["errors"]["timeout"]["count"], 1) << late.output;
}

TEST(BenchServe, WhatTheServerRefusesIsExplained) {
  FakeServer server;
  server.key = "secret";
  server.step_seconds = 0;
  EXPECT_THROW(Bench(server.url()), Error);
  EXPECT_EQ(Bench(server.url() + "/v1/ --api-key secret --num-prompts 1 --json").figures["completed"], 1);
  FakeServer bare;
  bare.models = false;
  EXPECT_THROW(Bench(bare.url()), Error);
  EXPECT_EQ(Bench(bare.url() + " --model m --num-prompts 1 --output-len 1 --json").figures["model_id"], "m");
  EXPECT_THROW(Bench("http://127.0.0.1:1 --num-prompts 1"), Error);
  EXPECT_THROW(Bench("no-url"), Error);
  EXPECT_THROW(Bench(server.url() + " --trace /nonexistent"), CLI::ParseError);
}

TEST(BenchServe, TokenIdsAndACommonPrefix) {
  FakeServer server;
  server.vocab_size = 50;
  server.step_seconds = 0;
  server.cached = true;
  const Outcome o = Bench(server.url() +
                          " --num-prompts 3 --input-len 40 --prefix-len 30 --output-len 2 --json --heed-eos "
                          R"(--extra-body "{\"top_k\":7,\"max_tokens\":3}")");
  EXPECT_EQ(o.figures["total_input_tokens"], 120) << o.output;
  EXPECT_EQ(o.figures["prompt_cache_hit_tokens"], 15);
  const auto seen = server.seen();
  std::set<json> prefixes, rests;
  for (const auto& s : seen) {
    EXPECT_FALSE(s.body.contains("ignore_eos"));
    EXPECT_EQ(s.body["top_k"], 7);
    EXPECT_EQ(s.body["max_tokens"], 3);
    const auto ids = s.body["prompt"].get<std::vector<int>>();
    ASSERT_EQ(ids.size(), 40u);
    for (const int id : ids) EXPECT_TRUE(id >= 0 && id < 50);
    prefixes.insert(json(std::vector<int>(ids.begin(), ids.begin() + 30)));
    rests.insert(json(std::vector<int>(ids.begin() + 30, ids.end())));
  }
  EXPECT_EQ(prefixes.size(), 1u);
  EXPECT_EQ(rests.size(), 3u);
}

// Equal block ids are equal text, at the same place in the prompt; times and lengths are scaled, and the report says
// so.
TEST(BenchServe, AMooncakeTrace) {
  const std::string path =
      TestFile("mooncake.jsonl",
               R"({"timestamp": 1000, "input_length": 1024, "output_length": 40, "hash_ids": [7, 8]}
{"timestamp": 1000, "input_length": 1300, "output_length": 20, "hash_ids": [7, 8, 9]}
{"timestamp": 5000, "input_length": 600, "output_length": 10, "hash_ids": [7, 10]}
{"timestamp": 5000, "input_length": 60000, "output_length": 10}
{"timestamp": 9000, "input_length": 5, "output_length": 10, "hash_ids": [11]}
)");
  FakeServer server;
  server.step_seconds = 0.001;
  server.vocab_size = 1000;
  const Outcome o = Bench(server.url() + " --trace " + path + " --limit 4 --length-scale 0.25 --time-scale 0.1 --json");
  EXPECT_EQ(o.figures["completed"], 3) << o.output;
  EXPECT_EQ(o.figures["total_output_tokens"], 10 + 5 + 3);
  const std::string load = o.figures["load"].get<std::string>();
  for (const char* part :
       {"3 requests", "Mooncake", "times x 0.1", "lengths x 0.25", "1 left out as longer than 4000"}) {
    EXPECT_NE(load.find(part), std::string::npos) << load;
  }
  auto seen = server.seen();
  ASSERT_EQ(seen.size(), 3u);
  std::map<size_t, std::vector<int>> by_length;
  for (const auto& s : seen) {
    const auto ids = s.body["prompt"].get<std::vector<int>>();
    by_length[ids.size()] = ids;
  }
  ASSERT_EQ(by_length.size(), 3u);
  const auto &a = by_length.at(256), &b = by_length.at(325), &c = by_length.at(150);
  EXPECT_TRUE(std::equal(a.begin(), a.end(), b.begin()));
  EXPECT_TRUE(std::equal(a.begin(), a.begin() + 128, c.begin()));
  EXPECT_FALSE(std::equal(c.begin() + 128, c.end(), a.begin() + 128));
  EXPECT_GE(seen[2].seconds - seen[0].seconds, 0.4 - 0.01);  // four seconds, a tenth of them
}

TEST(BenchServe, Traces) {
  const std::string azure = TestFile("azure.csv",
                                     "TIMESTAMP,ContextTokens,GeneratedTokens\n"
                                     "2023-11-16 23:59:59.5000000,374,44\r\n"
                                     "2023-11-17 00:00:01.2500000,396,109\n\n"
                                     "2023-11-16 23:59:58.0000000,1,2");
  const Trace trace = ReadTrace(azure, 100).Value();
  EXPECT_EQ(trace.format, "Azure");
  ASSERT_EQ(trace.requests.size(), 3u);
  EXPECT_EQ(trace.requests[0].input_tokens, 1);
  EXPECT_NEAR(trace.requests[1].arrival, 1.5, 1e-6);
  EXPECT_NEAR(trace.requests[2].arrival, 3.25, 1e-6);
  EXPECT_EQ(trace.requests[2].output_tokens, 109);
  EXPECT_EQ(ReadTrace(azure, 1).Value().requests.size(), 1u);
  for (const char* bad :
       {"", "TIMESTAMP,ContextTokens,GeneratedTokens\n", "2023-11-16 25:00:00.0,1,2\n", "2023-02-30 10:00:00.0,1,2\n",
        "2023-11-16 10:00:00.0,1\n", "2023-11-16 10:00:00.0,-1,2\n", "2023-11-16 10:00:00.0,1,99999999999\n", "{\n",
        "{\"timestamp\": 1, \"input_length\": 600, \"output_length\": 1, \"hash_ids\": [1]}\n",
        "{\"timestamp\": \"1\", \"input_length\": 1, \"output_length\": 1}\n"}) {
    EXPECT_FALSE(ReadTrace(TestFile("bad", bad), 100).ok()) << bad;
  }
  EXPECT_FALSE(ReadTrace(TestFile("long", "{" + std::string(2 << 20, ' ')), 100).ok());
}

TEST(BenchServe, PublishedTraces) {
  const std::string folder = FATHOM_SOURCE_DIR "/../shared/traces/";
  if (!std::filesystem::exists(folder)) GTEST_SKIP() << "../shared/traces is absent";
  const int64_t all = std::numeric_limits<int64_t>::max();
  const Trace azure = ReadTrace(folder + "azure_2023_conv.csv.gz", all).Value();
  EXPECT_EQ(azure.requests.size(), 19366u);
  EXPECT_EQ(azure.requests[0].input_tokens, 374);
  EXPECT_NEAR(azure.requests.back().arrival, 3600, 120);
  const Trace mooncake = ReadTrace(folder + "mooncake_conversation.jsonl.gz", all).Value();
  EXPECT_EQ(mooncake.requests.size(), 12031u);
  EXPECT_EQ(mooncake.requests[0].blocks.size(), 14u);
}

TEST(BenchServe, Percentiles) {
  std::vector<Sample> even;
  for (int i = 100; i >= 0; --i) even.push_back({static_cast<double>(i)});
  Distribution d = Describe(even);
  EXPECT_DOUBLE_EQ(d.mean, 50);
  EXPECT_DOUBLE_EQ(d.p50, 50);
  EXPECT_DOUBLE_EQ(d.p95, 95);
  EXPECT_DOUBLE_EQ(d.p99, 99);
  EXPECT_NEAR(d.std, std::sqrt((101.0 * 101 - 1) / 12), 1e-9);
  d = Describe({{1}, {2}});
  EXPECT_DOUBLE_EQ(d.p50, 1.5);
  EXPECT_DOUBLE_EQ(d.p95, 1.95);
  d = Describe({{1, 90}, {10, 8}, {100, 2}});  // a hundred tokens
  EXPECT_DOUBLE_EQ(d.mean, 3.7);
  EXPECT_DOUBLE_EQ(d.p50, 1);
  EXPECT_DOUBLE_EQ(d.p95, 10);
  EXPECT_DOUBLE_EQ(d.p99, 100);
  EXPECT_EQ(Describe({}).p99, 0);
}

TEST(BenchServe, ATableAndAPlot) {
  FakeServer server;
  server.step_seconds = 0.001;
  const std::string plot = testing::TempDir() + "bench-serve.svg";
  const Outcome o =
      Bench(server.url() + " --num-prompts 3 --output-len 4 --warmup 1 --goodput ttft:9000 --plot " + plot);
  for (const char* part : {"TTFT", "ITL", "E2EL", "3 in ", "0 failed", "100.0 %", "fake-1"}) {
    EXPECT_NE(o.output.find(part), std::string::npos) << o.output;
  }
  EXPECT_EQ(server.seen().size(), 4u);
  std::ifstream file(plot);
  std::string svg((std::istreambuf_iterator<char>(file)), {});
  EXPECT_NE(svg.find("<svg"), std::string::npos);
  EXPECT_NE(svg.find("time to first token"), std::string::npos);
  std::filesystem::remove(plot);
}

}  // namespace
}  // namespace fathom::cli
