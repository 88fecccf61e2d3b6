// An engine whose blocks go to a store: answers are the same to the bit with blocks from the disk, from memory and
// computed; nobody waits for a disk that does not answer.
#include <gtest/gtest.h>

#include <filesystem>
#include <thread>

#include "cache/disk_store.h"
#include "cache/test_blocks.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/test_folder.h"
#include "core/rng.h"
#include "engine/engine.h"
#include "engine/engine_thread.h"

namespace fathom::engine {
namespace {

constexpr int64_t kContext = 512;

struct Heard {
  std::vector<int32_t> ids;
  std::vector<float> logprobs;
  int64_t cached = 0;
  bool SameAnswer(const Heard& o) const { return ids == o.ids && logprobs == o.logprobs; }
};

class EngineBlocks : public checkpoint::FolderTest {
 protected:
  EngineBlocks() : pool_(2), ctx_{.pool = pool_, .isa = BestIsa(), .verbose = {}} {
    model::ModelConfig config = checkpoint::TinyConfig();
    config.initializer_range = 0.2;  // so that tokens differ in their logits
    checkpoint::InitCheckpoint(config, Path("model"), {.seed = 4}, pool_);
    checkpoint_.emplace(checkpoint::Open(Path("model")));
    transformer_.emplace(checkpoint_->config(), checkpoint_->params(), kContext);
  }

  std::unique_ptr<cache::DiskStore> OpenStore(int64_t queue_bytes = 64 << 20) const {
    return std::make_unique<cache::DiskStore>(
        cache::DiskStoreOptions{.directory = directory_.path(), .limit_bytes = 1 << 30, .queue_bytes = queue_bytes});
  }
  static EngineOptions Options(cache::BlockStore* store) {
    return {.max_context = kContext,
            .cache_tokens = 8 * kContext,
            .max_running = 4,
            .block_store = store,
            .model_identity = "tiny"};
  }
  // n random tokens, the first `shared` those of every other prompt.
  static Request Prompt(int64_t shared, int64_t n, uint64_t seed, double temperature = 0) {
    Request r;
    Rng common(1, 1), own(seed, 2);
    for (int64_t i = 0; i < n; ++i)
      r.prompt.push_back(3 + static_cast<int32_t>((i < shared ? common : own).NextBelow(37)));
    r.max_tokens = 40;
    r.sampling.temperature = static_cast<float>(temperature);
    r.sampling.seed = seed;
    r.logprobs = 2;
    return r;
  }
  static std::vector<Heard> Ask(Engine& engine, const std::vector<Request>& requests) {
    std::vector<Heard> heard(requests.size());
    const std::vector<Answer> answers = engine.Run(requests, [&](size_t i, const Token& t) {
      heard[i].ids.push_back(t.id);
      heard[i].logprobs.push_back(t.logprob);
      for (const auto& [id, logprob] : t.top) heard[i].logprobs.push_back(logprob);
      return true;
    });
    for (size_t i = 0; i < answers.size(); ++i) heard[i].cached = answers[i].cached_tokens;
    EXPECT_EQ(engine.stats().blocks_used, 0);
    return heard;
  }
  Heard AskNew(const EngineOptions& options, const Request& request) {
    Engine engine(ctx_, *transformer_, options);
    return Ask(engine, {request})[0];
  }

