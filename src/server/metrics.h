// Counters and histograms for Prometheus, in its text format 0.0.4, under the names that vLLM has with `fathom:` for
// `vllm:`, so that its dashboards need only a search and replace.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "engine/engine.h"

namespace fathom::server {

// Thread-safe without locks.
class Histogram {
 public:
  explicit Histogram(std::vector<double> bounds);  // ascending upper bounds, the infinite one not among them
  void Observe(double value);
  // Lines of the exposition; `labels` as in {...}, without the braces.
  void Append(std::string& out, std::string_view name, std::string_view help, std::string_view labels) const;

 private:
  std::vector<double> bounds_;
  std::unique_ptr<std::atomic<uint64_t>[]> counts_;  // (bounds + 1)
  std::atomic<double> sum_{0};
};

class Metrics {
 public:
  explicit Metrics(std::string model_name);

  Histogram first_token, inter_token, end_to_end, queue, prefill, decode, prompt_tokens, generation_tokens;

  void CountResponse(std::string_view route, std::string_view method, int status);
  std::string ResponsesText() const;  // that counter alone
  std::string Text(const engine::EngineStats& stats, const engine::EngineOptions& options, int64_t cache_bytes) const;

 private:
  std::string labels_;
  mutable std::mutex mutex_;
  std::map<std::tuple<std::string, std::string, int>, uint64_t> responses_;
};

}  // namespace fathom::server
