// Keys and their limits, the ledger of what they use, and the small parts of a hub of models.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <thread>

#include "server/access_log.h"
#include "server/api_error.h"
#include "server/api_keys.h"
#include "server/key_file.h"
#include "server/model_hub.h"
#include "server/request_trace.h"
#include "server/test_error.h"
#include "server/usage_ledger.h"

namespace fathom::server {
namespace {

namespace fs = std::filesystem;
using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::HasSubstr;

class Folder {
 public:
  Folder() {
    std::string pattern = (fs::temp_directory_path() / "fathom_ops_XXXXXX").string();
    path_ = mkdtemp(pattern.data());
  }
  ~Folder() { fs::remove_all(path_); }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  std::string operator/(const std::string& name) const { return (path_ / name).string(); }

 private:
  fs::path path_;
};

std::string Reason(const std::string& text, const std::string& path) {
  const Result<std::vector<KeyEntry>> keys = ParseKeys(text, path);
  return keys.ok() ? "" : keys.error().what();
}

TEST(KeyFile, EveryForm) {
  const std::string hash = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";  // of "secret"
  const auto lines = ParseKeys("# a comment\n\n plain \r\n{\"name\": \"alice\", \"sha256\": \"" + hash +
                                   "\", \"requests_per_minute\": 6, \"tokens_per_minute\": 100, \"concurrent\": 2}\n",
                               "keys")
                         .Value();
  ASSERT_EQ(lines.size(), 2u);
  EXPECT_EQ(lines[0].name, "key-1");
  EXPECT_EQ(lines[0].digest, io::Sha256("plain"));
  EXPECT_EQ(lines[1].name, "alice");
  EXPECT_EQ(lines[1].digest, io::Sha256("secret"));
  EXPECT_EQ(lines[1].limits.requests_per_minute, 6);
  EXPECT_EQ(lines[1].limits.tokens_per_minute, 100);
  EXPECT_EQ(lines[1].limits.concurrent, 2);
  const auto toml =
      ParseKeys(
          "[[key]]\nname = 'bob'\nkey = 'k'\nadmin = true\ntokens-per-minute = 7\n[[key]]\nsha256 = '" + hash + "'\n",
          "keys.toml")
          .Value();
  ASSERT_EQ(toml.size(), 2u);
  EXPECT_TRUE(toml[0].admin);
  EXPECT_EQ(toml[0].limits.tokens_per_minute, 7);
  EXPECT_EQ(toml[1].name, "key-2");
}

TEST(KeyFile, WhatIsWrongIsNamed) {
  EXPECT_THAT(Reason("a\n{\"key\": \"b\", \"limit\": 3}\n", "f"), HasSubstr("f: line 2: limit"));
  EXPECT_THAT(Reason("{\"key\": \"b\"", "f"), HasSubstr("f: line 1"));
  EXPECT_THAT(Reason("{\"name\": \"b\"}", "f"), HasSubstr("missing"));
  EXPECT_THAT(Reason("{\"key\": \"b\", \"sha256\": \"00\"}", "f"), HasSubstr("sha256"));
  EXPECT_THAT(Reason("{\"key\": \"b\", \"concurrent\": -1}", "f"), HasSubstr("concurrent"));
  EXPECT_THAT(Reason("a\na\n", "f"), HasSubstr("twice"));
  EXPECT_THAT(Reason("{\"key\": \"b\", \"name\": \"key-2\"}\nother", "f"), HasSubstr("key-2"));
  EXPECT_THAT(Reason("[[key]]\nname = 3\n", "f.toml"), HasSubstr("line 1: name"));
  EXPECT_THAT(Reason("[other]\n", "f.toml"), HasSubstr("other"));
  EXPECT_THAT(Reason("[[key", "f.toml"), HasSubstr("valid TOML"));
  EXPECT_TRUE(ParseKeys("", "f").ok());
}

ApiError AdmissionError(KeyAccount& account, KeyAccount::Time now) {
  return ErrorOf([&] { account.Admit(now); });
}

KeyAccount Account(KeyLimits limits, KeyAccount::Time now) {
  KeyEntry entry = KeyOf("k", "k");
  entry.limits = limits;
  return KeyAccount(entry, now);
}

TEST(KeyLimitsTest, RequestsComeBackEvenly) {
  const KeyAccount::Time start{};
  KeyAccount account = Account({.requests_per_minute = 6}, start);
  for (int i = 0; i < 6; ++i) EXPECT_EQ(AdmissionError(account, start).status, 0);
  const ApiError e = AdmissionError(account, start + seconds(3));
  EXPECT_EQ(e.status, 429);
  EXPECT_EQ(e.code, "rate_limit_exceeded");
  EXPECT_EQ(e.retry_after, 7);  // one comes back every ten seconds
  EXPECT_EQ(AdmissionError(account, start + seconds(10)).status, 0);
  EXPECT_EQ(AdmissionError(account, start + seconds(11)).status, 429);
  EXPECT_EQ(account.Look(start + seconds(600)).requests_left, 6);  // never more than a minute's
  EXPECT_EQ(account.Look(start + seconds(600)).refused, 2);
}

TEST(KeyLimitsTest, TokensThatWereTooManyArePaidBack) {
  const KeyAccount::Time start{};
  KeyAccount account = Account({.tokens_per_minute = 60}, start);
  account.Admit(start);
  account.Finish(180, start);  // known at the end only
  EXPECT_EQ(AdmissionError(account, start).retry_after, 121);
  EXPECT_EQ(AdmissionError(account, start + seconds(120)).status, 429);
  EXPECT_EQ(AdmissionError(account, start + seconds(121)).status, 0);
  net::Headers headers;
  account.AppendHeaders(headers, start + seconds(121));
  EXPECT_EQ(net::Find(headers, "x-ratelimit-limit-tokens"), "60");
  EXPECT_EQ(net::Find(headers, "x-ratelimit-remaining-tokens"), "1");
  EXPECT_EQ(net::Find(headers, "x-ratelimit-reset-tokens"), "59s");
  EXPECT_EQ(net::Find(headers, "x-ratelimit-limit-requests"), "");
}

TEST(KeyLimitsTest, RequestsAtOnce) {
  const KeyAccount::Time start{};
  KeyAccount account = Account({.concurrent = 1}, start);
  account.Admit(start);
  EXPECT_EQ(AdmissionError(account, start).status, 429);
  account.Finish(5, start);
  EXPECT_EQ(AdmissionError(account, start).status, 0);
}

TEST(KeyLimitsTest, DurationsAreWrittenAsOpenAisAre) {
  EXPECT_EQ(DurationText(0), "0ms");
  EXPECT_EQ(DurationText(0.0205), "21ms");
  EXPECT_EQ(DurationText(59.2), "1m0s");
  EXPECT_EQ(DurationText(361), "6m1s");
}

TEST(ApiKeysSet, ReplacingKeepsWhatStays) {
  ApiKeys keys(std::vector<std::string>{});
  const net::Headers alice = {{"Authorization", "Bearer a"}}, bob = {{"x-api-key", "b"}};
  EXPECT_FALSE(keys.required());
  EXPECT_EQ(keys.Find(alice)->name(), "anonymous");
  KeyEntry a = KeyOf("a", "alice");
  a.limits.requests_per_minute = 2;
  keys.Set({a, KeyOf("b", "bob")});
  const ApiKeys copy = keys;
  EXPECT_TRUE(copy.required());
  EXPECT_EQ(copy.Find(bob)->name(), "bob");
  copy.Find(alice)->Admit();
  a.limits.requests_per_minute = 1;
  keys.Set({a});
  EXPECT_EQ(copy.Find(bob), nullptr);
  EXPECT_THROW(copy.Find(alice)->Admit(), ApiError) << "what was used before counts";
  EXPECT_EQ(copy.Look().front().running, 1);
  keys.Set({KeyOf("root", "root", /*admin=*/true)});
  EXPECT_FALSE(keys.required()) << "an admin's key closes nothing";
  EXPECT_TRUE(keys.has_admin());
}

UsageSums Sums(int64_t n) {
  return {.requests = 1, .errors = 0, .prompt_tokens = n, .cached_tokens = n / 2, .completion_tokens = 2 * n};
}

TEST(UsageLedgerTest, SumsByDayKeyAndModel) {
  const Folder folder;
  constexpr double kDay = 86400;
  for (int run = 0; run < 2; ++run) {
    UsageLedger ledger({.path = folder / "usage.db", .warn = {}});
    ledger.Add(0.5, "alice", "m", Sums(10));
    ledger.Add(kDay - 0.5, "alice", "m", Sums(20));
    ledger.Add(kDay, "alice", "m", Sums(1));
    ledger.Add(kDay, "bob 'quoted'\n", "m", Sums(2));
    EXPECT_EQ(ledger.Since().size(), 2u);
  }
  const std::vector<UsageRow> rows = ReadUsage(folder / "usage.db");
  ASSERT_EQ(rows.size(), 3u);
  EXPECT_EQ(rows[0].day, "1970-01-01");
  EXPECT_EQ(rows[0].sums.requests, 4);
  EXPECT_EQ(rows[0].sums.prompt_tokens, 60);
  EXPECT_EQ(rows[0].sums.cached_tokens, 30);
  EXPECT_EQ(rows[0].sums.completion_tokens, 120);
  EXPECT_EQ(rows[2].key, "bob 'quoted'\n");
  EXPECT_EQ(ReadUsage(folder / "usage.db", "1970-01-02").size(), 2u);
  EXPECT_THROW(ReadUsage(folder / "none.db"), Error);
  EXPECT_FALSE(fs::exists(folder / "none.db"));
}

TEST(UsageLedgerTest, WhatIsWrittenSurvivesAKill) {
  const Folder folder;
  const std::string path = folder / "usage.db";
  int ready[2];
  ASSERT_EQ(pipe(ready), 0);
  const pid_t child = fork();
  if (child == 0) {
    UsageLedger ledger({.path = path, .write_seconds = 0.01, .warn = {}});
    for (int i = 0; i < 100; ++i) ledger.Add(1, "k", "m", Sums(1));
    ledger.Flush();
    if (write(ready[1], "x", 1) != 1) _exit(1);
    while (true) ledger.Add(1, "k", "m", Sums(1));
  }
  char c = 0;
  ASSERT_EQ(read(ready[0], &c, 1), 1);
  std::this_thread::sleep_for(milliseconds(50));
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  const std::vector<UsageRow> rows = ReadUsage(path);
  ASSERT_EQ(rows.size(), 1u);
  EXPECT_GE(rows[0].sums.requests, 100);
  EXPECT_EQ(rows[0].sums.completion_tokens, 2 * rows[0].sums.requests) << "a transaction is whole";
  UsageLedger again({.path = path, .warn = {}});
  again.Add(1, "k", "m", Sums(1));
  again.Flush();
  EXPECT_EQ(ReadUsage(path)[0].sums.requests, rows[0].sums.requests + 1);
}

TEST(UsageLedgerTest, DamageStopsTheAccountingAlone) {
  const Folder folder;
  const std::string path = folder / "usage.db";
  std::ofstream(path) << std::string(8192, 'x');
  std::atomic<int> warnings{0};
  UsageLedger ledger({.path = path, .retry_seconds = 0.02, .warn = [&](const std::string&) { ++warnings; }});
  ledger.Add(1, "k", "m", Sums(1));
  for (int i = 0; i < 5; ++i) ledger.Flush();
  EXPECT_FALSE(ledger.Look().up);
  EXPECT_GE(ledger.Look().failures, 5);
  EXPECT_EQ(warnings, 1) << "once";
  EXPECT_EQ(ledger.Look().waiting, 1);
  fs::rename(path, folder / "damaged.db");
  ledger.Reopen();
  EXPECT_TRUE(ledger.Look().up);
  EXPECT_EQ(ReadUsage(path).front().sums.requests, 1) << "nothing was lost";
}

// A limit on the size of files is met by writes as a full disk is.
TEST(UsageLedgerTest, AFullDiskStopsTheAccountingAlone) {
  const Folder folder;
  const std::string path = folder / "usage.db";
  constexpr int kKeys = 3000;
  std::atomic<int> warnings{0};
  UsageLedger ledger(
      {.path = path, .write_seconds = 60, .retry_seconds = 60, .warn = [&](const std::string&) { ++warnings; }});
  ledger.Add(1, "before", "m", Sums(1));
  ledger.Flush();
  ASSERT_TRUE(ledger.Look().up);
  rlimit usual{};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &usual), 0);
  const auto ignored = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit small{.rlim_cur = 64 << 10, .rlim_max = usual.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  for (int i = 0; i < kKeys; ++i) ledger.Add(1, "key-" + std::to_string(i), "m", Sums(1));
  ledger.Flush();
  EXPECT_FALSE(ledger.Look().up);
  EXPECT_EQ(warnings, 1);
  EXPECT_EQ(ledger.Look().waiting, kKeys);
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &usual), 0);
  std::signal(SIGXFSZ, ignored);
  ledger.Flush();
  EXPECT_TRUE(ledger.Look().up);
  EXPECT_EQ(ReadUsage(path).size(), static_cast<size_t>(kKeys + 1)) << "what was counted meanwhile is there";
}

