// Clients of every kind at once, good ones and bad ones, in an order drawn at random: the good ones get their answers,
// every answer either ends or is told that its client has gone, and nothing is left behind.
#include <gtest/gtest.h>

#include <atomic>
#include <list>
#include <mutex>
#include <thread>
#include <vector>

#include "core/rng.h"
#include "net/http_server.h"
#include "net/test_client.h"

namespace fathom::net {
namespace {

constexpr int kPieces = 8;

// What an engine does: each step writes a piece to every stream, on a thread of its own.
class Streams {
 public:
  Streams() : thread_([this] { Run(); }) {}
  ~Streams() {
    stop_ = true;
    thread_.join();
  }
  void Add(std::shared_ptr<Exchange> exchange) {
    const auto stream = std::make_shared<Stream>();
    stream->exchange = std::move(exchange);
    stream->exchange->OnGone([this, stream] {
      ++gone;
      stream->gone = true;
    });
    stream->exchange->Begin({.status = 200, .headers = {}, .body = ""});
    ++begun;
    std::lock_guard lock(mutex_);
    streams_.push_back(stream);
  }
  size_t open() {
    std::lock_guard lock(mutex_);
    return streams_.size();
  }
  std::atomic<int> begun = 0, ended = 0, gone = 0;

 private:
  struct Stream {
    std::shared_ptr<Exchange> exchange;
    int pieces = 0;
    std::atomic<bool> gone = false;
  };
  void Run() {
    while (!stop_) {
      {
        std::lock_guard lock(mutex_);
        streams_.remove_if([&](const std::shared_ptr<Stream>& s) {
          if (s->gone) return true;
          if (s->pieces++ < kPieces) {
            s->exchange->Write("piece ");
            return false;
          }
          s->exchange->End();
          ++ended;
          return true;
        });
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  }
  std::mutex mutex_;
  std::list<std::shared_ptr<Stream>> streams_;
  std::atomic<bool> stop_ = false;
  std::thread thread_;
};

TEST(HttpSoak, ThreadsOfGoodAndBadClients) {
  constexpr int kThreads = 6, kRounds = 120;
  Streams streams;
  HttpServerOptions options;
  options.port = 0;
  options.max_body_bytes = 10000;
  HttpServer server(options, [&](HttpRequest r, std::shared_ptr<Exchange> e) {
    if (r.path == "/stream") return streams.Add(std::move(e));
    e->Send({.status = 200, .headers = {}, .body = r.path + r.body});
  });
  server.Start();
  std::atomic<int> wrong = 0, whole_streams = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      Rng rng(7, static_cast<uint64_t>(t));
      const std::string stream = "GET /stream HTTP/1.1\r\nHost: x\r\n\r\n";
      const std::string post = "POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\n" + std::string(500, 'b');
      for (int round = 0; round < kRounds; ++round) {
        TestClient client(server.port());
        switch (rng.NextBelow(8)) {
          case 0:  // several requests of a kept connection
            for (int i = 0; i < 3; ++i) {
              if (client.Ask(post).find("\r\n\r\n/pb") == std::string::npos) ++wrong;
            }
            break;
          case 1:  // three at once
            client.Send(post + post + post);
            client.ReceiveUntil([](const std::string& s) { return s.size() > 3 * 502 && s.back() == 'b'; });
            break;
          case 2: {  // a whole stream
            client.Send(stream);
            const std::string all = client.ReceiveUntil("0\r\n\r\n");
            size_t pieces = 0;
            for (size_t at = all.find("piece "); at != std::string::npos; at = all.find("piece ", at + 1)) ++pieces;
            if (pieces != kPieces) ++wrong;
            ++whole_streams;
            break;
          }
          case 3:  // goes away in the middle of a stream
            client.Send(stream);
            client.ReceiveUntil("piece ");
            break;
          case 4:  // asks and goes away
            client.Send(stream);
            break;
          case 5:  // goes away in the middle of a request
            client.Send(post.substr(0, static_cast<size_t>(rng.NextBelow(static_cast<int64_t>(post.size())))));
            break;
          case 6:  // too large
            client.Send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 20000\r\n\r\n" + std::string(20000, 'l'));
            if (client.ReceiveAll().find("413") == std::string::npos) ++wrong;
            break;
          default: {  // noise
            std::string noise;
            for (int i = 0; i < 100; ++i) noise += static_cast<char>(rng.NextBelow(256));
            client.Send(noise);
          }
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
  EXPECT_GT(whole_streams, 0);
  EXPECT_TRUE(Eventually([&] { return server.connections() == 0 && streams.open() == 0; }));
  // One whose client goes while its last piece is on its way may count as both.
  EXPECT_GE(streams.ended + streams.gone, streams.begun);
  EXPECT_GE(streams.ended, whole_streams);
  EXPECT_GT(streams.gone, 0);
  TestClient client(server.port());
  EXPECT_NE(client.Ask("GET /still HTTP/1.1\r\nHost: x\r\n\r\n").find("/still"), std::string::npos);
}

}  // namespace
}  // namespace fathom::net
