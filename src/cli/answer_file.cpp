#include "cli/answer_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <string_view>

#include "core/error.h"
#include "io/file.h"

namespace fathom::cli {
namespace {
constexpr int64_t kFileLimit = int64_t{8} << 30;
constexpr const char* kHint = "take another file name, or remove the file to begin anew";
}  // namespace

AnswerFile::AnswerFile(const std::string& path, const std::vector<std::string>& prompts)
    : path_(path), prompts_(prompts), has_(prompts.size()) {
  fd_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (fd_ < 0) throw io::FileError("cannot open the file of answers", path, errno);
  const std::string text = io::ReadFile(path, kFileLimit).Value();
  size_t begin = 0, line = 0;
  for (size_t end; (end = text.find('\n', begin)) != std::string::npos; begin = end + 1) {
    ++line;
    const auto j = nlohmann::json::parse(text.begin() + static_cast<std::ptrdiff_t>(begin),
                                         text.begin() + static_cast<std::ptrdiff_t>(end), nullptr, false);
    const bool is_answer = j.is_object() && j.contains("index") && j["index"].is_number_unsigned() &&
                           j.contains("prompt") && j["prompt"].is_string();
    const size_t index = is_answer ? j["index"].get<size_t>() : prompts.size();
    if (index >= prompts.size() || j["prompt"].get_ref<const std::string&>() != prompts[index]) {
      throw Error(fmt::format("{} holds something else than answers to these prompts", path),
                  fmt::format("line {}", line), "an answer to a prompt of --input-file", kHint);
    }
    if (!has_[index]) ++count_;
    has_[index] = true;
  }
  if (begin < text.size() && ::ftruncate(fd_, static_cast<off_t>(begin)) != 0)
    throw io::FileError("cannot mend the file of answers", path, errno);
}

AnswerFile::~AnswerFile() {
  if (fd_ >= 0) ::close(fd_);
}

void AnswerFile::Add(size_t index, const nlohmann::ordered_json& answer) {
  nlohmann::ordered_json j{{"index", index}, {"prompt", prompts_[index]}};
  j.update(answer);
  const std::string line = j.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
  std::string_view rest = line;
  while (!rest.empty()) {
    const ssize_t n = ::write(fd_, rest.data(), rest.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) throw io::FileError("cannot write the file of answers", path_, errno);
    rest.remove_prefix(static_cast<size_t>(n));
  }
  has_[index] = true;
  ++count_;
}

}  // namespace fathom::cli