std::string TextOf(const std::string& path) {
  std::ifstream in(path);
  return {std::istreambuf_iterator<char>(in), {}};
}

TEST(RequestTraceTest, IsJsonAtItsEnd) {
  const Folder folder;
  const auto now = std::chrono::steady_clock::now();
  {
    RequestTrace trace(folder / "trace.json");
    const int64_t engine = trace.NewTrack(), a = trace.NewTrack(), b = trace.NewTrack();
    trace.NameTrack(a, "a \"name\"\n");
    trace.Span(a, "read", now, now + milliseconds(2), R"("x":1)");
    engine::StepPart part{
        .kind = engine::StepPart::Kind::kPrompt, .begin = now, .end = now + milliseconds(1), .tokens = 7, .rows = 9};
    trace.Step(engine, a, part);
    trace.Step(engine, b, part);
    part.begin += milliseconds(1);
    part.kind = engine::StepPart::Kind::kDecode;
    trace.Step(engine, b, part);
    part.kind = engine::StepPart::Kind::kDraft;
    trace.Step(engine, b, part);
    { const TraceScope scope(&trace, b, "write"); }
    { const TraceScope nothing(nullptr, b, "write"); }
  }
  const nlohmann::json events = nlohmann::json::parse(TextOf(folder / "trace.json"));
  std::map<std::string, int> names;
  for (const auto& e : events) {
    if (e["ph"] == "X") ++names[e["name"].get<std::string>()];
    if (e["name"] == "read") {
      EXPECT_NEAR(e["dur"].get<double>(), 2000, 0.1);
    }
  }
  EXPECT_EQ(names, (std::map<std::string, int>{
                       {"read", 1}, {"prefill", 2}, {"step", 2}, {"decode", 1}, {"draft", 1}, {"write", 1}}));
  EXPECT_THROW(RequestTrace("/nonexistent-folder/trace"), Error);
}

