// The server in its ordinary work, over real sockets: requests, streams, disconnects, draining.
#include "net/http_server.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <future>
#include <mutex>
#include <vector>

#include "core/error.h"
#include "net/test_client.h"

namespace fathom::net {
namespace {

HttpResponse Text(std::string body) {
  return {.status = 200, .headers = {{"Content-Type", "text/plain"}}, .body = std::move(body)};
}

// Answers with what it was asked.
void Echo(HttpRequest request, std::shared_ptr<Exchange> exchange) {
  std::string text = request.method + " " + request.path + " ?" + request.query + " " + request.peer;
  for (const auto& [name, value] : request.headers) text += " [" + name + "=" + value + "]";
  exchange->Send(Text(text + " <" + request.body + ">"));
}

// Exchanges that the test answers itself.
class Held {
 public:
  Handler handler() {
    return [this](HttpRequest, std::shared_ptr<Exchange> exchange) {
      std::lock_guard lock(mutex_);
      exchanges_.push_back(std::move(exchange));
    };
  }
  std::shared_ptr<Exchange> Take(size_t i = 0) {
    EXPECT_TRUE(Eventually([&] { return count() > i; }));
    std::lock_guard lock(mutex_);
    return std::move(exchanges_.at(i));
  }
  size_t count() {
    std::lock_guard lock(mutex_);
    return exchanges_.size();
  }

