// The engine on the model that ships: answers do not depend on what else runs, on chunks, on preemption, on the prefix
// cache or on speculation.
#include "engine/engine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cmath>
#include <future>
#include <thread>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "core/rng.h"
#include "engine/engine_thread.h"
#include "engine/trace.h"
#include "io/safetensors.h"

namespace fathom::engine {
namespace {

constexpr const char* kFolder = FATHOM_SOURCE_DIR "/models/fathom-16m";

class EngineTest : public testing::Test {
 protected:
  EngineTest()
      : checkpoint_(checkpoint::Open(kFolder)),
        golden_(io::SafetensorsFile::Open(std::string(kFolder) + "/golden.safetensors").Value()),
        pool_(2),
        ctx_{.pool = pool_, .isa = BestIsa(), .verbose = {}},
        transformer_(checkpoint_.config(), checkpoint_.params(), 1024) {}

  std::vector<int32_t> Golden(const std::string& name) const {
    const TensorView t = golden_.Get(name);
    const auto* p = static_cast<const int64_t*>(t.data);
    return {p, p + t.size()};
  }
  Request Greedy(int i, int64_t max_tokens) const {
    Request r;
    r.prompt = Golden("prompt_ids." + std::to_string(i));
    r.max_tokens = max_tokens;
    r.sampling.temperature = 0;
    return r;
  }
  std::vector<int32_t> Expected(int i, int64_t n) const {
    std::vector<int32_t> ids = Golden("greedy_ids." + std::to_string(i));
    ids.resize(static_cast<size_t>(n));
    return ids;
  }
  // Prompts of random tokens: of `shared` tokens that all have, and others.
  std::vector<Request> Random(int n, uint64_t seed, int64_t shared, int64_t longest, int64_t answer) const {
    Rng rng(seed, 1);
    std::vector<int32_t> common;
    const auto token = [&] { return static_cast<int32_t>(rng.NextDouble() * 4000) + 3; };
    for (int64_t i = 0; i < shared; ++i) common.push_back(token());
    std::vector<Request> requests;
    for (int i = 0; i < n; ++i) {
      Request r;
      r.prompt = common;
      const auto more = 1 + static_cast<int64_t>(rng.NextDouble() * static_cast<double>(longest - shared));
      for (int64_t j = 0; j < more; ++j) r.prompt.push_back(token());
      r.max_tokens = 1 + static_cast<int64_t>(rng.NextDouble() * static_cast<double>(answer));
      r.sampling.temperature = i % 2 == 0 ? 0 : 0.9;
      r.sampling.seed = seed + static_cast<uint64_t>(i);
      r.logprobs = 2;
      requests.push_back(r);
    }
    return requests;
  }
  // Ids and log-probabilities of every answer.
  struct Heard {
    std::vector<int32_t> ids;
    std::vector<float> logprobs;
    bool operator==(const Heard& o) const = default;
  };
  std::vector<Heard> Hear(Engine& engine, std::span<const Request> requests) const {
    std::vector<Heard> heard(requests.size());
    engine.Run(requests, [&](size_t i, const Token& t) {
      heard[i].ids.push_back(t.id);
      heard[i].logprobs.push_back(t.logprob);
      for (const auto& [id, logprob] : t.top) heard[i].logprobs.push_back(logprob);
      return true;
    });
    return heard;
  }
  std::vector<Heard> Alone(const EngineOptions& options, std::span<const Request> requests) {
    std::vector<Heard> heard;
    for (const Request& r : requests) {
      Engine engine(ctx_, transformer_, options);
      heard.push_back(Hear(engine, std::span(&r, 1)).front());
    }
    return heard;
  }
  // Nothing is held once nothing runs.
  static void ExpectIdle(const Engine& engine) {
    const EngineStats s = engine.stats();
    EXPECT_EQ(s.running, 0);
    EXPECT_EQ(s.waiting, 0);
    EXPECT_EQ(s.blocks_used, 0);
    EXPECT_EQ(engine.arena_overflows(), 0);
  }