TEST(RequestTraceTest, EndsAtItsLimit) {
  const Folder folder;
  constexpr int64_t kLimit = 4000;
  {
    RequestTrace trace(folder / "trace.json", kLimit);
    const auto now = std::chrono::steady_clock::now();
    for (int i = 0; i < 1000; ++i) trace.Span(1, "decode", now, now);
    EXPECT_GT(trace.dropped(), 900);
  }
  EXPECT_LT(fs::file_size(folder / "trace.json"), kLimit + 200);
  EXPECT_NO_THROW(nlohmann::json::parse(TextOf(folder / "trace.json")));
}

TEST(AccessLogReopen, BeginsANewFile) {
  const Folder folder;
  AccessEntry entry;
  entry.path = "/first";
  {
    AccessLog log(folder / "log");
    log.Add(entry);
    while (TextOf(folder / "log").empty()) std::this_thread::sleep_for(milliseconds(1));
    fs::rename(folder / "log", folder / "old");
    log.Reopen();
    while (!fs::exists(folder / "log")) std::this_thread::sleep_for(milliseconds(1));
    entry.path = "/second";
    log.Add(entry);
  }
  EXPECT_THAT(TextOf(folder / "old"), HasSubstr("/first"));
  EXPECT_THAT(TextOf(folder / "old"), testing::Not(HasSubstr("/second")));
  EXPECT_THAT(TextOf(folder / "log"), HasSubstr("/second"));
}

