// A file of answers, one JSON object a line, written as they are finished: what is there when the program ends early
// stays, and a later run goes on behind it.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace fathom::cli {

class AnswerFile {
 public:
  // Opens or makes the file. Lines that are there are answers already given, with their "index" and "prompt"; a last
  // line that was cut off is removed. Throws Error: a line that is no answer to these prompts.
  AnswerFile(const std::string& path, const std::vector<std::string>& prompts);
  ~AnswerFile();
  AnswerFile(const AnswerFile&) = delete;
  AnswerFile& operator=(const AnswerFile&) = delete;

  bool Has(size_t index) const { return has_[index]; }
  int64_t count() const { return count_; }
  // Adds {"index", "prompt", ...answer}. Throws Error: a full disk.
  void Add(size_t index, const nlohmann::ordered_json& answer);

 private:
  std::string path_;
  const std::vector<std::string>& prompts_;
  std::vector<bool> has_;
  int64_t count_ = 0;
  int fd_ = -1;
};

}  // namespace fathom::cli
