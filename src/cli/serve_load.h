// Sending a planned load to an OpenAI endpoint and noting when what came back.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "cli/serve_prompts.h"
#include "net/http_client.h"

namespace fathom::cli {

struct Endpoint {
  net::Url base;  // its target is .../v1
  bool chat = false;
  std::string api_key, model;
  double temperature = 0;
  bool ignore_eos = true;
  nlohmann::ordered_json extra;  // further fields of each request
  double seconds = 600;          // limit of a request

  net::ClientRequest Get(const std::string& path) const;
  // A streaming completion.
  net::ClientRequest Completion(const nlohmann::ordered_json& prompt, int64_t output_tokens) const;
};

struct PlannedRequest {
  double arrival = 0;  // seconds after the beginning, not before
  int64_t input_tokens = 0, output_tokens = 0;
  std::vector<PromptPiece> pieces;
};

// Chunks with text that arrived together.
struct Arrival {
  double seconds = 0;  // after the request was sent
  int64_t chunks = 0;
};

struct RequestRecord {
  int64_t index = 0;                        // in the plan
  double start = 0, late = 0, seconds = 0;  // after the beginning; behind its arrival; to the end of the answer
  std::vector<Arrival> arrivals;
  int64_t chunks = 0;
  // From `usage`; -1 where the server did not say.
  int64_t prompt_tokens = -1, completion_tokens = -1, cached_tokens = -1, accepted_drafts = -1, rejected_drafts = -1;
  std::string finish_reason;
  std::string error, message;  // its kind ("" : none): connect, timeout, ..., http_400, stream; and what was said

  bool ok() const { return error.empty(); }
  int64_t output_tokens() const { return completion_tokens >= 0 ? completion_tokens : chunks; }
  double ttft() const { return arrivals.empty() ? seconds : arrivals.front().seconds; }
  // Mean time of a token behind the first arrival; 0 if there is none.
  double seconds_per_token() const;
};

struct LoadResult {
  std::vector<RequestRecord> requests;  // those that ended, in the order in which they did
  double seconds = 0;                   // from the first one's start to the last one's end
};

struct LoadProgress {
  int64_t done = 0, running = 0, failed = 0, total = 0, output_tokens = 0;
  double seconds = 0;
};

// One request alone.
RequestRecord SendOne(net::HttpClient& client, const Endpoint& endpoint, const nlohmann::ordered_json& prompt,
                      int64_t output_tokens);

// At most `concurrency` requests at a time (0: any number), each not before its arrival. on_progress is called about
// ten times a second; false from it ends the run: what is under way is cancelled and left out.
LoadResult RunLoad(net::HttpClient& client, const Endpoint& endpoint, const PromptMaker& prompts,
                   const std::vector<PlannedRequest>& plan, int64_t concurrency,
                   const std::function<bool(const LoadProgress&)>& on_progress);

}  // namespace fathom::cli