TEST(ModelOfTest, TheOutermostObjectsModel) {
  EXPECT_EQ(ModelOf(R"({"model": "a", "x": )"), "a") << "read no further than needed";
  EXPECT_EQ(ModelOf(R"({"messages": [{"model": "no"}], "o": {"model": "no"}, "model": "yes"})"), "yes");
  for (const char* none : {"", "[{\"model\": \"a\"}]", "{\"model\": 3}", "{\"model\": [\"a\"]}",
                           "{\"model\": {\"model\": \"a\"}}", "\"model\"", "{\"x\": \"model\"}", "{", "\xff"}) {
    EXPECT_EQ(ModelOf(none), "") << none;
  }
  EXPECT_EQ(ModelOf(std::string(100'000, '[')), "");
  std::string deep = "{\"x\":";
  for (int i = 0; i < 100'000; ++i) deep += "[";
  EXPECT_EQ(ModelOf(deep), "") << "without recursion";
}

TEST(DialectOfTest, IsThatOfTheRoute) {
  for (const char* path : {"/v1/messages", "/anthropic/v1/messages/count_tokens"}) {
    EXPECT_EQ(Server::DialectOf(path), Dialect::kAnthropic) << path;
  }
  for (const char* path : {"/chat/completions", "/beta/completions", "/models", "/user/balance"}) {
    EXPECT_EQ(Server::DialectOf(path), Dialect::kDeepSeek) << path;
  }
  for (const char* path :
       {"/v1/chat/completions", "/v1/models/messages", "/v1/models", "/tokenize", "/none", "/", ""}) {
    EXPECT_EQ(Server::DialectOf(path), Dialect::kOpenAi) << path;
  }
}

TEST(JoinExpositionsTest, AFamilyIsThereOnce) {
  const std::string a = "# HELP x h\n# TYPE x counter\nx{m=\"a\"} 1\n# HELP y h\n# TYPE y gauge\ny 2\n";
  const std::string b = "# HELP x h\n# TYPE x counter\nx{m=\"b\"} 3\n# HELP z h\n# TYPE z gauge\nz 4";
  EXPECT_EQ(JoinExpositions({a, b}),
            "# HELP x h\n# TYPE x counter\nx{m=\"a\"} 1\nx{m=\"b\"} 3\n# HELP y h\n# TYPE y gauge\ny 2\n"
            "# HELP z h\n# TYPE z gauge\nz 4");
  EXPECT_EQ(JoinExpositions({}), "");
}

}  // namespace
}  // namespace fathom::server
