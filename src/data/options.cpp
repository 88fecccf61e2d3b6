#include "data/options.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "core/error.h"

namespace fathom::data {
namespace {

void CheckRange(const char* field, double value, double low, double high, bool high_allowed) {
  if (value >= low && (high_allowed ? value <= high : value < high)) return;  // false for NaN
  throw Error(fmt::format("data: {} is out of range", field), fmt::format("{}", value),
              fmt::format("at least {} and {} {}", low, high_allowed ? "at most" : "below", high));
}

void CheckSources(const char* field, const std::vector<SourceOptions>& sources) {
  for (size_t i = 0; i < sources.size(); ++i) {
    const SourceOptions& s = sources[i];
    const std::string where = fmt::format("data: {}[{}]", field, i);
    if (s.path.empty()) throw Error(where + " has no path", "", "a file or a folder");
    if (!std::isfinite(s.weight) || s.weight <= 0) {
      throw Error(where + ".weight is out of range", fmt::format("{}", s.weight), "a positive number",
                  "leave a source out rather than give it the weight 0");
    }
    if (s.format != "auto" && s.format != "text" && s.format != "jsonl" && s.format != "chat") {
      throw Error(where + ".format is not known", s.format, "auto, text, jsonl or chat");
    }
    if (s.format == "chat" && s.text_key != "text") {
      throw Error(where + ".text_key has no meaning for conversations", s.text_key, "",
                  "leave it out: their messages are under \"messages\"");
    }
    if (s.text_key.empty()) throw Error(where + ".text_key is empty", "", "the key of the text, e.g. \"text\"");
    if (s.separator.size() > 1024) throw Error(where + ".separator is too long", "", "at most 1024 bytes");
  }
}

}  // namespace

bool HasChat(const DataOptions& o) {
  const auto chat = [](const SourceOptions& s) { return s.format == "chat"; };
  return std::any_of(o.sources.begin(), o.sources.end(), chat) ||
         std::any_of(o.validation_sources.begin(), o.validation_sources.end(), chat);
}

void Validate(const DataOptions& o) {
  if (o.sources.empty()) throw Error("data: there are no sources", "an empty list", "one source or more");
  CheckSources("sources", o.sources);
  CheckSources("validation_sources", o.validation_sources);
  CheckRange("sequence_length", static_cast<double>(o.sequence_length), 1, 1 << 24, true);
  CheckRange("fim_rate", o.fim_rate, 0, 1, true);
  CheckRange("split_punctuation_newline_rate", o.split_punctuation_newline_rate, 0, 1, true);
  CheckRange("validation_fraction", o.validation_fraction, 0, 1, false);
  CheckRange("max_document_bytes", static_cast<double>(o.max_document_bytes), 16, 1 << 29, true);
  CheckRange("shuffle_buffer_bytes", static_cast<double>(o.shuffle_buffer_bytes), 1, 1e12, true);
  CheckRange("pack_window_tokens", static_cast<double>(o.pack_window_tokens), 1, 1 << 28, true);
  if (o.validation_fraction > 0 && !o.validation_sources.empty()) {
    throw Error("data: validation_fraction and validation_sources are both given", "",
                "a share of the documents, or files of its own");
  }
}

}  // namespace fathom::data
