#include "cli/serve_trace.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string_view>

#include "data/byte_reader.h"

namespace fathom::cli {
namespace {

constexpr size_t kMaxLine = 1 << 20;
constexpr int64_t kMaxTokens = 1 << 24;  // of a prompt or an answer

// Lines of a file, compressed or not.
class LineReader {
 public:
  static Result<LineReader> Open(const std::string& path) {
    std::string_view stem;
    auto reader = data::ByteReader::Open(path, data::CompressionOf(path, &stem));
    if (!reader) return reader.error();
    return LineReader(path, std::move(reader).Value());
  }
  // The next line without its break; nullopt at the end.
  Result<std::optional<std::string>> Next() {
    for (;;) {
      const size_t end = text_.find('\n', at_);
      if (end != std::string::npos || (ended_ && at_ < text_.size())) {
        std::string line = text_.substr(at_, end == std::string::npos ? end : end - at_);
        at_ = end == std::string::npos ? text_.size() : end + 1;
        if (!line.empty() && line.back() == '\r') line.pop_back();
        ++number_;
        return std::optional(std::move(line));
      }
      if (ended_) return std::optional<std::string>();
      if (text_.size() - at_ > kMaxLine) return Bad("the line is too long");
      text_.erase(0, std::exchange(at_, 0));
      char buffer[16 << 10];
      auto got = reader_->Read(buffer, sizeof(buffer));
      if (!got) return got.error();
      ended_ = got.Value() == 0;
      text_.append(buffer, static_cast<size_t>(got.Value()));
    }
  }
  Error Bad(const std::string& why) const {
    return Error(fmt::format("cannot read the trace {}, line {}", path_, number_), why,
                 "a trace of Azure (CSV) or Mooncake (JSONL)");
  }

 private:
  LineReader(std::string path, std::unique_ptr<data::ByteReader> reader)
      : path_(std::move(path)), reader_(std::move(reader)) {}
  std::string path_;
  std::unique_ptr<data::ByteReader> reader_;
  std::string text_;
  size_t at_ = 0;
  int64_t number_ = 0;
  bool ended_ = false;
};

template <class T>
bool Number(std::string_view text, T* value) {
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), *value);
  return code == std::errc() && end == text.data() + text.size() && !text.empty();
}

// "2023-11-16 18:15:46.6805900" in seconds since 1970.
bool Timestamp(std::string_view text, double* seconds) {
  if (text.size() < 19 || text[4] != '-' || text[7] != '-' || text[10] != ' ' || text[13] != ':' || text[16] != ':') {
    return false;
  }
  int year = 0, month = 0, day = 0, hour = 0, minute = 0;
  double second = 0;
  if (!Number(text.substr(0, 4), &year) || !Number(text.substr(5, 2), &month) || !Number(text.substr(8, 2), &day) ||
      !Number(text.substr(11, 2), &hour) || !Number(text.substr(14, 2), &minute) || !Number(text.substr(17), &second)) {
    return false;
  }
  const std::chrono::year_month_day date{std::chrono::year(year), std::chrono::month(static_cast<unsigned>(month)),
                                         std::chrono::day(static_cast<unsigned>(day))};
  if (!date.ok() || hour < 0 || hour > 23 || minute < 0 || minute > 59 || !(second >= 0 && second < 61)) return false;
  const auto days = std::chrono::sys_days(date).time_since_epoch().count();
  *seconds = static_cast<double>(days) * 86400 + hour * 3600 + minute * 60 + second;
  return true;
}

bool ParseAzure(std::string_view line, TraceRequest* r) {
  const size_t first = line.find(','), second = line.find(',', first + 1);
  if (first == std::string_view::npos || second == std::string_view::npos) return false;
  return Timestamp(line.substr(0, first), &r->arrival) &&
         Number(line.substr(first + 1, second - first - 1), &r->input_tokens) &&
         Number(line.substr(second + 1), &r->output_tokens);
}

bool ParseMooncake(const std::string& line, TraceRequest* r) {
  const auto j = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
  const auto number = [&](const char* key) { return j.contains(key) && j[key].is_number(); };
  if (!j.is_object() || !number("timestamp") || !number("input_length") || !number("output_length")) return false;
  r->arrival = j["timestamp"].get<double>() * 1e-3;
  r->input_tokens = j["input_length"].get<int64_t>();
  r->output_tokens = j["output_length"].get<int64_t>();
  if (!j.contains("hash_ids")) return true;
  if (!j["hash_ids"].is_array()) return false;
  for (const auto& id : j["hash_ids"]) {
    if (!id.is_number_integer()) return false;
    r->blocks.push_back(id.get<int64_t>());
  }
  return r->blocks.empty() ||
         static_cast<int64_t>(r->blocks.size()) == (r->input_tokens + kTraceBlockTokens - 1) / kTraceBlockTokens;
}

}  // namespace

Result<Trace> ReadTrace(const std::string& path, int64_t limit) {
  Result<LineReader> opened = LineReader::Open(path);
  if (!opened) return opened.error();
  LineReader reader = std::move(opened).Value();
  Trace trace;
  while (static_cast<int64_t>(trace.requests.size()) < limit) {
    Result<std::optional<std::string>> next = reader.Next();
    if (!next) return next.error();
    if (!next.Value()) break;
    const std::string& line = *next.Value();
    if (line.empty()) continue;
    if (trace.format.empty()) {
      trace.format = line.front() == '{' ? "Mooncake" : "Azure";
      if (trace.format == "Azure" && line.find("ContextTokens") != std::string::npos) continue;
    }
    TraceRequest r;
    if (!(trace.format == "Azure" ? ParseAzure(line, &r) : ParseMooncake(line, &r))) {
      return reader.Bad(line.substr(0, 80));
    }
    if (r.input_tokens < 0 || r.input_tokens > kMaxTokens || r.output_tokens < 0 || r.output_tokens > kMaxTokens) {
      return reader.Bad("lengths that cannot be: " + line.substr(0, 80));
    }
    trace.requests.push_back(std::move(r));
  }
  if (trace.requests.empty()) return reader.Bad("there are no requests in it");
  std::stable_sort(trace.requests.begin(), trace.requests.end(),
                   [](const TraceRequest& a, const TraceRequest& b) { return a.arrival < b.arrival; });
  const double begin = trace.requests.front().arrival;
  for (TraceRequest& r : trace.requests) r.arrival -= begin;
  return trace;
}

}  // namespace fathom::cli