  checkpoint::Checkpoint checkpoint_;
  io::SafetensorsFile golden_;
  ThreadPool pool_;
  Context ctx_;
  model::Transformer transformer_;
};

TEST_F(EngineTest, DraftsDoNotChangeGreedyAnswers) {
#ifdef __SANITIZE_ADDRESS__
  const std::vector<int64_t> all = {2};  // sanitizers take twelve times the time
#else
  const std::vector<int64_t> all = {1, 2, 4};
#endif
  for (const int64_t drafts : all) {
    for (const DraftInput input : {DraftInput::kNormed, DraftInput::kPlain}) {
      for (const Verification how : {Verification::kRejection, Verification::kCoupled}) {
        Engine engine(ctx_, transformer_,
                      {.max_context = 400,
                       .cache_tokens = 1600,
                       .drafts = drafts,
                       .draft_input = input,
                       .verification = how,
                       .always_draft = true});
        std::vector<Request> requests;
        for (int i = 0; i < 4; ++i) requests.push_back(Greedy(i, 40));
        const std::vector<Answer> answers = engine.Run(requests);
        int64_t drafted = 0, accepted = 0;
        for (int i = 0; i < 4; ++i) {
          EXPECT_EQ(answers[static_cast<size_t>(i)].ids, Expected(i, 40)) << "prompt " << i << ", drafts " << drafts;
          drafted += answers[static_cast<size_t>(i)].drafted;
          accepted += answers[static_cast<size_t>(i)].accepted;
        }
        // The module was trained: it is right more often than not where it drafts one token.
        EXPECT_GT(accepted, drafts == 1 ? drafted / 2 : drafted / 8);
        EXPECT_LT(engine.stats().steps, 40 + 8);
        ExpectIdle(engine);
      }
    }
  }
}

TEST_F(EngineTest, DraftsSaveStepsAsOftenAsTheyAreRight) {
  const Request r = Greedy(0, 60);
  Engine engine(ctx_, transformer_, {.max_context = 400, .drafts = 1, .always_draft = true});
  const Answer a = engine.Run(std::span(&r, 1)).front();
  EXPECT_EQ(engine.stats().steps, 60 - a.accepted);
}

// A prefix without the module's rows, or steps without drafts: the module begins anew behind them and drafts again.
TEST_F(EngineTest, DraftsBeginAnewBehindAGap) {
  Request r = Greedy(4, 4);
  Engine engine(ctx_, transformer_, {.max_context = 600, .cache_tokens = 1200, .drafts = 1, .always_draft = true});
  r.speculate = false;
  std::vector<int32_t> ids = engine.Run(std::span(&r, 1)).front().ids;
  r.speculate = true;
  r.max_tokens = 100;
  const Answer a = engine.Run(std::span(&r, 1)).front();
  EXPECT_GE(a.cached_tokens, 128);
  EXPECT_GT(a.drafted, 30);
  EXPECT_GT(a.accepted, a.drafted / 2);
  r.max_tokens = 4;
  EXPECT_EQ(engine.Run(std::span(&r, 1)).front().ids, ids);
}

TEST_F(EngineTest, InvariantModeGivesTheSameBits) {
#ifdef __SANITIZE_ADDRESS__
  const std::vector<Request> requests = Random(6, 9, 70, 190, 40);  // sanitizers take twelve times the time
#else
  const std::vector<Request> requests = Random(8, 7, 70, 150, 90);
#endif
  const EngineOptions plain{.max_context = 256, .batch_invariant = true};
  const std::vector<Heard> expected = Alone(plain, requests);
  struct Case {
    const char* name;
    EngineOptions options;
  };
  const Case cases[] = {
      {"among others", {.max_context = 256, .cache_tokens = 8000, .batch_invariant = true}},
#ifndef __SANITIZE_ADDRESS__
      {"preempted", {.max_context = 256, .cache_tokens = 320, .max_running = 5, .batch_invariant = true}},
      {"no prefix cache", {.max_context = 256, .cache_tokens = 8000, .prefix_cache = false, .batch_invariant = true}},
      {"small steps",
       {.max_context = 256,
        .cache_tokens = 8000,
        .max_running = 16,
        .step_tokens = 37,
        .prompt_tokens = 21,
        .batch_invariant = true}},
      {"one draft",
       {.max_context = 256, .cache_tokens = 8000, .batch_invariant = true, .drafts = 1, .always_draft = true}},
#endif
      {"three drafts, preempted",
       {.max_context = 256,
        .cache_tokens = 320,
        .max_running = 5,
        .batch_invariant = true,
        .drafts = 3,
        .always_draft = true}},
  };
  for (const Case& c : cases) {
    Engine engine(ctx_, transformer_, c.options);
    EXPECT_EQ(Hear(engine, requests), expected) << c.name;
    if (&c == cases) {
      EXPECT_EQ(Hear(engine, requests), expected) << "with all prompts cached";
    }
    if (c.options.cache_tokens == 320) {
      EXPECT_GT(engine.stats().preemptions, 0) << c.name;
    }
    ExpectIdle(engine);
  }
}

TEST_F(EngineTest, InvariantInBf16AndWithAnFp8Cache) {
  std::vector<Request> requests = Random(6, 11, 70, 200, 24);
  for (const DType cache : {DType::kBF16, DType::kF8E4M3}) {
    EngineOptions o{
        .compute = model::Compute::kBf16, .cache_dtype = cache, .max_context = 320, .batch_invariant = true};
    const std::vector<Heard> expected = Alone(o, requests);
    o.cache_tokens = 4000;
    o.step_tokens = 61;
    o.max_running = 8;
    Engine engine(ctx_, transformer_, o);
    EXPECT_EQ(Hear(engine, requests), expected) << Name(cache);
    ExpectIdle(engine);
  }
}

TEST_F(EngineTest, PreemptionLosesNothing) {
  std::vector<Request> requests;
  for (int i = 0; i < 12; ++i) {
    requests.push_back(Greedy(i % 4, 60));
    requests.back().priority = i % 3;
  }
  Engine engine(ctx_, transformer_, {.max_context = 256, .cache_tokens = 256, .max_running = 8, .prefix_cache = false});
  const std::vector<Answer> answers = engine.Run(requests);
  for (size_t i = 0; i < answers.size(); ++i) EXPECT_EQ(answers[i].ids, Expected(static_cast<int>(i) % 4, 60)) << i;
  EXPECT_GT(engine.stats().preemptions, 0);
  ExpectIdle(engine);
}

TEST_F(EngineTest, OnePromptForManyAnswersIsReadOnce) {
  Request r = Greedy(4, 4);
  ASSERT_GT(r.prompt.size(), 129u);
  std::vector<Request> requests(5, r);
  Engine engine(ctx_, transformer_, {.max_context = 400, .cache_tokens = 2400, .step_tokens = 64});
  const std::vector<Answer> answers = engine.Run(requests);
  const auto whole = static_cast<int64_t>(r.prompt.size() - 1) / kBlockTokens * kBlockTokens;
  EXPECT_EQ(answers[0].cached_tokens, 0);
  for (size_t i = 1; i < answers.size(); ++i) {
    EXPECT_EQ(answers[i].cached_tokens, whole);
    EXPECT_EQ(answers[i].ids, answers[0].ids);
  }
  // What one user's prompts left is not found by another.
  requests.resize(1);
  requests[0].cache_scope = 1;
  EXPECT_EQ(engine.Run(requests).front().cached_tokens, 0);
}

TEST_F(EngineTest, CancelledAndRefusedRequestsLeaveNothing) {
  Engine engine(ctx_, transformer_, {.max_context = 400, .cache_tokens = 1600});
  std::vector<FinishReason> reasons;
  const auto listener = [&] {
    return Listener{
        .on_token = {}, .on_prompt = {}, .on_finish = [&](const Answer& a) { reasons.push_back(a.finish_reason); }};
  };
  const RequestId first = engine.Add(Greedy(0, 100), listener());
  engine.Add(Greedy(1, 5), listener());
  engine.Step();
  EXPECT_GT(engine.stats().blocks_used, 0);
  engine.Cancel(first);
  engine.Step();
  EXPECT_THAT(reasons, testing::ElementsAre(FinishReason::kCancelled));
  while (engine.Step()) {
  }
  EXPECT_THAT(reasons, testing::ElementsAre(FinishReason::kCancelled, FinishReason::kLength));
  ExpectIdle(engine);

  const auto refused = [&](auto change) {
    Request r = Greedy(0, 5);
    change(r);
    EXPECT_THROW(engine.Add(r, listener()), Error);
  };
  refused([](Request& r) { r.prompt.clear(); });
  refused([](Request& r) { r.prompt.assign(401, 5); });
  refused([](Request& r) { r.prompt[0] = 6144; });
  refused([](Request& r) { r.prompt[0] = -1; });
  refused([](Request& r) { r.sampling.top_p = 0; });
  refused([](Request& r) { r.sampling.logit_bias = {{6144, 1.0f}}; });
  ExpectIdle(engine);
}

TEST_F(EngineTest, TheContextEndsAnAnswer) {
  Request r = Greedy(0, 1000);
  const auto prompt = static_cast<int64_t>(r.prompt.size());
  for (const int64_t drafts : {0, 3}) {
    Engine engine(ctx_, transformer_, {.max_context = prompt + 9, .drafts = drafts, .always_draft = true});
    const Answer a = engine.Run(std::span(&r, 1)).front();
    EXPECT_EQ(a.finish_reason, FinishReason::kLength);
    EXPECT_EQ(a.ids, Expected(0, 10));  // the logits of the last position choose one more
    ExpectIdle(engine);
  }
}

TEST_F(EngineTest, LogprobsAreTheModels) {
  Request r = Greedy(2, 6);
  r.logprobs = 3;
  r.prompt_logprobs = true;
  r.sampling.logit_bias = {{Expected(2, 6)[0], -100.0f}};  // changes what is chosen, not what is reported
  std::vector<Token> prompt, answer;
  Engine engine(ctx_, transformer_, {.max_context = 400, .max_running = 4, .step_tokens = 8});
  engine.Add(r, {.on_token = [&](const Token& t) { return answer.push_back(t), true; },
                 .on_prompt = [&](std::span<const Token> t) { prompt.insert(prompt.end(), t.begin(), t.end()); },
                 .on_finish = {}});
  while (engine.Step()) {
  }
  ASSERT_EQ(prompt.size(), r.prompt.size() - 1);
  ASSERT_EQ(answer.size(), 6u);
  EXPECT_NE(answer[0].id, Expected(2, 6)[0]);

  std::vector<int32_t> all = r.prompt;
  for (const Token& t : answer) all.push_back(t.id);
  const Trace trace = RunTrace(ctx_, transformer_, all, {});
  const auto v = static_cast<size_t>(checkpoint_.config().vocab_size);
  for (size_t i = 1; i < all.size(); ++i) {
    const Token& t = i < r.prompt.size() ? prompt[i - 1] : answer[i - r.prompt.size()];
    EXPECT_EQ(t.id, all[i]);
    const std::span<const float> logits = std::span(trace.at("logits").f32).subspan((i - 1) * v, v);
    double sum = 0;
    for (const float x : logits) sum += std::exp(static_cast<double>(x));
    // float32 logits of size 10 to 20 computed in another order: TraceTolerance of their size.
    EXPECT_NEAR(t.logprob, static_cast<double>(logits[static_cast<size_t>(all[i])]) - std::log(sum), 5e-3);
    ASSERT_EQ(t.top.size(), 3u);
    EXPECT_EQ(t.top[0].first, ArgMax(logits));
    EXPECT_GE(t.top[0].second, t.top[1].second);
    EXPECT_GE(t.top[1].second, t.top[2].second);
    EXPECT_LE(t.logprob, t.top[0].second);
  }

  r.max_tokens = 0;  // the prompt alone
  prompt.clear();
  bool chose = false;
  engine.Add(r, {.on_token = [&](const Token&) { return chose = true; },
                 .on_prompt = [&](std::span<const Token> t) { prompt.insert(prompt.end(), t.begin(), t.end()); },
                 .on_finish = {}});
  while (engine.Step()) {
  }
  EXPECT_EQ(prompt.size(), r.prompt.size() - 1);
  EXPECT_FALSE(chose);
  ExpectIdle(engine);
}

TEST_F(EngineTest, RecordsTheExpertsOfEveryToken) {
  Request r = Greedy(1, 12);
  r.record_experts = true;
  const model::ModelConfig& c = checkpoint_.config();
  for (const int64_t drafts : {0, 2}) {
    Engine engine(
        ctx_, transformer_,
        {.max_context = 400, .step_tokens = 200, .prefix_cache = false, .drafts = drafts, .always_draft = true});
    const Answer a = engine.Run(std::span(&r, 1)).front();
    std::vector<int32_t> all = r.prompt;
    all.insert(all.end(), a.ids.begin(), a.ids.end() - 1);
    const Trace trace = RunTrace(ctx_, transformer_, all, {});
    const int64_t layers = c.num_hidden_layers - c.first_k_dense_replace, k = c.num_experts_per_tok;
    ASSERT_GE(static_cast<int64_t>(a.experts.size()), static_cast<int64_t>(all.size()) * layers * k);
    for (size_t t = 0; t < all.size(); ++t) {
      for (int64_t l = 0; l < layers; ++l) {
        const auto& ids = trace.at("router_ids." + std::to_string(c.first_k_dense_replace + l)).i32;
        const auto from = ids.begin() + static_cast<int64_t>(t) * k;
        EXPECT_TRUE(std::equal(from, from + k, a.experts.begin() + (static_cast<int64_t>(t) * layers + l) * k))
            << "token " << t << " layer " << l;
      }
    }
  }
}

TEST_F(EngineTest, AThreadServesManyClients) {
  Engine engine(ctx_, transformer_, {.max_context = 256, .cache_tokens = 768, .max_running = 6, .drafts = 1});
  std::atomic<int> finished{0}, cancelled{0};
  constexpr int kClients = 4, kEach = 6;
  {
    EngineThread thread(engine);
    std::vector<std::thread> clients;
    for (int c = 0; c < kClients; ++c) {
      clients.emplace_back([&, c] {
        for (int i = 0; i < kEach; ++i) {
          const auto id = thread.Submit(Greedy((c + i) % 4, 20),
                                        {.on_token = {}, .on_prompt = {}, .on_finish = [&](const Answer& a) {
                                           ++(a.finish_reason == FinishReason::kCancelled ? cancelled : finished);
                                         }});
          ASSERT_TRUE(id.has_value());
          if (i % 3 == 2) thread.Cancel(*id);
        }
      });
    }
    for (std::thread& t : clients) t.join();
    EXPECT_TRUE(thread.Drain(60));
    EXPECT_FALSE(thread.Submit(Greedy(0, 5), {}).has_value());
  }
  EXPECT_EQ(finished + cancelled, kClients * kEach);
  EXPECT_GE(finished, kClients * 4);
  ExpectIdle(engine);
}

// Beside a long answer, whose listener makes steps last, a client asks again as soon as it is answered: its requests
// begin with the step behind the answer, not with the one after.
TEST_F(EngineTest, AThreadWaitsForClientsThatAskAgain) {
  constexpr int kRequests = 20, kTokens = 3;
  Engine engine(ctx_, transformer_, {.max_context = 900, .cache_tokens = 1800});
  EngineThread thread(engine);
  Listener slow;  // hears of its part of a step before others hear of their answers
  slow.on_step = [](const StepPart&) { std::this_thread::sleep_for(std::chrono::milliseconds(20)); };
  const auto background = thread.Submit(Greedy(0, 800), slow);
  ASSERT_TRUE(background.has_value());
  int64_t first = 0;
  std::vector<std::promise<void>> done(kRequests);
  for (std::promise<void>& answered : done) {
    const Listener listener{.on_token = {}, .on_prompt = {}, .on_finish = [&](const Answer&) { answered.set_value(); }};
    ASSERT_TRUE(thread.Submit(Greedy(1, kTokens), listener).has_value());
    answered.get_future().wait();
    if (&answered == &done.front()) first = thread.stats().steps;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));  // the way there and back
  }
  const int64_t steps = thread.stats().steps - first, requests = kRequests - 1;
  EXPECT_GE(steps, requests * kTokens);
  EXPECT_LE(steps, requests * kTokens + requests / 2) << "of one more for each without waiting";
  thread.Cancel(*background);
  EXPECT_TRUE(thread.Drain(60));
}

TEST_F(EngineTest, StoppingTheThreadCancelsWhatRuns) {
  Engine engine(ctx_, transformer_, {.max_context = 900, .max_waiting = 2});
  std::atomic<int> cancelled{0};
  const Listener listener{.on_token = {}, .on_prompt = {}, .on_finish = [&](const Answer& a) {
                            if (a.finish_reason == FinishReason::kCancelled) ++cancelled;
                          }};
  EngineThread thread(engine);
  Request r = Greedy(0, 800);
  ASSERT_TRUE(thread.Submit(r, listener).has_value());
  ASSERT_TRUE(thread.Submit(r, listener).has_value());
  EXPECT_FALSE(thread.Drain(0.01));
  thread.Stop();
  EXPECT_EQ(cancelled, 2);
  ExpectIdle(engine);
}

}  // namespace
}  // namespace fathom::engine
