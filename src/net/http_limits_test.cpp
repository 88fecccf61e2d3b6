// What clients must not be able to do: malformed requests, too much of anything, and withholding bytes either way.
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <atomic>
#include <mutex>
#include <nlohmann/json.hpp>
#include <vector>

#include "core/machine.h"
#include "net/http_server.h"
#include "net/request_reader.h"
#include "net/test_client.h"

namespace fathom::net {
namespace {

using Clock = std::chrono::steady_clock;

double Since(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

void Ok(HttpRequest request, std::shared_ptr<Exchange> exchange) {
  exchange->Send({.status = 200, .headers = {}, .body = std::to_string(request.body.size())});
}

// An answer in OpenAI's form that ends the connection in order: nothing of it is lost although the server has not read
// all that was sent.
void ExpectRefusal(TestClient& client, int status) {
  const std::string answer = client.ReceiveAll();
  EXPECT_TRUE(Begins(answer, "HTTP/1.1 " + std::to_string(status) + " ")) << answer;
  EXPECT_NE(answer.find("Connection: close\r\n"), std::string::npos) << answer;
  EXPECT_TRUE(client.ended() && !client.reset());
  const size_t body = answer.find("\r\n\r\n");
  ASSERT_NE(body, std::string::npos);
  const nlohmann::json j = nlohmann::json::parse(answer.substr(body + 4), nullptr, /*allow_exceptions=*/false);
  ASSERT_TRUE(j.is_object() && j.contains("error")) << answer;
  EXPECT_TRUE(j["error"]["message"].is_string() && j["error"]["type"].is_string()) << answer;
  EXPECT_TRUE(j["error"]["param"].is_null() && j["error"]["code"].is_null()) << answer;
}

TEST(HttpLimits, MalformedRequests) {
  std::atomic<int> handled = 0;
  HttpServer server(AnyPort(), [&](HttpRequest, std::shared_ptr<Exchange>) { ++handled; });
  server.Start();
  const std::string host = "Host: x\r\n";
  for (const std::string& request : std::vector<std::string>{
           std::string("nonsense\r\n\r\n"),
           std::string("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 15),  // TLS where there is none
           "GET / HTTP/2.0\r\n" + host + "\r\n",
           "GET /\r\n" + host + "\r\n",
           "GET / HTTP/1.1\r\n\r\n",                     // no Host
           "GET / HTTP/1.1\r\n" + host + host + "\r\n",  // two
           "GET / HTTP/1.1\r\n" + host + "Bad Name: x\r\n\r\n",
           "GET / HTTP/1.1\r\n" + host + "A: \x01\r\n\r\n",
           "GET /%zz HTTP/1.1\r\n" + host + "\r\n",
           "GET /%00 HTTP/1.1\r\n" + host + "\r\n",
           "GET x HTTP/1.1\r\n" + host + "\r\n",
           "POST / HTTP/1.1\r\n" + host + "Content-Length: -1\r\n\r\n",
           "POST / HTTP/1.1\r\n" + host + "Content-Length: 1\r\nContent-Length: 2\r\n\r\nab",
           "POST / HTTP/1.1\r\n" + host + "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
           "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n0\r\n\r\n",
           "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: gzip\r\n\r\n",
           "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
           "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\nxyz\r\n",
           "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n",
           "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n",
       }) {
    SCOPED_TRACE(request);
    TestClient client(server.port());
    client.Send(request);
    ExpectRefusal(client, 400);
  }
  EXPECT_EQ(handled, 0);
}

TEST(HttpLimits, HeadsAndBodiesTooLarge) {
  HttpServerOptions options = AnyPort();
  options.max_head_bytes = 4 << 10;
  options.max_body_bytes = 100 << 10;
  HttpServer server(options, Ok);
  server.Start();
  {
    TestClient client(server.port());
    client.Send("GET / HTTP/1.1\r\nHost: x\r\nA: " + std::string(5 << 10, 'a') + "\r\n\r\n");
    ExpectRefusal(client, 431);
  }
  {
    TestClient client(server.port());
    client.Send("GET /" + std::string(8 << 10, 'a'));  // not even a line
    ExpectRefusal(client, 431);
  }
  {
    TestClient client(server.port());  // refused by its length, but the client sends on before it reads
    client.Send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2000000\r\n\r\n");
    client.Send(std::string(2000000, 'b'));
    ExpectRefusal(client, 413);
  }
  {
    TestClient client(server.port());  // Expect: the body is never asked for
    client.Send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2000000\r\nExpect: 100-continue\r\n\r\n");
    ExpectRefusal(client, 413);
  }
  {
    TestClient client(server.port());  // the length is not known before
    client.Send("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
    for (int i = 0; i < 11; ++i) client.Send("2800\r\n" + std::string(0x2800, 'c') + "\r\n");
    ExpectRefusal(client, 413);
  }
  {
    TestClient client(server.port());  // a chunk's extension counts as part of no body
    client.Send("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1;x=" + std::string(80 << 10, 'c'));
    ExpectRefusal(client, 400);
  }
  TestClient client(server.port());
  const std::string fits(100 << 10, 'd');
  const std::string answer = client.Ask("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 102400\r\n\r\n" + fits);
  EXPECT_TRUE(Begins(answer, "HTTP/1.1 200")) << answer;
  EXPECT_NE(answer.find("\r\n\r\n102400"), std::string::npos);
}

// A few that each stay within the limit of one body must not take all memory together.
TEST(HttpLimits, BodiesOfManyTogether) {
  HttpServerOptions options = AnyPort();
  options.max_bodies_bytes = 1 << 20;
  HttpServer server(options, Ok);
  server.Start();
  const std::string head = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 800000\r\n\r\n";
  for (int round = 0; round < 3; ++round) {  // what was counted is counted off again, however a request ends
    std::vector<TestClient> clients;
    for (int i = 0; i < 2; ++i) {
      clients.emplace_back(server.port());
      clients[static_cast<size_t>(i)].Send(head + std::string(700000, 'x'));
    }
    // One of the two crosses the limit; the other has room then.
    size_t refused = 2;
    ASSERT_TRUE(Eventually([&] {
      for (size_t i = 0; i < 2 && refused == 2; ++i) {
        if (clients[i].Readable()) refused = i;
      }
      return refused < 2;
    }));
    ExpectRefusal(clients[refused], 503);
    if (round == 0) continue;  // the other one breaks off
    TestClient& other = clients[1 - refused];
    other.Send(std::string(100000, 'x'));
    EXPECT_NE(other.ReceiveUntil("\r\n\r\n800000").find("\r\n\r\n800000"), std::string::npos);
  }
}

// A byte every 50 ms is not enough for a head.
TEST(HttpLimits, SlowHead) {
  HttpServerOptions options = AnyPort();
  options.head_seconds = 0.4;
  HttpServer server(options, Ok);
  server.Start();
  TestClient client(server.port());
  const auto begin = Clock::now();
  for (const char c : std::string("GET / HTTP/1.1\r\nHost: x\r\n")) {
    if (!client.Send({&c, 1}) || Since(begin) > 0.6) break;
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  ExpectRefusal(client, 408);
  EXPECT_GE(Since(begin), 0.4);
}

TEST(HttpLimits, SlowBody) {
  HttpServerOptions options = AnyPort();
  options.body_seconds = 0.6;
  HttpServer server(options, Ok);
  server.Start();
  {
    TestClient client(server.port());
    const auto begin = Clock::now();
    client.Send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nonly this");
    ExpectRefusal(client, 408);
    EXPECT_GE(Since(begin), 0.6);
  }
  {
    // Always progress, but ten bytes a second: far below what any network gives.
    TestClient client(server.port());
    const auto begin = Clock::now();
    client.Send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n");
    while (Since(begin) < 0.8 && client.Send("x")) std::this_thread::sleep_for(std::chrono::milliseconds(100));
    ExpectRefusal(client, 408);
  }
  TestClient client(server.port());  // 400 KB over more than body_seconds is in order
  client.Send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 409600\r\n\r\n");
  const auto begin = Clock::now();
  for (int i = 0; i < 10; ++i) {
    client.Send(std::string(40960, 'x'));
    std::this_thread::sleep_for(std::chrono::milliseconds(90));
  }
  EXPECT_GE(Since(begin), 0.8);
  EXPECT_NE(client.ReceiveUntil("409600").find("409600"), std::string::npos);
}

TEST(HttpLimits, IdleConnectionsEndWithoutAWord) {
  HttpServerOptions options = AnyPort();
  options.idle_seconds = 0.2;
  HttpServer server(options, Ok);
  server.Start();
  TestClient fresh(server.port()), used(server.port());
  EXPECT_TRUE(Begins(used.Ask("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), "HTTP/1.1 200"));
  used.Forget();
  EXPECT_EQ(fresh.ReceiveAll(), "");
  EXPECT_EQ(used.ReceiveAll(), "");
  EXPECT_TRUE(fresh.ended() && used.ended());
}

// A stream that is silent for longer than any time limit lives on: the model may need that long.
TEST(HttpLimits, SilentAnswersHaveNoTimeLimit) {
  HttpServerOptions options = AnyPort();
  options.head_seconds = options.body_seconds = options.idle_seconds = options.write_seconds = 0.4;
  std::mutex mutex;
  std::shared_ptr<Exchange> exchange;
  HttpServer server(options, [&](HttpRequest, std::shared_ptr<Exchange> e) {
    std::lock_guard lock(mutex);
    exchange = std::move(e);
  });
  server.Start();
  TestClient client(server.port());
  client.Send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
  std::this_thread::sleep_for(std::chrono::milliseconds(700));
  std::lock_guard lock(mutex);
  ASSERT_TRUE(exchange);
  exchange->Begin({.status = 200, .headers = {}, .body = "a"});
  std::this_thread::sleep_for(std::chrono::milliseconds(700));
  EXPECT_FALSE(exchange->gone());
  exchange->Write("b");
  exchange->End();
  EXPECT_NE(client.ReceiveUntil("0\r\n\r\n").find("b\r\n0"), std::string::npos);
  exchange.reset();
}

TEST(HttpLimits, AClientThatDoesNotReadAStream) {
  HttpServerOptions options = AnyPort();
  options.max_unsent_bytes = 1 << 20;
  std::atomic<int> gone = 0;
  std::mutex mutex;
  std::shared_ptr<Exchange> exchange;
  HttpServer server(options, [&](HttpRequest, std::shared_ptr<Exchange> e) {
    e->OnGone([&] { ++gone; });
    e->Begin({.status = 200, .headers = {}, .body = ""});
    std::lock_guard lock(mutex);
    exchange = std::move(e);
  });
  server.Start();
  TestClient client(server.port(), /*receive_buffer=*/4096);
  client.Send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
  ASSERT_TRUE(Eventually([&] {
    std::lock_guard lock(mutex);
    return exchange != nullptr;
  }));
  int64_t written = 0;
  while (gone == 0 && written < (64 << 20)) {
    exchange->Write(std::string(64 << 10, 'x'));
    written += 64 << 10;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  EXPECT_EQ(gone, 1);
  EXPECT_GT(written, 1 << 20);
  EXPECT_LT(written, 32 << 20);  // the limit and what the system buffers
  exchange.reset();
}

TEST(HttpLimits, AClientThatDoesNotReadAnAnswer) {
  HttpServerOptions options = AnyPort();
  options.write_seconds = 1;
  std::atomic<int> gone = 0;
  HttpServer server(options, [&](HttpRequest, std::shared_ptr<Exchange> e) {
    e->OnGone([&] { ++gone; });
    e->Send({.status = 200, .headers = {}, .body = std::string(32 << 20, 'x')});  // one piece may be of any size
  });
  server.Start();
  TestClient reads(server.port());
  reads.Send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_GT(reads.ReceiveUntil([](const std::string& s) { return s.size() > (32u << 20); }).size(), 32u << 20);
  TestClient client(server.port(), /*receive_buffer=*/4096);
  const auto begin = Clock::now();
  client.Send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_TRUE(Eventually([&] { return gone == 1; }));
  EXPECT_GE(Since(begin), 1);
  EXPECT_TRUE(Eventually([&] { return server.connections() == 1; }));
}

TEST(HttpLimits, TooManyConnections) {
  HttpServerOptions options = AnyPort();
  options.max_connections = 3;
  HttpServer server(options, Ok);
  server.Start();
  std::vector<TestClient> clients;
  for (int i = 0; i < 3; ++i) clients.emplace_back(server.port());
  ASSERT_TRUE(Eventually([&] { return server.connections() == 3; }));
  TestClient more(server.port());
  more.Send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
  ExpectRefusal(more, 503);
  clients.pop_back();
  ASSERT_TRUE(Eventually([&] { return server.connections() == 2; }));
  TestClient again(server.port());
  EXPECT_TRUE(Begins(again.Ask("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), "HTTP/1.1 200"));
}

// Every way of cutting a request into pieces gives the same request.
TEST(HttpLimits, RequestsInPieces) {
  const std::string bytes =
      "POST /a?b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
      "4;ext=1\r\nWiki\r\n5\r\npedia\r\n0\r\nTrailer: t\r\n\r\nNEXT";
  for (size_t piece = 1; piece <= bytes.size(); ++piece) {
    RequestReader reader(1 << 10, 1 << 10);
    std::string waiting;
    for (size_t at = 0; at < bytes.size(); at += piece) {
      waiting += bytes.substr(at, piece);
      waiting.erase(0, reader.Feed(waiting));
    }
    ASSERT_EQ(reader.status(), RequestReader::Status::kComplete) << piece << " " << reader.reason();
    const HttpRequest request = reader.Take();
    EXPECT_EQ(request.method + request.path + request.query + request.body, "POST/abWikipedia");
    EXPECT_EQ(waiting, "NEXT");
  }
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
// The budget of a server is 200 MB for a thousand; this holds them to a tenth.
TEST(HttpLimits, MemoryOfAThousandOpenStreams) {
  constexpr int kStreams = 1000;
  rlimit files{};
  getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = std::min<rlim_t>(files.rlim_max, 1024);
  setrlimit(RLIMIT_NOFILE, &files);
  HttpServerOptions options = AnyPort();
  options.max_connections = 4096;
  std::mutex mutex;
  std::vector<std::shared_ptr<Exchange>> open;
  const auto count = [&] {
    std::lock_guard lock(mutex);
    return open.size();
  };
  HttpServer server(options, [&](HttpRequest, std::shared_ptr<Exchange> e) {
    e->Begin({.status = 200, .headers = {{"Content-Type", "text/event-stream"}}, .body = ""});
    e->Write("data: x\n\n");
    std::lock_guard lock(mutex);
    open.push_back(std::move(e));
  });
  getrlimit(RLIMIT_NOFILE, &files);
  EXPECT_GE(files.rlim_cur, std::min<rlim_t>(files.rlim_max, 4096));  // the server needs a file for each
  if (files.rlim_cur < 2 * kStreams + 100) GTEST_SKIP() << "too few file descriptors are allowed";
  server.Start();
  std::vector<TestClient> clients;
  clients.reserve(kStreams);
  int64_t before = 0;
  for (int i = 0; i < kStreams + 50; ++i) {
    if (i == 50) before = ResidentBytes();  // what the first ones cost once for all
    clients.emplace_back(server.port());
    ASSERT_TRUE(
        clients.back().Send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n" + std::string(1000, 'p')));
    clients.back().ReceiveUntil("data: x\n\n");
    ASSERT_TRUE(Eventually([&] { return count() > static_cast<size_t>(i); }));
  }
  const double bytes = static_cast<double>(ResidentBytes() - before) / kStreams;
  RecordProperty("bytes_per_stream", std::to_string(bytes));
  EXPECT_LT(bytes, 20 << 10);
  for (const auto& exchange : open) exchange->End();
  open.clear();
}
#endif

}  // namespace
}  // namespace fathom::net
