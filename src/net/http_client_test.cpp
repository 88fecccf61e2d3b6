// The client against the server, with TLS and without.
#include "net/http_client.h"

#include <gtest/gtest.h>

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <vector>

#include "net/http_server.h"
#include "net/sse.h"
#include "net/test_certificate.h"
#include "net/test_client.h"

namespace fathom::net {
namespace {

using Clock = std::chrono::steady_clock;

ClientRequest Get(const HttpServer& server, const std::string& target, bool tls = false) {
  ClientRequest request;
  request.url = {.tls = tls, .host = "127.0.0.1", .port = server.port(), .target = target};
  return request;
}

std::string Numbered(std::string text, int i) { return text.append(std::to_string(i)); }

void Repeat(HttpRequest request, std::shared_ptr<Exchange> exchange) {
  exchange->Send(
      {.status = 200,
       .headers = {{"X-Method", request.method}},
       .body = request.path + "?" + request.query + " " + std::string(Find(request.headers, "x-a")) + request.body});
}

TEST(HttpClient, Urls) {
  const auto text = [](std::string_view url) {
    const Result<Url> parsed = ParseUrl(url);
    if (!parsed) return std::string("bad");
    const Url& u = parsed.Value();
    return (u.tls ? "tls " : "") + u.host + " " + std::to_string(u.port) + " " + u.target;
  };
  EXPECT_EQ(text("http://a.b"), "a.b 80 /");
  EXPECT_EQ(text("https://a.b/c?d=e#f"), "tls a.b 443 /c?d=e");
  EXPECT_EQ(text("http://a:8080?q"), "a 8080 /?q");
  EXPECT_EQ(text("http://[::1]:99/x"), "::1 99 /x");
  for (const char* bad : {"", "a.b", "ftp://a", "http://", "http://a:0", "http://a:x", "http://a:70000", "http://u@a",
                          "http://[::1", "http://a/ b", "http://a\r\n/"}) {
    EXPECT_EQ(text(bad), "bad") << bad;
  }
}

TEST(HttpClient, RequestsReuseTheirConnection) {
  HttpServer server(AnyPort(), Repeat);
  server.Start();
  HttpClient client;
  for (int i = 0; i < 5; ++i) {
    ClientRequest request = Get(server, Numbered("/p%20q?r=", i));
    request.method = "POST";
    request.headers = {{"X-A", "a"}};
    request.body = std::string(100000, 'b');
    const ClientResult result = client.Fetch(request);
    EXPECT_EQ(result.error, ClientError::kNone) << result.message;
    EXPECT_EQ(result.status, 200);
    EXPECT_EQ(Find(result.headers, "x-method"), "POST");
    EXPECT_TRUE(result.body == Numbered("/p q?r=", i).append(" a").append(request.body)) << result.body.size();
    EXPECT_EQ(server.connections(), 1);
  }
  ClientRequest head = Get(server, "/");
  head.method = "HEAD";
  EXPECT_EQ(client.Fetch(head).body, "");
  EXPECT_EQ(client.Fetch(Get(server, "/")).body, "/? ");
  EXPECT_EQ(server.connections(), 1);
}

// The server closes idle connections; a request on one of those is not an error.
TEST(HttpClient, AConnectionThatWasClosedWhileIdle) {
  HttpServerOptions options = AnyPort();
  options.idle_seconds = 0.4;
  HttpServer server(options, Repeat);
  server.Start();
  HttpClient client;
  EXPECT_EQ(client.Fetch(Get(server, "/1")).status, 200);
  EXPECT_TRUE(Eventually([&] { return server.connections() == 0; }));
  const ClientResult result = client.Fetch(Get(server, "/2"));
  EXPECT_EQ(result.status, 200) << result.message;
}

TEST(HttpClient, ManyAtOnceOnOneThread) {
  constexpr int kRequests = 200;
  HttpServer server(AnyPort(), Repeat);
  server.Start();
  std::atomic<int> good = 0, done = 0;
  HttpClient client;
  for (int i = 0; i < kRequests; ++i) {
    client.Start(Get(server, Numbered("/", i)), {.on_head = {}, .on_body = {}, .on_done = [&, i](ClientResult r) {
                                                   good += r.body == Numbered("/", i).append("? ");
                                                   ++done;
                                                 }});
  }
  EXPECT_TRUE(Eventually([&] { return done == kRequests; }));
  EXPECT_EQ(good, kRequests);
}

TEST(HttpClient, AStreamAsItComes) {
  std::mutex mutex;
  std::shared_ptr<Exchange> exchange;
  HttpServer server(AnyPort(), [&](HttpRequest, std::shared_ptr<Exchange> e) {
    std::lock_guard lock(mutex);
    e->Begin({.status = 200, .headers = {{"Content-Type", "text/event-stream"}}, .body = ""});
    exchange = std::move(e);
  });
  server.Start();
  HttpClient client;
  SseParser parser;
  std::vector<std::pair<std::string, Clock::time_point>> events;
  std::atomic<size_t> count = 0;
  std::atomic<int> status = 0;
  std::atomic<bool> done = false;
  client.Start(Get(server, "/"), {.on_head = [&](int code, const Headers&) { status = code; },
                                  .on_body =
                                      [&](std::string_view bytes, Clock::time_point arrival) {
                                        EXPECT_EQ(status, 200);
                                        parser.Feed(bytes,
                                                    [&](const SseEvent& e) { events.emplace_back(e.data, arrival); });
                                        count = events.size();
                                      },
                                  .on_done =
                                      [&](ClientResult r) {
                                        EXPECT_EQ(r.error, ClientError::kNone);
                                        done = true;
                                      }});
  EXPECT_TRUE(Eventually([&] { return status == 200; }));
  const auto begin = Clock::now();
  for (size_t i = 1; i <= 3; ++i) {
    std::string text;
    AppendSse(text, std::to_string(i));
    exchange->Write(text);
    EXPECT_TRUE(Eventually([&] { return count == i; }));
    EXPECT_FALSE(done);
    std::this_thread::sleep_for(std::chrono::milliseconds(30));
  }
  exchange->End();
  EXPECT_TRUE(Eventually([&] { return done.load(); }));
  ASSERT_EQ(events.size(), 3u);
  for (size_t i = 0; i < 3; ++i) EXPECT_EQ(events[i].first, std::to_string(i + 1));
  const auto third = std::chrono::duration<double>(events[2].second - begin).count();
  EXPECT_GE(third, 0.06);
  EXPECT_LE(third, std::chrono::duration<double>(Clock::now() - begin).count());
  exchange.reset();
}

TEST(HttpClient, CancelClosesTheConnection) {
  std::atomic<int> gone = 0, arrived = 0;
  std::mutex mutex;
  std::vector<std::shared_ptr<Exchange>> held;
  HttpServer server(AnyPort(), [&](HttpRequest, std::shared_ptr<Exchange> e) {
    e->OnGone([&] { ++gone; });
    std::lock_guard lock(mutex);
    held.push_back(std::move(e));
    ++arrived;
  });
  server.Start();
  std::atomic<int> cancelled = 0;
  const auto on_done = [&](ClientResult r) { cancelled += r.error == ClientError::kCancelled; };
  {
    HttpClient client;
    const uint64_t id = client.Start(Get(server, "/"), {.on_head = {}, .on_body = {}, .on_done = on_done});
    client.Start(Get(server, "/"), {.on_head = {}, .on_body = {}, .on_done = on_done});
    EXPECT_TRUE(Eventually([&] { return arrived == 2; }));
    client.Cancel(id);
    EXPECT_TRUE(Eventually([&] { return gone == 1; }));
    EXPECT_EQ(cancelled, 1);
    client.Cancel(id);  // twice: nothing
  }
  EXPECT_EQ(cancelled, 2);  // the client's end cancels the other
  EXPECT_TRUE(Eventually([&] { return gone == 2; }));
}

TEST(HttpClient, ErrorsByKind) {
  std::mutex mutex;
  std::vector<std::shared_ptr<Exchange>> held;
  HttpServer server(AnyPort(), [&](HttpRequest r, std::shared_ptr<Exchange> e) {
    if (r.path == "/cut") return e->Begin({.status = 200, .headers = {}, .body = "part"});
    if (r.path == "/large") return e->Send({.status = 200, .headers = {}, .body = std::string(2000, 'x')});
    std::lock_guard lock(mutex);
    held.push_back(std::move(e));
  });
  server.Start();
  HttpClientOptions options;
  options.max_body_bytes = 1000;
  HttpClient client(options);
  ClientResult result = client.Fetch(Get(server, "/cut"));
  EXPECT_EQ(result.error, ClientError::kClosed) << result.message;
  EXPECT_EQ(result.status, 200);
  EXPECT_EQ(client.Fetch(Get(server, "/large")).error, ClientError::kTooLarge);
  ClientRequest slow = Get(server, "/never");
  slow.seconds = 0.1;
  EXPECT_EQ(client.Fetch(slow).error, ClientError::kTimeout);
  EXPECT_EQ(client.Fetch(Get(server, "/", /*tls=*/true)).error, ClientError::kTls);
  ClientRequest nobody = Get(server, "/");
  {
    HttpServer other(AnyPort(), Repeat);
    nobody.url.port = other.port();
  }
  EXPECT_EQ(client.Fetch(nobody).error, ClientError::kConnect);
}

TEST(HttpClient, TlsInBothDirections) {
  const TestCertificate certificate;
  HttpServerOptions options = AnyPort();
  options.tls_cert = certificate.cert();
  options.tls_key = certificate.key();
  options.head_seconds = 2;
  std::mutex mutex;
  std::shared_ptr<Exchange> stream;
  std::atomic<bool> gone = false;
  HttpServer server(options, [&](HttpRequest r, std::shared_ptr<Exchange> e) {
    if (r.path != "/stream") return Repeat(std::move(r), std::move(e));
    e->OnGone([&] { gone = true; });
    e->Begin({.status = 200, .headers = {}, .body = "first"});
    std::lock_guard lock(mutex);
    stream = std::move(e);
  });
  server.Start();
  HttpClient strict;
  EXPECT_EQ(strict.Fetch(Get(server, "/", true)).error, ClientError::kTls);  // nobody vouches for it
  HttpClientOptions trusting;
  trusting.verify_tls = false;
  HttpClient client(trusting);
  for (int i = 0; i < 3; ++i) {
    ClientRequest request = Get(server, "/a", true);
    request.method = "POST";
    request.body = std::string(300000, 'x');
    const ClientResult result = client.Fetch(request);
    EXPECT_TRUE(result.body == "/a? " + request.body) << result.message;
  }
  EXPECT_EQ(client.Fetch(Get(server, "/")).error, ClientError::kClosed);  // no TLS where it is expected
  std::atomic<int64_t> bytes = 0;
  const uint64_t id =
      client.Start(Get(server, "/stream", true),
                   {.on_head = {},
                    .on_body = [&](std::string_view b, Clock::time_point) { bytes += static_cast<int64_t>(b.size()); },
                    .on_done = {}});
  EXPECT_TRUE(Eventually([&] { return bytes == 5; }));
  stream->Write(std::string(100000, 'y'));
  EXPECT_TRUE(Eventually([&] { return bytes == 100005; }));
  client.Cancel(id);
  EXPECT_TRUE(Eventually([&] { return gone.load(); }));
  stream.reset();
  // Who never begins with TLS is put out like one who never finishes a head.
  TestClient silent(server.port());
  silent.ReceiveAll();
  EXPECT_TRUE(silent.ended());
}

}  // namespace
}  // namespace fathom::net
