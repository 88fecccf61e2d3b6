// What a load test has measured: latencies, rates, goodput, errors. Names of the JSON as in vLLM's `vllm bench serve`.
//   TTFT  from sending a request to its first token's arrival
//   ITL   from one arrival to the next, over the tokens that came with it; each token is a sample
//   TPOT  of a request: (last arrival - first) / tokens behind the first
//   E2EL  from sending a request to the end of its answer
// Tokens are counted by the server (`usage`): a chunk of the stream may carry several. How many each chunk had is not
// said, so an answer's tokens are shared out evenly among its chunks.
#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "cli/serve_load.h"

namespace fathom::cli {

struct Sample {
  double value = 0, weight = 1;
};

struct Distribution {
  double mean = 0, std = 0, p50 = 0, p95 = 0, p99 = 0;
};
// With equal weights percentiles are linear between neighbours, as NumPy's; otherwise the sample that holds them.
Distribution Describe(std::vector<Sample> samples);

// A limit in milliseconds for "ttft", "itl" (the request's mean, TPOT) or "e2el".
using Goals = std::vector<std::pair<std::string, double>>;
// "ttft:500,itl:50". Throws Error.
Goals ParseGoals(const std::string& text);

struct ServeFigures {
  int64_t completed = 0, failed = 0, good = 0;
  double seconds = 0;
  int64_t input_tokens = 0, output_tokens = 0;
  int64_t cached_tokens = -1;                                     // -1: the server does not say
  int64_t accepted_drafts = -1, rejected_drafts = -1;             // likewise
  int64_t counted = 0;                                            // completed ones whose tokens the server counted
  Distribution ttft, itl, tpot, e2el;                             // seconds
  std::map<std::string, std::pair<int64_t, std::string>> errors;  // kind: how many, what one of them said
};

ServeFigures Summarise(const LoadResult& result, const std::vector<PlannedRequest>& plan, const Goals& goals);

nlohmann::ordered_json FiguresJson(const ServeFigures& f, const Goals& goals);
std::string FiguresTable(const ServeFigures& f, const Goals& goals);
// Each request's TTFT and TPOT over the time of its start: a file of its own. Empty without completed requests.
std::string FiguresPlot(const LoadResult& result);

}  // namespace fathom::cli
