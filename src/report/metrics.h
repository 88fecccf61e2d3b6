// metrics.jsonl: what a run measured, a JSON object a line, a line a step (docs/report.md has the keys).
//
// A line is written by one write() at the file's end, so a process that is killed leaves whole lines; a line that a
// full disk or a power cut tore is left out by every reader and cut off by Resume.
#pragma once

#include <cstdint>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>

namespace fathom::report {

class MetricsLog {
 public:
  // A new file; what was there is lost. Throws Error.
  static MetricsLog Create(const std::string& path);
  // Continues a run at the end of step `step`: later steps' rows are dropped (also a torn line; earlier
  // {"resumed_from"} rows stay) and {"resumed_from": step} is written. A file that is not there is made. Throws Error.
  static MetricsLog Resume(const std::string& path, int64_t step);

  MetricsLog(MetricsLog&& other) noexcept;
  MetricsLog& operator=(MetricsLog&& other) noexcept;
  MetricsLog(const MetricsLog&) = delete;
  MetricsLog& operator=(const MetricsLog&) = delete;
  ~MetricsLog();

  // NaN and infinities become null. A line that could not be written whole is taken back before the Error is thrown.
  void Append(const nlohmann::json& row);
  const std::string& path() const { return path_; }

 private:
  MetricsLog(std::string path, bool truncate);
  std::string path_;
  int fd_ = -1;
};

// Calls visit for every row in order. Lines that are no JSON objects, or longer than 64 MB, are left out and counted in
// the result. Throws Error where the file cannot be read.
int64_t ForEachRow(const std::string& path, const std::function<void(const nlohmann::json& row)>& visit);

// To `digits` significant decimal digits, for values of which there are many (expert loads).
double Rounded(double value, int digits);

}  // namespace fathom::report
