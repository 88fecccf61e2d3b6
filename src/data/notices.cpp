#include "data/notices.h"

#include <fmt/format.h>

namespace fathom::data {
namespace {

constexpr size_t kMaxNamed = 100'000;  // a corpus of nothing but bad files must not fill the memory

struct Text {
  std::string_view name, meaning;
};
constexpr std::array<Text, static_cast<size_t>(NoticeKind::kCount)> kTexts = {{
    {"unknown_file", "is of no kind that is read: left out"},
    {"empty_file", "is empty: left out"},
    {"empty_document", "holds a document of white space only: left out"},
    {"binary", "is binary or no UTF-8: left out"},
    {"invalid_utf8", "holds invalid UTF-8: replaced by U+FFFD"},
    {"oversized", "holds a document longer than max_document_bytes"},
    {"damaged", "is damaged: the rest of it is left out"},
    {"bad_json", "holds a line that is no JSON object: left out"},
    {"no_text", "holds a line without text: left out"},
    {"excluded", "holds excluded text: cut out"},
}};

}  // namespace

std::string_view Name(NoticeKind kind) { return kTexts[static_cast<size_t>(kind)].name; }
std::string_view Meaning(NoticeKind kind) { return kTexts[static_cast<size_t>(kind)].meaning; }

std::string ToString(const Notice& notice) {
  std::string line = fmt::format("{} {}", notice.path, Meaning(notice.kind));
  if (!notice.detail.empty()) line += fmt::format(" ({})", notice.detail);
  if (notice.offset > 0) line += fmt::format(", at byte {}", notice.offset);
  return line;
}

void Notices::Add(NoticeKind kind, const std::string& path, int64_t offset, std::string detail) {
  const std::lock_guard lock(mutex_);
  ++counts_[static_cast<size_t>(kind)];
  if (seen_.size() >= kMaxNamed || !seen_.emplace(kind, path).second) return;
  waiting_.push_back({kind, path, offset, std::move(detail)});
}

std::vector<Notice> Notices::Take() {
  const std::lock_guard lock(mutex_);
  return std::exchange(waiting_, {});
}

NoticeCounts Notices::counts() const {
  const std::lock_guard lock(mutex_);
  return counts_;
}

}  // namespace fathom::data
