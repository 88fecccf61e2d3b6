// The whole server in this process, with the model that ships, as its clients meet it over HTTP.
#include "server/server.h"

#include <gtest/gtest.h>

#include <atomic>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>

#include "checkpoint/checkpoint.h"
#include "net/http_client.h"
#include "net/test_client.h"

namespace fathom::server {
namespace {

using nlohmann::json;

constexpr const char* kModel = FATHOM_SOURCE_DIR "/models/fathom-16m";
constexpr const char* kPrompt = "Once upon a time there was a little girl who";

// The checkpoint and what is computed from it once, for all tests.
struct Loaded {
  Loaded()
      : checkpoint(checkpoint::Open(kModel)),
        pool(2),
        ctx{.pool = pool, .isa = BestIsa(), .verbose = {}},
        transformer(checkpoint.config(), checkpoint.params(), 1024) {}
  static Loaded& Get() {
    static Loaded loaded;
    return loaded;
  }
  checkpoint::Checkpoint checkpoint;
  ThreadPool pool;
  Context ctx;
  model::Transformer transformer;
};

ServedModel Describe(const std::optional<std::string>& chat_template) {
  ServedModel m{.names = {"story", "fathom-16m"},
                .text = tokenizer::LoadModelText(kModel),
                .vocab_size = 6144,
                .max_context = 1024,
                .eos_ids = {1}};
  m.Prepare(chat_template);
  m.fingerprint = "test";
  return m;
}

struct Reply {
  int status = 0;
  net::Headers headers;
  std::string body;
  json Json() const { return json::parse(body); }
  json Error() const { return Json().at("error"); }
  std::string Header(const char* name) const { return std::string(net::Find(headers, name)); }
};

// An answer in events, while it comes.
class Stream {
 public:
  Stream(net::HttpClient& client, net::ClientRequest request) : client_(client) {
    id_ = client.Start(std::move(request), {.on_head = [this](int status, const net::Headers&) { status_ = status; },
                                            .on_body =
                                                [this](std::string_view bytes, std::chrono::steady_clock::time_point) {
                                                  const std::scoped_lock lock(mutex_);
                                                  text_ += bytes;
                                                },
                                            .on_done = [this](const net::ClientResult&) { done_ = true; }});
  }
  ~Stream() {
    client_.Cancel(id_);
    while (!done_) std::this_thread::yield();
  }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  void Cancel() { client_.Cancel(id_); }
  bool WaitFor(const std::string& text) {
    return net::Eventually([&] { return Text().find(text) != std::string::npos; });
  }
  bool Done() {
    return net::Eventually([&] { return done_.load(); });
  }
  int status() const { return status_; }
  std::string Text() const {
    const std::scoped_lock lock(mutex_);
    return text_;
  }
  // The events but [DONE], which must be the last.
  std::vector<json> Events() {
    EXPECT_TRUE(Done());
    std::vector<json> events;
    const std::string text = Text();
    bool end = false;
    for (size_t at = 0; at < text.size();) {
      const size_t stop = text.find("\n\n", at);
      EXPECT_EQ(text.compare(at, 6, "data: "), 0) << text.substr(at, 50);
      EXPECT_FALSE(end) << text.substr(at);
      if (stop == std::string::npos) break;
      const std::string data = text.substr(at + 6, stop - at - 6);
      at = stop + 2;
      end = data == "[DONE]";
      if (!end) events.push_back(json::parse(data));
    }
    EXPECT_TRUE(end) << text;
    return events;
  }

 private:
  net::HttpClient& client_;
  uint64_t id_ = 0;
  std::atomic<int> status_{0};
  std::atomic<bool> done_{false};
  mutable std::mutex mutex_;
  std::string text_;
};

class Running {
 public:
  explicit Running(const engine::EngineOptions& given = {.drafts = 1}, ServerOptions options = {},
                   const std::optional<std::string>& chat_template = "v3", bool completion_only = false)
      : model_(Describe(chat_template)),
        engine_(Loaded::Get().ctx, Loaded::Get().transformer, Complete(given)),
        thread_(engine_) {
    if (completion_only) {
      model_.text.chat_template.reset();
      model_.chat.reset();
      model_.Prepare(std::nullopt);
    }
    options.version = "1.2.3";
    server_.emplace(model_, engine_, thread_, nullptr, options);
    http_.emplace(
        net::HttpServerOptions{.port = 0, .tls_cert = "", .tls_key = ""},
        [this](net::HttpRequest r, std::shared_ptr<net::Exchange> e) { server_->Handle(std::move(r), std::move(e)); });
    http_->Start();
  }