  cache::TestDirectory directory_{"engine"};
  ThreadPool pool_;
  Context ctx_;
  std::optional<checkpoint::Checkpoint> checkpoint_;
  std::optional<model::Transformer> transformer_;
};

TEST_F(EngineBlocks, AnswersAreTheSameAfterARestart) {
  struct Kind {
    model::Compute compute;
    DType cache;
    int64_t drafts;
    Verification how;
    double temperature;
    bool invariant;
  };
  for (const Kind& k : {Kind{model::Compute::kF32, DType::kF32, 0, Verification::kRejection, 0, false},
                        Kind{model::Compute::kF32, DType::kF32, 2, Verification::kRejection, 0.9, false},
                        Kind{model::Compute::kF32, DType::kBF16, 1, Verification::kCoupled, 0.9, false},
                        Kind{model::Compute::kBf16, DType::kBF16, 1, Verification::kRejection, 0, false},
                        Kind{model::Compute::kBf16, DType::kF8E4M3, 2, Verification::kCoupled, 0.7, false},
                        Kind{model::Compute::kF32, DType::kF8E4M3, 0, Verification::kCoupled, 0, false},
                        Kind{model::Compute::kF32, DType::kF32, 0, Verification::kCoupled, 0.9, true},
                        Kind{model::Compute::kBf16, DType::kBF16, 1, Verification::kCoupled, 0.9, true},
                        Kind{model::Compute::kBf16, DType::kF8E4M3, 2, Verification::kCoupled, 0, true}}) {
    SCOPED_TRACE(testing::Message() << kernels::Name(k.compute) << " " << Name(k.cache) << " drafts " << k.drafts
                                    << (k.invariant ? " invariant" : ""));
    auto store = OpenStore();
    EngineOptions options = Options(store.get());
    options.compute = k.compute;
    options.cache_dtype = k.cache;
    options.drafts = k.drafts;
    options.verification = k.how;
    options.always_draft = true;
    options.batch_invariant = k.invariant;
    const Request first = Prompt(260, 300, 1, k.temperature), second = Prompt(260, 310, 2, k.temperature);
    Heard from_memory;
    int64_t accepted_before = 0;
    {
      Engine engine(ctx_, *transformer_, options);
      EXPECT_EQ(Ask(engine, {first})[0].cached, 0);
      from_memory = Ask(engine, {second})[0];
      EXPECT_EQ(from_memory.cached, 256);
      EXPECT_EQ(engine.stats().disk_hits, 0);
      accepted_before = engine.stats().accepted;
    }
    store.reset();
    store = OpenStore();
    options.block_store = store.get();
    {
      Engine engine(ctx_, *transformer_, options);
      const Heard from_disk = Ask(engine, {second})[0];
      // All its own whole blocks but the last token's: the prompt was there before.
      EXPECT_EQ(from_disk.cached, 256);
      EXPECT_EQ(engine.stats().disk_hits, 256);
      EXPECT_TRUE(from_disk.SameAnswer(from_memory));
      EXPECT_LE(engine.stats().accepted, accepted_before);
      EXPECT_EQ(store->stats().damaged, 0);
      // What is in memory is not read again.
      Ask(engine, {first});
      EXPECT_EQ(store->stats().loaded, 4);
    }
    if (k.invariant) {
      options.block_store = nullptr;
      const Heard computed = AskNew(options, second);
      EXPECT_EQ(computed.cached, 0);
      EXPECT_TRUE(computed.SameAnswer(from_memory));
    }
    // Without drafts the same blocks serve, and the other way round.
    options.block_store = store.get();
    options.drafts = k.drafts == 0 ? 1 : 0;
    EXPECT_EQ(AskNew(options, Prompt(260, 320, 3, k.temperature)).cached, 256);
    store.reset();
    std::filesystem::remove_all(directory_.path());
  }
}

TEST_F(EngineBlocks, ConversationsGoOn) {
  auto store = OpenStore();
  Request turn = Prompt(100, 200, 5);
  Engine before(ctx_, *transformer_, Options(store.get()));
  const Heard said = Ask(before, {turn})[0];
  store->Flush();
  turn.prompt.insert(turn.prompt.end(), said.ids.begin(), said.ids.end());
  turn.prompt.push_back(7);
  Engine after(ctx_, *transformer_, Options(store.get()));
  // 239 tokens of the first turn were in the cache: its last has no row.
  EXPECT_EQ(Ask(after, {turn})[0].cached, 192);
  EXPECT_EQ(after.stats().disk_queries, 192);
}

TEST_F(EngineBlocks, WhateverRowsDependOnKeepsThemApart) {
  auto store = OpenStore();
  const Request r = Prompt(0, 200, 1);
  AskNew(Options(store.get()), r);
  store->Flush();
  EXPECT_EQ(AskNew(Options(store.get()), r).cached, 192);
  const auto expect_none = [&](const char* what, auto change) {
    EngineOptions o = Options(store.get());
    Request other = r;
    Context ctx = ctx_;
    change(o, other, ctx);
    Engine engine(ctx, *transformer_, o);
    EXPECT_EQ(Ask(engine, {other})[0].cached, 0) << what;
  };
  expect_none("model", [](auto& o, auto&, auto&) { o.model_identity = "tinier"; });
  expect_none("rows", [](auto& o, auto&, auto&) { o.cache_dtype = DType::kBF16; });
  expect_none("arithmetic", [](auto& o, auto&, auto&) { o.compute = model::Compute::kBf16; });
  expect_none("form", [](auto& o, auto&, auto&) { o.batch_invariant = true; });
  expect_none("kernels", [](auto&, auto&, auto& ctx) { ctx.isa = Isa::kReference; });
  expect_none("scope", [](auto&, auto& other, auto&) { other.cache_scope = 9; });
  expect_none("first token", [](auto&, auto& other, auto&) { other.prompt[0] ^= 1; });
  expect_none("log-probabilities of the prompt", [](auto&, auto& other, auto&) { other.prompt_logprobs = true; });
  expect_none("no prefix cache", [](auto& o, auto&, auto&) { o.prefix_cache = false; });
}

// Prompts that begin alike, in a memory that holds one or two of the longest, over several restarts: all that is
// computed, evicted, preempted, stored and loaded leaves the answers as they are.
TEST_F(EngineBlocks, AnswersDoNotDependOnWhatIsStored) {
  Rng rng(17);
  std::vector<Request> requests;
  for (uint64_t i = 0; i < 24; ++i)
    requests.push_back(Prompt(64 * (1 + rng.NextBelow(4)), 60 + rng.NextBelow(300), i / 2, i % 3 == 0 ? 0 : 0.9));
  for (Request& r : requests) r.max_tokens = 100;
#ifdef __SANITIZE_ADDRESS__
  const std::vector<int64_t> all = {1};  // sanitizers take twelve times the time
#else
  const std::vector<int64_t> all = {0, 1};
#endif
  for (const int64_t drafts : all) {
    EngineOptions options = Options(nullptr);
    options.batch_invariant = true;
    options.cache_tokens = kContext;
    options.drafts = drafts;
    options.always_draft = true;
    std::vector<Heard> expected;
    {
      Engine engine(ctx_, *transformer_, options);
      expected = Ask(engine, requests);
    }
    int64_t hits = 0, preemptions = 0;
    for (int run = 0; run < 3; ++run) {
      auto store = OpenStore(run == 0 ? 200'000 : 64 << 20);  // at first its queue is too short
      options.block_store = store.get();
      Engine engine(ctx_, *transformer_, options);
      const std::vector<Heard> heard = Ask(engine, requests);
      for (size_t i = 0; i < requests.size(); ++i) EXPECT_TRUE(heard[i].SameAnswer(expected[i])) << "request " << i;
      hits += engine.stats().disk_hits;
      preemptions += engine.stats().preemptions;
      EXPECT_EQ(store->stats().damaged, 0);
    }
    EXPECT_GT(hits, 6 * 64);
    EXPECT_GT(preemptions, 0);
    std::filesystem::remove_all(directory_.path());
  }
}

// A store that says that it has everything, and gives nothing.
class SilentStore : public cache::BlockStore {
 public:
  class Silence : public cache::BlockLoad {
   public:
    std::optional<std::vector<std::byte>> Take() override { return std::nullopt; }
    bool Ended() const override { return false; }
    void Wait(double seconds) override { std::this_thread::sleep_for(std::chrono::duration<double>(seconds)); }
  };
  int64_t Find(std::span<const cache::BlockKey> keys) const override { return static_cast<int64_t>(keys.size()); }
  std::shared_ptr<cache::BlockLoad> Load(std::vector<cache::BlockKey>) override {
    ++loads;
    return std::make_shared<Silence>();
  }
  void Touch(const cache::BlockKey&) override {}
  bool Put(const cache::BlockKey&, const cache::BlockKey*, std::span<const std::byte>) override { return false; }
  double ReadSeconds(int64_t) const override { return read_seconds; }
  cache::StoreStats stats() const override { return {}; }

  int loads = 0;
  double read_seconds = 0;
};

TEST_F(EngineBlocks, NobodyWaitsForADiskThatDoesNotAnswer) {
  SilentStore silent;
  EngineOptions options = Options(nullptr);
  options.batch_invariant = true;
  const Request r = Prompt(0, 200, 1), brief = Prompt(0, 50, 2);
  const Heard expected = AskNew(options, r), expected_brief = AskNew(options, brief);
  options.block_store = &silent;
  Engine engine(ctx_, *transformer_, options);
  std::vector<char> ended;
  const auto add = [&](const Request& request, char name) {
    Listener l;
    l.on_finish = [&ended, name](const Answer&) { ended.push_back(name); };
    return engine.Add(request, l);
  };
  add(r, 'l');
  add(brief, 'b');  // has no whole block to ask for
  const auto begin = std::chrono::steady_clock::now();
  while (engine.Step()) {
  }
  EXPECT_EQ(ended, (std::vector<char>{'b', 'l'}));
  EXPECT_EQ(engine.stats().disk_late, 1);
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(30));
  EXPECT_TRUE(Ask(engine, {brief})[0].SameAnswer(expected_brief));
  // From now on it is known what computing takes: the patience is shorter. Answers are as ever.
  const auto known = std::chrono::steady_clock::now();
  EXPECT_EQ(Ask(engine, {Prompt(0, 300, 3)})[0].cached, 0);
  EXPECT_EQ(engine.stats().disk_late, 2);
  EXPECT_LT(std::chrono::steady_clock::now() - known, std::chrono::seconds(2));
  EXPECT_TRUE(Ask(engine, {r})[0].SameAnswer(expected));
  // Two that begin alike: the second waits for the first and then finds its blocks.
  Request alike = Prompt(0, 300, 4);
  const std::vector<Heard> two = Ask(engine, {alike, alike});
  EXPECT_EQ(two[0].cached, 0);
  EXPECT_EQ(two[1].cached, 256);
  EXPECT_TRUE(two[0].SameAnswer(two[1]));
  // A disk slower than computing is not asked, but for a try now and then.
  silent.read_seconds = 1000;
  silent.loads = 0;
  for (uint64_t i = 0; i < 15; ++i) Ask(engine, {Prompt(0, 100, 100 + i)});
  EXPECT_EQ(silent.loads, 0);
  Ask(engine, {Prompt(0, 100, 200)});
  EXPECT_EQ(silent.loads, 1);
}

TEST_F(EngineBlocks, ThreadCancelsWhileItWaitsForBlocks) {
  SilentStore silent;
  Engine engine(ctx_, *transformer_, Options(&silent));
  EngineThread thread(engine);
  std::atomic<int> cancelled{0};
  std::vector<RequestId> ids;
  for (uint64_t i = 0; i < 8; ++i) {  // more than load at once
    Listener l;
    l.on_finish = [&](const Answer& a) { cancelled += a.finish_reason == FinishReason::kCancelled ? 1 : 0; };
    ids.push_back(thread.Submit(Prompt(0, 200, i), l).value());
  }
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  for (RequestId id : ids) thread.Cancel(id);
  EXPECT_TRUE(thread.Drain(60));
  EXPECT_GE(cancelled, 1);
}

}  // namespace
}  // namespace fathom::engine