 private:
  std::mutex mutex_;
  std::vector<std::shared_ptr<Exchange>> exchanges_;
};

bool Has(const std::string& text, std::string_view part) { return text.find(part) != std::string::npos; }

constexpr char kGet[] = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";

TEST(HttpServer, RequestsOfAKeptConnection) {
  HttpServer server(AnyPort(), Echo);
  server.Start();
  TestClient client(server.port());
  std::string answer = client.Ask("GET /a%20b/%C3%A9?q=1%202&z HTTP/1.1\r\nHost: x\r\nX-One:  two \r\n\r\n");
  EXPECT_TRUE(Begins(answer, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nDate: ")) << answer;
  EXPECT_TRUE(Has(answer, "GET /a b/\xC3\xA9 ?q=1%202&z 127.0.0.1 ")) << answer;
  EXPECT_TRUE(Has(answer, "[X-One=two]")) << answer;
  EXPECT_FALSE(Has(answer, "Connection:")) << answer;
  answer = client.Ask("POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello");
  EXPECT_TRUE(Has(answer, "POST /p ?") && Has(answer, "<hello>")) << answer;
  answer = client.Ask(
      "PUT /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n");
  EXPECT_TRUE(Has(answer, "<abcde>")) << answer;
  answer = client.Ask("OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_TRUE(Has(answer, "OPTIONS * ?")) << answer;
  answer = client.Ask("GET http://host:1/abs HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_TRUE(Has(answer, "GET /abs ?")) << answer;
  EXPECT_EQ(server.connections(), 1);
  client.Forget();
  client.Send("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  EXPECT_TRUE(Has(client.ReceiveAll(), "Connection: close\r\n"));
  EXPECT_TRUE(client.ended());
  client.Close();
  EXPECT_TRUE(Eventually([&] { return server.connections() == 0; }));
}

TEST(HttpServer, HeadHasTheLengthAndNoBody) {
  HttpServer server(AnyPort(), [](HttpRequest r, std::shared_ptr<Exchange> e) {
    if (r.path == "/none") return e->Send({.status = 204, .headers = {}, .body = ""});
    e->Send(Text("12345"));
  });
  server.Start();
  TestClient client(server.port());
  client.Send(
      "HEAD / HTTP/1.1\r\nHost: x\r\n\r\nGET /none HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n");
  const std::string answer = client.ReceiveUntil("\r\n\r\n12345");
  const size_t second = answer.find("HTTP/1.1 204 No Content\r\n");
  ASSERT_NE(second, std::string::npos) << answer;
  EXPECT_TRUE(Has(answer.substr(0, second), "Content-Length: 5\r\n"));
  EXPECT_EQ(answer.substr(second - 4, 4), "\r\n\r\n");
  EXPECT_EQ(answer.find("12345"), answer.size() - 5);
}

TEST(HttpServer, PipelinedRequestsAreAnsweredInOrder) {
  Held held;
  HttpServer server(AnyPort(), held.handler());
  server.Start();
  TestClient client(server.port());
  client.Send("GET /1 HTTP/1.1\r\nHost: x\r\n\r\nPOST /2 HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nok");
  client.Send("\r\nGET /3 HTTP/1.1\r\nHost: x\r\n\r\n");  // with an empty line before it
  const auto first = held.Take(0);
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  EXPECT_EQ(held.count(), 1u);  // one at a time
  first->Send(Text("first"));
  held.Take(1)->Send(Text("second"));
  held.Take(2)->Send(Text("third"));
  const std::string all = client.ReceiveUntil("third");
  EXPECT_LT(all.find("first"), all.find("second"));
  EXPECT_LT(all.find("second"), all.find("third"));
}

TEST(HttpServer, AStreamOfChunks) {
  Held held;
  HttpServer server(AnyPort(), held.handler());
  server.Start();
  TestClient client(server.port());
  client.Send(kGet);
  const auto exchange = held.Take();
  exchange->Begin(Text("one"));
  EXPECT_TRUE(Has(client.ReceiveUntil("one"), "Transfer-Encoding: chunked\r\n\r\n3\r\none\r\n"));
  exchange->Write("four");
  EXPECT_TRUE(Has(client.ReceiveUntil("four"), "\r\n4\r\nfour\r\n"));
  exchange->End();
  EXPECT_TRUE(Has(client.ReceiveUntil("0\r\n\r\n"), "four\r\n0\r\n\r\n"));
  client.Forget();
  client.Send(kGet);  // the connection goes on
  held.Take(1)->Send(Text("again"));
  EXPECT_TRUE(Has(client.ReceiveUntil("again"), "Content-Length: 5"));
}

TEST(HttpServer, AStreamToHttp10EndsWithTheConnection) {
  HttpServer server(AnyPort(), [](HttpRequest, std::shared_ptr<Exchange> e) {
    e->Begin(Text("a"));
    e->Write("b");
    e->End();
  });
  server.Start();
  TestClient client(server.port());
  client.Send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
  const std::string answer = client.ReceiveAll();
  EXPECT_FALSE(Has(answer, "chunked"));
  EXPECT_TRUE(Has(answer, "Connection: close\r\n\r\nab")) << answer;
}

// The server's thread is held while a hundred pieces are written, so that they wait together: one chunk.
TEST(HttpServer, WritesThatWaitGoOutTogether) {
  std::promise<void> go;
  auto may_go = go.get_future().share();
  std::shared_ptr<Exchange> stream;
  std::atomic<bool> begun = false;
  HttpServer server(AnyPort(), [&](HttpRequest r, std::shared_ptr<Exchange> e) {
    if (r.path == "/hold") {
      may_go.wait();
      return e->Send(Text("held"));
    }
    stream = e;
    e->Begin(Text("begin "));
    begun = true;
  });
  server.Start();
  TestClient client(server.port()), other(server.port());
  client.Send(kGet);
  client.ReceiveUntil("begin \r\n");
  other.Send("GET /hold HTTP/1.1\r\nHost: x\r\n\r\n");
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  client.Forget();
  for (int i = 0; i < 100; ++i) stream->Write("x");
  stream->End();
  go.set_value();
  EXPECT_EQ(client.ReceiveUntil("0\r\n\r\n"), "64\r\n" + std::string(100, 'x') + "\r\n0\r\n\r\n");
  stream.reset();
}

// Nothing is sent before all is written, and what a connection got in between is one chunk.
TEST(HttpServer, WritesTogether) {
  Held held;
  HttpServer server(AnyPort(), held.handler());
  server.Start();
  std::vector<TestClient> clients;
  std::vector<std::shared_ptr<Exchange>> streams;
  for (size_t i = 0; i < 3; ++i) {
    clients.emplace_back(server.port()).Send(kGet);
    streams.push_back(held.Take(i));
    streams.back()->Begin(Text("begin "));
    clients.back().ReceiveUntil("begin \r\n");
    clients.back().Forget();
  }
  const auto write = [&](const char* text) {
    for (const auto& stream : streams) stream->Write(text);
  };
  std::this_thread::sleep_for(std::chrono::milliseconds(50));  // for the server to be done with what was received
  WriteTogether([&] {
    write("a");
    WriteTogether([&] { write("b"); });
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    EXPECT_FALSE(std::any_of(clients.begin(), clients.end(), [](const TestClient& c) { return c.Readable(); }));
  });
  for (TestClient& client : clients) EXPECT_EQ(client.ReceiveUntil("b\r\n"), "2\r\nab\r\n");
  EXPECT_THROW(WriteTogether([&] {
                 write("c");
                 throw Error("in the middle");
               }),
               Error);
  for (TestClient& client : clients) client.ReceiveUntil("c\r\n");
  write("d");
  for (TestClient& client : clients) EXPECT_EQ(client.ReceiveUntil("d\r\n"), "2\r\nab\r\n1\r\nc\r\n1\r\nd\r\n");
}

TEST(HttpServer, ExpectContinue) {
  HttpServer server(AnyPort(), Echo);
  server.Start();
  TestClient client(server.port());
  client.Send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n");
  EXPECT_EQ(client.ReceiveUntil("\r\n\r\n"), "HTTP/1.1 100 Continue\r\n\r\n");
  EXPECT_TRUE(Has(client.Ask("body"), "<body>"));
  // With the body already there nobody waits for it.
  EXPECT_TRUE(Begins(client.Ask("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\nb"),
                     "HTTP/1.1 200"));
  EXPECT_TRUE(Begins(client.Ask("GET / HTTP/1.1\r\nHost: x\r\nExpect: wonders\r\n\r\n"), "HTTP/1.1 417"));
}

TEST(HttpServer, LineBreaksInHeadersCannotAddOthers) {
  HttpServer server(AnyPort(), [](HttpRequest, std::shared_ptr<Exchange> e) {
    e->Send({.status = 200, .headers = {{"X-Id", "a\r\nX-Evil: yes"}}, .body = "b"});
  });
  server.Start();
  TestClient client(server.port());
  const std::string answer = client.Ask(kGet);
  EXPECT_FALSE(Has(answer, "\r\nX-Evil")) << answer;
  EXPECT_TRUE(Has(answer, "X-Id: a  X-Evil: yes\r\n")) << answer;
}

TEST(HttpServer, AnExchangeDroppedWithoutAnswer) {
  Held held;
  HttpServer server(AnyPort(), [](HttpRequest r, std::shared_ptr<Exchange> e) {
    if (r.path == "/throws") throw std::runtime_error("oh");
    if (r.path == "/begun") e->Begin(Text("part"));
  });
  server.Start();
  TestClient client(server.port());
  std::string answer = client.Ask(kGet);
  EXPECT_TRUE(Begins(answer, "HTTP/1.1 500 Internal Server Error\r\n")) << answer;
  EXPECT_TRUE(Has(answer, R"("type":"server_error")")) << answer;
  EXPECT_TRUE(Begins(client.Ask("GET /throws HTTP/1.1\r\nHost: x\r\n\r\n"), "HTTP/1.1 500"));
  client.Forget();
  client.Send("GET /begun HTTP/1.1\r\nHost: x\r\n\r\n");
  answer = client.ReceiveAll();
  EXPECT_TRUE(client.ended());
  EXPECT_TRUE(Has(answer, "\r\n\r\n4\r\npart\r\n")) << answer;
  EXPECT_FALSE(Has(answer, "0\r\n\r\n")) << answer;  // it must not look complete
}

TEST(HttpServer, GoneIsNoticedBeforeAndDuringTheAnswer) {
  Held held;
  HttpServer server(AnyPort(), held.handler());
  server.Start();
  for (const bool begun : {false, true}) {
    TestClient client(server.port());
    client.Send(kGet);
    const auto exchange = held.Take(begun ? 1 : 0);
    std::atomic<int> gone = 0, late = 0;
    exchange->OnGone([&] { ++gone; });
    if (begun) {
      exchange->Begin(Text("x"));
      client.ReceiveUntil("x");
    }
    EXPECT_FALSE(exchange->gone());
    client.Close();
    EXPECT_TRUE(Eventually([&] { return gone == 1; }));
    EXPECT_TRUE(exchange->gone());
    EXPECT_TRUE(Eventually([&] { return server.connections() == 0; }));
    if (!begun) exchange->Begin(Text("x"));
    exchange->Write("dropped");
    exchange->End();
    exchange->OnGone([&] { ++late; });  // has gone already
    EXPECT_TRUE(Eventually([&] { return late == 1; }));
    EXPECT_EQ(gone, 1);
  }
}

TEST(HttpServer, GoneIsNotCalledForACompleteAnswer) {
  Held held;
  HttpServer server(AnyPort(), held.handler());
  server.Start();
  std::atomic<bool> gone = false;
  auto token = std::make_shared<int>(0);
  {
    TestClient client(server.port());
    client.Send(kGet);
    const auto exchange = held.Take();
    exchange->OnGone([&gone, token] { gone = true; });
    exchange->Send(Text("all"));
    client.ReceiveUntil("all");
    // The callback and what it holds are let go with the answer, though the exchange lives.
    EXPECT_TRUE(Eventually([&] { return token.use_count() == 1; }));
  }
  EXPECT_TRUE(Eventually([&] { return server.connections() == 0; }));
  EXPECT_FALSE(gone);
}

TEST(HttpServer, ThreadsAnswerManyConnectionsAtOnce) {
  constexpr int kConnections = 32, kPieces = 50;
  Held held;
  HttpServer server(AnyPort(), held.handler());
  server.Start();
  std::vector<TestClient> clients;
  for (int i = 0; i < kConnections; ++i) {
    clients.emplace_back(server.port());
    clients.back().Send(kGet);
  }
  ASSERT_TRUE(Eventually([&] { return held.count() == kConnections; }));
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      std::vector<std::shared_ptr<Exchange>> mine;
      for (int i = t; i < kConnections; i += 4) mine.push_back(held.Take(static_cast<size_t>(i)));
      for (const auto& e : mine) e->Begin(Text(""));
      for (int piece = 0; piece < kPieces; ++piece) {
        for (const auto& e : mine) e->Write("p");
      }
      for (const auto& e : mine) e->End();
    });
  }
  for (auto& thread : threads) thread.join();
  for (TestClient& client : clients) {
    const std::string body = client.ReceiveUntil("0\r\n\r\n");
    const size_t begin = body.find("\r\n\r\n");
    ASSERT_NE(begin, std::string::npos);
    EXPECT_EQ(std::count(body.begin() + static_cast<int64_t>(begin), body.end(), 'p'), kPieces);
  }
}

TEST(HttpServer, DrainWaitsForAnswersAndRefusesRequests) {
  Held held;
  HttpServer server(AnyPort(), held.handler());
  server.Start();
  TestClient busy(server.port()), idle(server.port());
  busy.Send(kGet);
  const auto exchange = held.Take();
  ASSERT_TRUE(Eventually([&] { return server.connections() == 2; }));
  EXPECT_FALSE(server.Drain(0.05));
  EXPECT_FALSE(TestClient(server.port()).connected());
  const std::string refusal = idle.Ask(kGet);
  EXPECT_TRUE(Begins(refusal, "HTTP/1.1 503 Service Unavailable\r\n")) << refusal;
  EXPECT_TRUE(Has(refusal, "Connection: close\r\n"));
  auto drained = std::async(std::launch::async, [&] { return server.Drain(10); });
  exchange->Send(Text("late"));
  EXPECT_TRUE(drained.get());
  EXPECT_TRUE(Has(busy.ReceiveAll(), "late"));
  EXPECT_TRUE(busy.ended());
}

TEST(HttpServer, TheEndOfTheServerIsAlsoGone) {
  Held held;
  std::atomic<bool> gone = false;
  std::shared_ptr<Exchange> exchange;
  {
    HttpServer server(AnyPort(), held.handler());
    server.Start();
    TestClient client(server.port());
    client.Send(kGet);
    exchange = held.Take();
    exchange->OnGone([&] { gone = true; });
  }
  EXPECT_TRUE(gone);
  EXPECT_TRUE(exchange->gone());
  exchange->Send(Text("to nobody"));
}

TEST(HttpServer, WhereItCannotListen) {
  HttpServer first(AnyPort(), Echo);
  HttpServerOptions options = AnyPort();
  options.port = first.port();
  EXPECT_THROW(HttpServer(options, Echo), Error);
  options.port = 0;
  options.host = "256.1.1.1.invalid";
  EXPECT_THROW(HttpServer(options, Echo), Error);
  options = AnyPort();
  options.tls_cert = "/nonexistent/cert.pem";
  EXPECT_THROW(HttpServer(options, Echo), Error);
  options.tls_key = "/nonexistent/key.pem";
  EXPECT_THROW(HttpServer(options, Echo), Error);
}

}  // namespace
}  // namespace fathom::net
