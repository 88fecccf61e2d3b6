// Traces of real requests to language-model services, to be replayed: when each arrived and how long prompt and answer
// were. Two published formats, told apart by their first byte:
//   Azure     CSV, TIMESTAMP,ContextTokens,GeneratedTokens with "2023-11-16 18:15:46.6805900"
//   (Azure/AzurePublicDataset) Mooncake  a JSON object a line: timestamp (ms), input_length, output_length, hash_ids
//   (kvcache-ai/Mooncake): an id
//             for each 512 tokens of the prompt, the last ones fewer; prompts that begin with equal ids begin alike
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/error.h"

namespace fathom::cli {

inline constexpr int64_t kTraceBlockTokens = 512;

struct TraceRequest {
  double arrival = 0;  // seconds since the first
  int64_t input_tokens = 0, output_tokens = 0;
  std::vector<int64_t> blocks;  // empty where the trace has none
};

struct Trace {
  std::string format;
  std::vector<TraceRequest> requests;  // by arrival
};

// The first `limit` requests of a file, which may be compressed (.gz, .zst). An Error names the line.
Result<Trace> ReadTrace(const std::string& path, int64_t limit);

}  // namespace fathom::cli
