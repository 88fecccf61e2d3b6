#include "checkpoint/audit.h"

#include <fmt/format.h>

#include <array>

namespace fathom::checkpoint {

std::string_view Name(Fault fault) {
  static constexpr std::array<std::string_view, 6> kNames = {"missing", "unexpected", "shape",
                                                             "dtype",   "scale",      "index"};
  return kNames[static_cast<size_t>(fault)];
}

std::string Problem::Line() const {
  std::string line;
  switch (fault) {
    case Fault::kMissing:
      return tensor + ": missing" + (expected.empty() ? "" : ", expected " + expected);
    case Fault::kUnexpected:
      return tensor + ": unexpected" + (got.empty() ? "" : ", " + got);
    case Fault::kShape:
      line = tensor + ": shape " + got;
      break;
    case Fault::kDtype:
    case Fault::kScale:
    case Fault::kIndex:
      line = tensor + ": " + got;
      break;
  }
  return line + (expected.empty() ? "" : ", expected " + expected);
}

void Audit::ThrowIfFaulty(const std::string& path) const {
  if (problems.empty()) return;
  constexpr size_t kShown = 10;
  std::array<int, 6> counts{};
  for (const Problem& p : problems) ++counts[static_cast<size_t>(p.fault)];
  std::string kinds;
  for (size_t i = 0; i < counts.size(); ++i) {
    if (counts[i] == 0) continue;
    kinds += fmt::format("{}{} {}", kinds.empty() ? "" : ", ", counts[i], Name(static_cast<Fault>(i)));
  }
  std::string list;
  for (size_t i = 0; i < problems.size() && i < kShown; ++i) list += "\n    " + problems[i].Line();
  if (problems.size() > kShown) list += fmt::format("\n    and {} more", problems.size() - kShown);
  throw Error(fmt::format("{}: the weights do not fit the configuration", path), kinds + list,
              "every tensor of the configuration, in its shape, and no other",
              "fathom inspect shows all of them; files of another model or an incomplete download look like this");
}

}  // namespace fathom::checkpoint
