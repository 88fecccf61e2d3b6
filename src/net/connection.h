// One connection of the server: requests in, one after the other, and their answers out. All of it on the server's
// thread.
#pragma once

#include <boost/asio/steady_timer.hpp>
#include <memory>
#include <string>
#include <vector>

#include "net/request_reader.h"
#include "net/server_core.h"
#include "net/transport.h"

namespace fathom::net {

class Answer;

class Connection : public std::enable_shared_from_this<Connection> {
 public:
  Connection(std::shared_ptr<ServerCore> core, std::unique_ptr<Transport> transport, std::string peer);
  void Start();
  // Instead of Start: one answer, whatever is asked.
  void StartRefusing(int status, std::string_view message);
  void Flush();  // the answer has something to write
  void Close();

 private:
  enum class Phase { kHandshake, kIdle, kHead, kBody, kAnswering, kRefusing, kFinishing, kClosed };

  void Read();
  void OnRead(const ErrorCode& error, size_t bytes);
  void ReadRequest();
  void ProcessInput();
  void BodyProgress();
  void CountBody(int64_t bytes);
  void Dispatch();
  void Refuse(int status, std::string_view message);
  void AppendHead(const HttpResponse& response, bool stream, size_t body_bytes);
  void Write();
  void OnWritten(const ErrorCode& error, size_t bytes);
  void AnswerComplete();
  void DropAnswer();
  void Finish();

  void SetDeadline(double seconds);
  void ClearDeadline();
  void WaitForDeadline();
  void OnDeadline();

  const std::shared_ptr<ServerCore> core_;
  const std::unique_ptr<Transport> transport_;
  const std::string peer_;
  Phase phase_ = Phase::kHandshake;
  bool refused_ = false;  // counted as such

  std::unique_ptr<RequestReader> reader_;
  std::string in_;           // come, not yet taken by the reader
  std::vector<char> chunk_;  // what a read under way fills
  bool reading_ = false;
  std::chrono::steady_clock::time_point body_begin_;
  int64_t body_bytes_ = 0;  // counted in the core

  std::shared_ptr<Answer> answer_;
  bool keep_alive_ = false, http_1_0_ = false, head_only_ = false;        // of the request being answered
  bool chunked_ = false, bodiless_ = false, last_ = false, cut_ = false;  // of its answer
  std::string out_;                                                       // being written
  size_t written_ = 0;
  bool writing_ = false;
  std::string refusal_;  // to be written next, and then the end

  boost::asio::steady_timer timer_;
  std::chrono::steady_clock::time_point deadline_;
  bool has_deadline_ = false, waiting_ = false;
};

}  // namespace fathom::net