  net::ClientRequest Request(const std::string& method, const std::string& path, const std::string& body = "",
                             net::Headers headers = {}) const {
    net::ClientRequest r;
    r.method = method;
    r.url = {.host = "127.0.0.1", .port = http_->port(), .target = path};
    r.headers = std::move(headers);
    r.body = body;
    r.seconds = 60;
    return r;
  }
  Reply Ask(const std::string& method, const std::string& path, const std::string& body = "",
            net::Headers headers = {}) {
    net::ClientResult result = client_.Fetch(Request(method, path, body, std::move(headers)));
    EXPECT_EQ(result.error, net::ClientError::kNone) << result.message;
    return {result.status, std::move(result.headers), std::move(result.body)};
  }
  Reply Post(const std::string& path, const json& body) { return Ask("POST", path, body.dump()); }
  std::unique_ptr<Stream> Open(const std::string& path, json body) {
    body["stream"] = true;
    return Start(path, body);
  }
  std::unique_ptr<Stream> Start(const std::string& path, const json& body) {
    return std::make_unique<Stream>(client_, Request("POST", path, body.dump()));
  }
  bool Idle() {
    return net::Eventually([&] { return thread_.stats().running + thread_.stats().waiting == 0; });
  }

  Server& server() { return *server_; }
  engine::EngineThread& thread() { return thread_; }
  int port() const { return http_->port(); }

 private:
  static engine::EngineOptions Complete(engine::EngineOptions o) {
    o.max_context = 1024;
    o.cache_tokens = 16 * 1024;
    return o;
  }

