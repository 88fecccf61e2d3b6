#include "tokenizer/pretokenizer.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "core/utf8.h"
#include "tokenizer/json_read.h"
#include "tokenizer/published_scanner.h"

namespace fathom::tokenizer {
namespace {

using nlohmann::json;

constexpr int kMaxSequenceDepth = 8;
constexpr size_t kMaxSteps = 64;
// ByteLevel's own expression (GPT-2), for use_regex.
constexpr std::string_view kByteLevelExpression =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

constexpr std::pair<std::string_view, SplitBehavior> kBehaviors[] = {
    {"Removed", SplitBehavior::kRemoved},
    {"Isolated", SplitBehavior::kIsolated},
    {"MergedWithPrevious", SplitBehavior::kMergedWithPrevious},
    {"MergedWithNext", SplitBehavior::kMergedWithNext},
    {"Contiguous", SplitBehavior::kContiguous},
};

}  // namespace

Result<PreTokenizer> PreTokenizer::FromJson(const json& node) {
  PreTokenizer out;
  if (!node.is_null()) {
    if (std::optional<Error> error = out.Add(node, 0)) return std::move(*error);
  }
  if (!out.byte_level_) {
    return Error("tokenizer.json: the pre-tokenizer does not work on bytes", Shorten(node),
                 "a Sequence that ends in ByteLevel");
  }
  const auto& published = PublishedScanner::Expressions();
  out.published_ = out.steps_.size() == published.size() && !out.add_prefix_space_;
  for (size_t i = 0; out.published_ && i < published.size(); ++i) {
    const Step& s = out.steps_[i];
    out.published_ = s.expression == published[i] && s.behavior == SplitBehavior::kIsolated && !s.invert;
  }
  return out;
}

std::optional<Error> PreTokenizer::AddSplit(const std::string& expression, SplitBehavior behavior, bool invert) {
  if (steps_.size() == kMaxSteps)
    return Error("tokenizer.json: too many pre-tokenizer steps", "", fmt::format("at most {}", kMaxSteps));
  Result<Regex> regex = Regex::Compile(expression);
  if (!regex.ok()) return regex.error();
  steps_.push_back({expression, std::move(regex).Value(), behavior, invert});
  return std::nullopt;
}

std::optional<Error> PreTokenizer::Add(const json& node, int depth) {
  constexpr std::string_view kWhere = "pre_tokenizer";
  if (depth > kMaxSequenceDepth) return Error("tokenizer.json: pre_tokenizer is nested too deeply");
  std::string type;
  if (auto e = Read(node, kWhere, "type", &type)) return e;
  if (byte_level_)
    return Error("tokenizer.json: a pre-tokenizer after ByteLevel is not supported", type, "ByteLevel as the last");
  if (type == "Sequence") {
    const json* list = Find(node, "pretokenizers");
    if (list == nullptr || !list->is_array())
      return Error("tokenizer.json: pre_tokenizer.pretokenizers is not a list", Shorten(node));
    for (const json& child : *list) {
      if (auto e = Add(child, depth + 1)) return e;
    }
    return std::nullopt;
  }
  if (type == "ByteLevel") {
    bool use_regex = true;
    if (auto e = ReadOr(node, kWhere, "use_regex", true, &use_regex)) return e;
    if (auto e = ReadOr(node, kWhere, "add_prefix_space", true, &add_prefix_space_)) return e;
    byte_level_ = true;
    steps_before_prefix_ = steps_.size();
    if (use_regex) return AddSplit(std::string(kByteLevelExpression), SplitBehavior::kIsolated, false);
    return std::nullopt;
  }
  if (type == "Digits") {
    bool individual = false;
    if (auto e = ReadOr(node, kWhere, "individual_digits", false, &individual)) return e;
    return AddSplit("\\p{N}", individual ? SplitBehavior::kIsolated : SplitBehavior::kContiguous, false);
  }
  if (type == "Split") {
    std::string behavior, expression;
    bool invert = false;
    if (auto e = Read(node, kWhere, "behavior", &behavior)) return e;
    if (auto e = ReadOr(node, kWhere, "invert", false, &invert)) return e;
    const json* pattern = Find(node, "pattern");
    if (pattern == nullptr || !pattern->is_object() || pattern->size() != 1) {
      return Error("tokenizer.json: pre_tokenizer: Split has no pattern", Shorten(node),
                   "{\"Regex\": ...} or {\"String\": ...}");
    }
    if (pattern->contains("Regex")) {
      if (auto e = Read(*pattern, kWhere, "Regex", &expression)) return e;
    } else {
      if (auto e = Read(*pattern, kWhere, "String", &expression)) return e;
      expression = Regex::Escape(expression);
    }
    for (const auto& [name, value] : kBehaviors) {
      if (name == behavior) return AddSplit(expression, value, invert);
    }
    return Error("tokenizer.json: pre_tokenizer: unknown behavior of Split", behavior,
                 "Removed, Isolated, MergedWithPrevious, MergedWithNext or Contiguous");
  }
  return Error("tokenizer.json: this pre-tokenizer is not supported", type, "Sequence, Split, Digits or ByteLevel");
}

void PreTokenizer::Run(std::string_view text, PreTokenizerScratch& scratch) const {
  scratch.pieces.clear();
  scratch.owned.clear();
  if (text.empty()) return;
  scratch.pieces.push_back(text);
  for (size_t i = 0;; ++i) {
    if (add_prefix_space_ && i == steps_before_prefix_) {
      for (std::string_view& piece : scratch.pieces) {
        if (piece.front() != ' ') piece = scratch.owned.emplace_back(1, ' ').append(piece);
      }
    }
    if (i == steps_.size()) break;
    scratch.next.clear();
    for (const std::string_view piece : scratch.pieces) Split(steps_[i], piece, scratch);
    std::swap(scratch.pieces, scratch.next);
  }
}

// Appends the pieces of one piece to scratch.next, as the five behaviours of Hugging Face's SplitDelimiterBehavior do.
void PreTokenizer::Split(const Step& step, std::string_view piece, PreTokenizerScratch& scratch) {
  auto& spans = scratch.spans;
  spans.clear();
  size_t done = 0, from = 0;
  Match m{};
  while (from <= piece.size() && step.regex.Find(piece, from, scratch.regex, &m)) {
    if (m.begin > done) spans.push_back({done, m.begin, step.invert});
    if (m.end > m.begin) spans.push_back({m.begin, m.end, !step.invert});
    done = m.end;
    from = m.end;
    if (m.end == m.begin) {  // an empty match cuts, and the search goes on behind the next character
      if (from == piece.size()) break;
      from += DecodeUtf8(piece.data() + from).length;
    }
  }
  if (done < piece.size()) spans.push_back({done, piece.size(), step.invert});

  auto emit = [&](size_t begin, size_t end) {
    if (end > begin) scratch.next.push_back(piece.substr(begin, end - begin));
  };
  switch (step.behavior) {
    case SplitBehavior::kIsolated:
      for (const auto& s : spans) emit(s.begin, s.end);
      break;
    case SplitBehavior::kRemoved:
      for (const auto& s : spans) {
        if (!s.match) emit(s.begin, s.end);
      }
      break;
    case SplitBehavior::kContiguous:
      for (size_t i = 0; i < spans.size();) {
        size_t j = i + 1;
        while (j < spans.size() && spans[j].match == spans[i].match) ++j;
        emit(spans[i].begin, spans[j - 1].end);
        i = j;
      }
      break;
    case SplitBehavior::kMergedWithPrevious:  // a match joins the piece before it, unless that is a match too
      for (size_t i = 0; i < spans.size(); ++i) {
        const bool joins = i + 1 < spans.size() && !spans[i].match && spans[i + 1].match;
        emit(spans[i].begin, spans[joins ? i + 1 : i].end);
        i += joins;
      }
      break;
    case SplitBehavior::kMergedWithNext:  // a match joins the piece after it, unless that is a match too
      for (size_t i = 0; i < spans.size(); ++i) {
        const bool joins = i + 1 < spans.size() && spans[i].match && !spans[i + 1].match;
        emit(spans[i].begin, spans[joins ? i + 1 : i].end);
        i += joins;
      }
      break;
  }
}

}  // namespace fathom::tokenizer
