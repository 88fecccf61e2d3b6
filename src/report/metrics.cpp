#include "report/metrics.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <utility>

#include "core/error.h"
#include "io/file.h"

namespace fathom::report {
namespace {

using nlohmann::json;

constexpr size_t kMaxLine = 64 << 20;
constexpr size_t kBuffer = 1 << 20;

// Calls visit(line) for every line that ends with a line break; longer ones than kMaxLine are given as "".
template <class Visit>
void ForEachLine(const std::string& path, Visit&& visit) {
  const std::unique_ptr<FILE, int (*)(FILE*)> file(std::fopen(path.c_str(), "rb"), std::fclose);
  if (!file) throw io::FileError("cannot open " + path, path, errno);
  std::string buffer(kBuffer, '\0'), line;
  bool too_long = false;
  for (size_t n; (n = std::fread(buffer.data(), 1, buffer.size(), file.get())) > 0;) {
    std::string_view rest(buffer.data(), n);
    for (size_t end; (end = rest.find('\n')) != std::string_view::npos; rest.remove_prefix(end + 1)) {
      line.append(rest.substr(0, end));
      if (too_long || line.size() > kMaxLine) line.clear();
      visit(line);
      line.clear();
      too_long = false;
    }
    line.append(rest);
    if (line.size() > kMaxLine) {
      too_long = true;
      line.clear();
    }
  }
  if (std::ferror(file.get())) throw io::FileError("cannot read " + path, path, errno);
}

// The object on a line, or a discarded value.
json ParseRow(const std::string& line) {
  json row = json::parse(line, nullptr, false);
  return row.is_object() ? row : json(json::value_t::discarded);
}

std::string JsonLine(const json& row) { return row.dump(-1, ' ', false, json::error_handler_t::replace) + "\n"; }

}  // namespace

MetricsLog::MetricsLog(std::string path, bool truncate) : path_(std::move(path)) {
  fd_ = open(path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | (truncate ? O_TRUNC : 0), 0666);
  if (fd_ < 0) throw io::FileError("cannot open " + path_ + " for writing", path_, errno);
}

MetricsLog::MetricsLog(MetricsLog&& other) noexcept { *this = std::move(other); }

MetricsLog& MetricsLog::operator=(MetricsLog&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(fd_, other.fd_);
  return *this;
}

MetricsLog::~MetricsLog() {
  if (fd_ >= 0) close(fd_);
}

MetricsLog MetricsLog::Create(const std::string& path) { return {path, true}; }

MetricsLog MetricsLog::Resume(const std::string& path, int64_t step) {
  if (std::filesystem::exists(path)) {
    io::AtomicFile kept(path);
    ForEachLine(path, [&](const std::string& line) {
      const json row = ParseRow(line);
      if (row.is_discarded()) return;
      const auto found = row.find("step");
      const bool later = found != row.end() && found->is_number() && found->get<double>() > static_cast<double>(step);
      if (!later) kept.Write(line + "\n");
    });
    kept.Commit();
  }
  MetricsLog log(path, false);
  log.Append({{"resumed_from", step}});
  return log;
}

void MetricsLog::Append(const json& row) {
  FATHOM_CHECK(row.is_object());
  const std::string line = JsonLine(row);
  struct stat before {};
  if (fstat(fd_, &before) != 0) throw io::FileError("cannot write " + path_, path_, errno);
  size_t written = 0;
  while (written < line.size()) {
    const ssize_t n = write(fd_, line.data() + written, line.size() - written);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) {
      const int error = n == 0 ? ENOSPC : errno;
      if (written > 0 && ftruncate(fd_, before.st_size) != 0) {
        throw io::FileError("cannot take back a part of a row of " + path_, path_, errno);
      }
      throw io::FileError("cannot write " + path_, path_, error);
    }
    written += static_cast<size_t>(n);
  }
}

int64_t ForEachRow(const std::string& path, const std::function<void(const json& row)>& visit) {
  int64_t left_out = 0;
  ForEachLine(path, [&](const std::string& line) {
    const json row = ParseRow(line);
    if (row.is_discarded()) {
      ++left_out;
    } else {
      visit(row);
    }
  });
  return left_out;
}

double Rounded(double value, int digits) {
  if (!std::isfinite(value)) return value;
  return std::strtod(fmt::format("{:.{}g}", value, digits).c_str(), nullptr);
}

}  // namespace fathom::report