  ServedModel model_;
  engine::Engine engine_;
  engine::EngineThread thread_;
  std::optional<Server> server_;
  std::optional<net::HttpServer> http_;
  net::HttpClient client_;
};

json Completion(int64_t max_tokens) { return {{"prompt", kPrompt}, {"max_tokens", max_tokens}, {"temperature", 0}}; }
json Chat(int64_t max_tokens) {
  return {{"messages", {{{"role", "user"}, {"content", kPrompt}}}}, {"max_tokens", max_tokens}, {"temperature", 0}};
}
json Endless() {
  json j = Completion(1000);
  j["ignore_eos"] = true;
  return j;
}

TEST(ServerThread, CompletionsWholeAndStreamed) {
  Running s;
  json ask = Completion(24);
  const json whole = s.Post("/v1/completions", ask).Json();
  const std::string text = whole["choices"][0]["text"];
  EXPECT_EQ(text.substr(0, 18), " lived in a small ");  // golden.json of the model
  EXPECT_EQ(whole["object"], "text_completion");
  EXPECT_EQ(whole["model"], "story");
  EXPECT_EQ(whole["usage"]["prompt_tokens"], 12);
  EXPECT_EQ(whole["usage"]["completion_tokens"], 24);
  EXPECT_EQ(whole["usage"]["total_tokens"], 36);
  EXPECT_EQ(whole["choices"][0]["finish_reason"], "length");

  ask["stream_options"] = {{"include_usage", true}};
  const auto events = s.Open("/v1/completions", ask)->Events();
  std::string streamed;
  for (const json& e : events) {
    if (!e["choices"].empty()) streamed += e["choices"][0]["text"].get<std::string>();
  }
  EXPECT_EQ(streamed, text);
  EXPECT_GT(events.size(), 20u);
  EXPECT_TRUE(events.back()["choices"].empty());
  EXPECT_EQ(events.back()["usage"]["completion_tokens"], 24);
  EXPECT_TRUE(events.front()["usage"].is_null());
  EXPECT_EQ(events[events.size() - 2]["choices"][0]["finish_reason"], "length");
}

TEST(ServerThread, ChatWholeAndStreamed) {
  Running s;
  json ask = Chat(16);
  ask["n"] = 2;
  ask["temperature"] = 1;
  ask["seed"] = 3;
  ask["logprobs"] = true;
  ask["top_logprobs"] = 2;
  const json whole = s.Post("/v1/chat/completions", ask).Json();
  ASSERT_EQ(whole["choices"].size(), 2u);
  const auto stream = s.Open("/v1/chat/completions", ask);
  for (size_t i = 0; i < 2; ++i) {
    std::string text;
    json logprobs = json::array();
    for (const json& e : stream->Events()) {
      const json& c = e["choices"][0];
      if (c["index"] != i) continue;
      if (c["delta"].contains("content")) text += c["delta"]["content"].get<std::string>();
      if (!c["logprobs"].is_null())
        logprobs.insert(logprobs.end(), c["logprobs"]["content"].begin(), c["logprobs"]["content"].end());
    }
    const json& choice = whole["choices"][i];
    EXPECT_EQ(choice["message"]["role"], "assistant");
    EXPECT_EQ(choice["message"]["content"], text);
    EXPECT_EQ(choice["logprobs"]["content"].size(), 16u);
    EXPECT_EQ(logprobs.size(), 16u);
    EXPECT_EQ(choice["logprobs"]["content"][0]["top_logprobs"].size(), 2u);
    EXPECT_FALSE(choice["message"].contains("reasoning_content"));
  }
  EXPECT_NE(whole["choices"][0]["message"]["content"], whole["choices"][1]["message"]["content"]);
  EXPECT_EQ(whole["usage"]["completion_tokens"], 32);
}

TEST(ServerThread, WhatAModelThinksIsApart) {
  Running s({.drafts = 0}, {}, "v3.1");
  json ask = Chat(12);
  ask["ignore_eos"] = true;
  ask["thinking"] = {{"type", "enabled"}};
  const json thought = s.Post("/v1/chat/completions", ask).Json();
  EXPECT_EQ(thought["choices"][0]["message"]["content"], "");  // this model never ends it
  EXPECT_FALSE(thought["choices"][0]["message"]["reasoning_content"].get<std::string>().empty());
  EXPECT_EQ(thought["usage"]["completion_tokens_details"]["reasoning_tokens"], 12);
  ask["thinking"] = {{"type", "disabled"}};
  const json said = s.Post("/v1/chat/completions", ask).Json();
  EXPECT_FALSE(said["choices"][0]["message"].contains("reasoning_content"));
  EXPECT_EQ(said["usage"]["completion_tokens_details"]["reasoning_tokens"], 0);
  ask["thinking"] = {{"type", "enabled"}};
  std::string streamed;
  for (const json& e : s.Open("/v1/chat/completions", ask)->Events()) {
    streamed += e["choices"][0]["delta"].value("reasoning_content", "");
  }
  EXPECT_EQ(streamed, thought["choices"][0]["message"]["reasoning_content"].get<std::string>());
}

TEST(ServerThread, EchoScoresThePrompt) {
  Running s;
  const json ids = s.Post("/tokenize", {{"prompt", kPrompt}}).Json()["tokens"];
  ASSERT_EQ(ids.size(), 12u);
  EXPECT_EQ(ids[0], 0);
  EXPECT_EQ(s.Post("/tokenize", {{"prompt", kPrompt}, {"add_special_tokens", false}}).Json()["count"], 11);
  const json one =
      s.Post("/v1/completions",
             {{"prompt", {ids, ids}}, {"max_tokens", 1}, {"echo", true}, {"logprobs", 1}, {"temperature", 0}})
          .Json();
  ASSERT_EQ(one["choices"].size(), 2u);
  const json& logprobs = one["choices"][1]["logprobs"];
  ASSERT_EQ(logprobs["token_logprobs"].size(), 13u);
  EXPECT_TRUE(logprobs["token_logprobs"][0].is_null());
  for (size_t i = 1; i < 13; ++i) EXPECT_LE(logprobs["token_logprobs"][i].get<double>(), 0);
  const json none =
      s.Post("/v1/completions", {{"prompt", ids}, {"max_tokens", 0}, {"echo", true}, {"logprobs", 1}}).Json();
  EXPECT_EQ(none["choices"][0]["text"], kPrompt);
  EXPECT_EQ(none["choices"][0]["logprobs"]["token_logprobs"].size(), 12u);
  EXPECT_EQ(none["usage"]["completion_tokens"], 0);
  // Even where the answer ends at once, one token stands behind the prompt.
  const json end = s.Post("/v1/completions", {{"prompt", ids},
                                              {"max_tokens", 1},
                                              {"echo", true},
                                              {"logprobs", 1},
                                              {"temperature", 0},
                                              {"logit_bias", {{"1", 100}}}})
                       .Json();
  EXPECT_EQ(end["choices"][0]["logprobs"]["token_logprobs"].size(), 13u);
  EXPECT_EQ(end["choices"][0]["text"], kPrompt);
}

TEST(ServerThread, StopStringsAndTokens) {
  Running s;
  const std::string text = s.Post("/v1/completions", Completion(24)).Json()["choices"][0]["text"];
  const std::string stop = text.substr(text.size() / 2, 5);
  json ask = Completion(24);
  ask["stop"] = {"nowhere", stop};
  const json stopped = s.Post("/v1/completions", ask).Json();
  EXPECT_EQ(stopped["choices"][0]["text"], text.substr(0, text.find(stop)));
  EXPECT_EQ(stopped["choices"][0]["finish_reason"], "stop");
  EXPECT_LT(stopped["usage"]["completion_tokens"], 24);
  json by_token = Completion(24);
  by_token["stop_token_ids"] = s.Post("/tokenize", {{"prompt", " in"}, {"add_special_tokens", false}}).Json()["tokens"];
  EXPECT_EQ(s.Post("/v1/completions", by_token).Json()["choices"][0]["text"], " lived");
  EXPECT_TRUE(s.Idle());
}

TEST(ServerThread, SmallEndpoints) {
  Running s;
  EXPECT_EQ(s.Ask("GET", "/health").status, 200);
  EXPECT_EQ(s.Ask("GET", "/version").Json()["version"], "1.2.3");
  const json models = s.Ask("GET", "/v1/models").Json();
  EXPECT_EQ(models["data"][0]["id"], "story");
  EXPECT_EQ(models["data"][0]["max_model_len"], 1024);
  EXPECT_EQ(models["data"][0]["completion_only"], false);
  EXPECT_EQ(s.Ask("GET", "/v1/models/fathom-16m").Json()["id"], "fathom-16m");
  EXPECT_EQ(s.Ask("GET", "/v1/models/other").Error()["code"], "model_not_found");
  const json ids = s.Post("/tokenize", {{"messages", Chat(1)["messages"]}}).Json();
  EXPECT_GT(ids["count"], 11);
  EXPECT_EQ(s.Post("/detokenize", {{"tokens", ids["tokens"]}}).Json()["prompt"].get<std::string>().find(kPrompt) !=
                std::string::npos,
            true);
  const Reply page = s.Ask("GET", "/");
  EXPECT_EQ(page.status, 200);
  EXPECT_NE(page.Header("Content-Security-Policy").find("default-src 'self'"), std::string::npos);
  EXPECT_EQ(s.Ask("GET", "/", "", {{"If-None-Match", page.Header("ETag")}}).status, 304);
  s.Post("/v1/completions", Completion(4));
  // The answer itself is counted when it is on its way: the client may be faster.
  Reply metrics;
  EXPECT_TRUE(net::Eventually([&] {
    metrics = s.Ask("GET", "/metrics");
    return metrics.body.find("route=\"/v1/completions\"") != std::string::npos;
  }));
  EXPECT_EQ(metrics.Header("Content-Type"), "text/plain; version=0.0.4; charset=utf-8");
  for (const char* line : {"fathom:generation_tokens_total{model_name=\"story\"} 4\n",
                           "fathom:request_success_total{model_name=\"story\",finished_reason=\"length\"} 1\n",
                           "fathom:time_to_first_token_seconds_count{model_name=\"story\"} 1\n",
                           "fathom:inter_token_latency_seconds_count{model_name=\"story\"} 3\n",
                           "route=\"/v1/completions\",method=\"POST\",status=\"200\"} 1\n"}) {
    EXPECT_NE(metrics.body.find(line), std::string::npos) << line << "in\n" << metrics.body;
  }
}

TEST(ServerThread, ErrorsHaveTheirStatusAndField) {
  Running s;
  const auto expect = [](const Reply& r, int status, const char* param, const char* code) {
    EXPECT_EQ(r.status, status) << r.body;
    if (*param) {
      EXPECT_EQ(r.Error()["param"], param) << r.body;
    }
    if (*code) {
      EXPECT_EQ(r.Error()["code"], code) << r.body;
    }
  };
  expect(s.Ask("POST", "/v1/completions", "{"), 400, "", "invalid_json");
  expect(s.Ask("POST", "/v1/completions", "{\"prompt\": \"\xff\"}"), 400, "", "invalid_json");
  expect(s.Ask("POST", "/v1/completions", std::string(10'000, '[')), 400, "", "invalid_json");
  expect(s.Ask("POST", "/v1/completions", "{\"prompt\": " + std::string(100'000, '[')), 400, "", "invalid_json");
  expect(s.Post("/v1/completions", {{"prompt", "x"}, {"temperature", 5}}), 400, "temperature", "");
  expect(s.Post("/v1/completions", {{"prompt", std::vector<int>(1025, 300)}}), 400, "prompt",
         "context_length_exceeded");
  expect(s.Post("/v1/completions", {{"prompt", std::string(1 << 20, 'a')}}), 400, "prompt", "context_length_exceeded");
  expect(s.Post("/v1/completions", {{"prompt", {"x", std::string(100'000, 'a')}}}), 400, "prompt[1]",
         "context_length_exceeded");
  expect(s.Post("/v1/completions", {{"prompt", "x"}, {"model", "gpt-4"}}), 404, "model", "model_not_found");
  expect(s.Post("/v1/chat/completions", {{"messages", json::array()}}), 400, "messages", "");
  expect(s.Ask("GET", "/v1/completions"), 405, "", "method_not_allowed");
  expect(s.Ask("GET", "/nowhere"), 404, "", "unknown_url");
  // The longest prompt there may be has room for one token.
  json full = {{"prompt", std::vector<int>(1024, 300)}, {"max_tokens", 9}, {"ignore_eos", true}};
  const Reply r = s.Post("/v1/completions", full);
  ASSERT_EQ(r.status, 200) << r.body;
  EXPECT_EQ(r.Json()["usage"]["completion_tokens"], 1);
  EXPECT_EQ(r.Json()["choices"][0]["finish_reason"], "length");
}

TEST(ServerThread, AModelWithoutATemplateCompletesOnly) {
  Running s({.drafts = 0}, {}, std::nullopt, /*completion_only=*/true);
  const Reply r = s.Post("/v1/chat/completions", Chat(1));
  EXPECT_EQ(r.status, 400);
  EXPECT_EQ(r.Error()["code"], "completion_only");
  EXPECT_EQ(s.Post("/v1/completions", Completion(1)).status, 200);
  EXPECT_EQ(s.Ask("GET", "/v1/models").Json()["data"][0]["completion_only"], true);
}

TEST(ServerThread, KeysAndCors) {
  Running s({.drafts = 0}, {.keys = ApiKeys({"secret"}), .cors_origin = "https://example.org"});
  for (const char* path : {"/v1/models", "/v1/completions", "/tokenize", "/detokenize", "/v1/nowhere"}) {
    const std::string method = std::string(path) == "/v1/models" ? "GET" : "POST";
    EXPECT_EQ(s.Ask(method, path, method == "GET" ? "" : "{}").status, 401) << path;
    const Reply wrong = s.Ask(method, path, method == "GET" ? "" : "{}", {{"Authorization", "Bearer secre"}});
    EXPECT_EQ(wrong.status, 401) << path;
    EXPECT_EQ(wrong.Error()["code"], "invalid_api_key");
  }
  for (const char* path : {"/health", "/metrics", "/"}) EXPECT_EQ(s.Ask("GET", path).status, 200) << path;
  EXPECT_EQ(s.Ask("GET", "/v1/models", "", {{"Authorization", "Bearer secret"}}).status, 200);
  const Reply preflight =
      s.Ask("OPTIONS", "/v1/completions", "", {{"Access-Control-Request-Headers", "authorization, x-a"}});
  EXPECT_EQ(preflight.status, 204);
  EXPECT_EQ(preflight.Header("Access-Control-Allow-Origin"), "https://example.org");
  EXPECT_EQ(preflight.Header("Access-Control-Allow-Headers"), "authorization, x-a");
  EXPECT_EQ(s.Ask("GET", "/v1/nowhere").Header("Access-Control-Allow-Origin"), "https://example.org");
}

TEST(ServerThread, AClientThatGoesFreesItsSlot) {
  Running s;
  for (const bool streamed : {true, false}) {
    json ask = Endless();
    ask["n"] = 3;
    ask["stream"] = streamed;
    const auto asked = s.Start("/v1/completions", ask);
    EXPECT_TRUE(net::Eventually([&] { return s.thread().stats().running == 3; }));
    asked->Cancel();
    EXPECT_TRUE(s.Idle());
  }
  net::TestClient raw(s.port());
  const std::string body = Endless().dump();
  ASSERT_TRUE(raw.Send("POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: " + std::to_string(body.size()) +
                       "\r\n\r\n" + body));
  EXPECT_TRUE(net::Eventually([&] { return s.thread().stats().running == 1; }));
  raw.Close();
  EXPECT_TRUE(s.Idle());
  EXPECT_GE(s.thread().stats().finished[static_cast<size_t>(engine::FinishReason::kCancelled)], 4);
}

TEST(ServerThread, AFullQueueSaysSo) {
  Running s({.max_running = 1, .max_waiting = 1});
  const auto first = s.Open("/v1/completions", Endless());
  ASSERT_TRUE(first->WaitFor("data: "));
  const auto second = s.Open("/v1/completions", Endless());
  ASSERT_TRUE(net::Eventually([&] { return s.thread().stats().running + s.thread().stats().waiting == 2; }));
  const Reply third = s.Post("/v1/completions", Completion(1));
  EXPECT_EQ(third.status, 429);
  EXPECT_FALSE(third.Header("Retry-After").empty());
  EXPECT_EQ(third.Error()["code"], "queue_full");
  first->Cancel();
  second->Cancel();
  EXPECT_TRUE(s.Idle());
  // Of several answers, those that did fit are taken back.
  json many = Endless();
  many["n"] = 5;
  many["stream"] = true;
  EXPECT_EQ(s.Post("/v1/completions", many).status, 429);
  EXPECT_TRUE(s.Idle());
  EXPECT_EQ(s.Post("/v1/completions", Completion(2)).status, 200);
}

TEST(ServerThread, DrainingFinishesWhatRuns) {
  Running s;
  json ask = Endless();
  ask["max_tokens"] = 200;
  const auto stream = s.Open("/v1/completions", ask);
  ASSERT_TRUE(stream->WaitFor("data: "));
  s.server().SetDraining();
  EXPECT_EQ(s.Ask("GET", "/health").status, 503);
  const Reply refused = s.Post("/v1/completions", Completion(1));
  EXPECT_EQ(refused.status, 503);
  EXPECT_FALSE(refused.Header("Retry-After").empty());
  EXPECT_TRUE(s.thread().Drain(60));
  EXPECT_EQ(stream->Events().back()["choices"][0]["finish_reason"], "length");
}

TEST(ServerThread, WhatDoesNotFinishInTimeEndsWithAnError) {
  Running s;
  const auto stream = s.Open("/v1/completions", Endless());
  ASSERT_TRUE(stream->WaitFor("data: "));
  s.server().SetDraining();
  EXPECT_FALSE(s.thread().Drain(0.01));
  s.thread().Stop();
  EXPECT_EQ(stream->Events().back()["error"]["code"], "draining");
}

TEST(ServerThread, ManyClientsGetTheirOwnAnswers) {
  Running s({.max_running = 8, .drafts = 1});
  const std::string expected = s.Post("/v1/completions", Completion(16)).Json()["choices"][0]["text"];
  std::vector<std::unique_ptr<Stream>> streams;
  for (int i = 0; i < 24; ++i) streams.push_back(s.Open("/v1/completions", Completion(16)));
  for (const auto& stream : streams) {
    std::string text;
    for (const json& e : stream->Events()) text += e["choices"][0]["text"].get<std::string>();
    EXPECT_EQ(text, expected);
  }
}

// A function that must be called: by a grammar, whatever the model would say. Its history comes back as it was written.
TEST(ServerThread, ForcedCallsStreamedAndFoundInTheCache) {
  Running s;
  const json tools = json::parse(R"([{"type": "function", "function": {"name": "get_weather", "strict": true,
    "parameters": {"type": "object", "properties": {"city": {"enum": ["Paris", "Rome"]}, "why": {"type": "string",
    "maxLength": 60}}, "required": ["city", "why"], "additionalProperties": false}}}])");
  json ask = Chat(200);
  ask["messages"][0]["content"] = std::string(kPrompt) + std::string(300, '.');
  ask["tools"] = tools;
  ask["tool_choice"] = "required";
  ask["parallel_tool_calls"] = false;
  ask["temperature"] = 1.3;  // words that are spelled as nobody would
  ask["seed"] = 5;
  const json whole = s.Post("/v1/chat/completions", ask).Json();
  const json& choice = whole["choices"][0];
  ASSERT_EQ(choice["finish_reason"], "tool_calls") << whole;
  EXPECT_TRUE(choice["message"]["content"].is_null());
  const json& call = choice["message"]["tool_calls"].at(0);
  EXPECT_EQ(call["function"]["name"], "get_weather");
  const json arguments = json::parse(call["function"]["arguments"].get<std::string>());
  EXPECT_TRUE(arguments.at("city") == "Paris" || arguments.at("city") == "Rome");
  EXPECT_EQ(arguments.size(), 2u);

  std::string streamed, name, finish;
  size_t pieces = 0;
  for (const json& e : s.Open("/v1/chat/completions", ask)->Events()) {
    const json& part = e["choices"][0];
    if (!part["finish_reason"].is_null()) finish = part["finish_reason"];
    if (!part["delta"].contains("tool_calls")) continue;
    const json& delta = part["delta"]["tool_calls"].at(0);
    EXPECT_EQ(delta["index"], 0);
    EXPECT_EQ(delta.contains("id"), name.empty());
    if (name.empty()) name = delta["function"]["name"];
    streamed += delta["function"]["arguments"].get<std::string>();
    ++pieces;
  }
  EXPECT_EQ(name, "get_weather");
  EXPECT_EQ(streamed, call["function"]["arguments"].get<std::string>());
  EXPECT_EQ(finish, "tool_calls");
  EXPECT_GT(pieces, 3u);

  json next = Chat(4);
  next["tools"] = tools;
  next["messages"] = {
      ask["messages"][0], choice["message"], {{"role", "tool"}, {"tool_call_id", call["id"]}, {"content", "Sunny."}}};
  const json second = s.Post("/v1/chat/completions", next).Json();
  ASSERT_TRUE(second.contains("usage")) << second;
  const int64_t before = whole["usage"]["total_tokens"], found = second["usage"]["prompt_cache_hit_tokens"];
  EXPECT_GE(found, (before - 2) / 64 * 64) << "of " << before;
  EXPECT_GT(found, whole["usage"]["prompt_tokens"].get<int64_t>() / 64 * 64);  // the answer's blocks, too

  ask["tool_choice"] = "none";
  ask["max_tokens"] = 20;
  const json none = s.Post("/v1/chat/completions", ask).Json();
  ASSERT_TRUE(none.contains("choices")) << none;
  EXPECT_FALSE(none["choices"][0]["message"].contains("tool_calls"));
  EXPECT_EQ(none["usage"]["prompt_tokens"], whole["usage"]["prompt_tokens"]);
}

}  // namespace
}  // namespace fathom::server
