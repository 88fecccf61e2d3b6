#include "tokenizer/added_tokens.h"

#include <cstring>

#include "core/utf8.h"
#include "tokenizer/unicode.h"

namespace fathom::tokenizer {
namespace {

bool IsWhiteSpace(uint32_t c) {
  for (const ClassRange& r : ClassRanges()) {
    if (r.value == CharClass::kW && c >= r.first && c <= r.last) return true;
  }
  return false;
}

size_t CharBefore(std::string_view text, size_t at) {
  do --at;
  while (at > 0 && (text[at] & 0xC0) == 0x80);
  return at;
}

}  // namespace

void AddedTokenMatcher::Trie::Add(std::string_view content, int32_t token) {
  int32_t node = 0;
  for (size_t i = 0; i < content.size(); ++i) {
    const auto byte = static_cast<unsigned char>(content[i]);
    int32_t child = node == 0 ? roots[byte] : nodes[node].first_child;
    while (child >= 0 && nodes[child].byte != byte) child = nodes[child].sibling;
    if (child < 0) {
      child = static_cast<int32_t>(nodes.size());
      nodes.push_back({-1, -1, node == 0 ? -1 : nodes[node].first_child, byte});
      (node == 0 ? roots[byte] : nodes[node].first_child) = child;
    }
    node = child;
  }
  nodes[node].token = token;
  const int first = static_cast<unsigned char>(content[0]);
  only_first = nodes.size() == content.size() + 1 || only_first == first ? first : -1;
}

size_t AddedTokenMatcher::Trie::NextCandidate(std::string_view text, size_t from) const {
  if (only_first >= 0) {
    const void* p = from < text.size() ? std::memchr(text.data() + from, only_first, text.size() - from) : nullptr;
    return p == nullptr ? text.size() : static_cast<size_t>(static_cast<const char*>(p) - text.data());
  }
  while (from < text.size() && roots[static_cast<unsigned char>(text[from])] < 0) ++from;
  return from;
}

int32_t AddedTokenMatcher::Trie::Longest(std::string_view text, size_t from) const {
  int32_t best = -1;
  int32_t node = roots[static_cast<unsigned char>(text[from])];
  while (node >= 0) {
    if (nodes[node].token >= 0) best = nodes[node].token;
    if (++from == text.size()) break;
    const auto byte = static_cast<unsigned char>(text[from]);
    for (node = nodes[node].first_child; node >= 0 && nodes[node].byte != byte;) node = nodes[node].sibling;
  }
  return best;
}

Result<AddedTokenMatcher> AddedTokenMatcher::Make(const std::vector<AddedToken>& tokens) {
  AddedTokenMatcher out;
  out.tokens_ = tokens;
  bool single_word = false;
  for (size_t i = 0; i < tokens.size(); ++i) {
    out.rounds_[tokens[i].normalized ? 1 : 0].Add(tokens[i].content, static_cast<int32_t>(i));
    single_word |= tokens[i].single_word;
  }
  if (single_word) {  // Rust's \w
    Result<Regex> word = Regex::Compile("[\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\p{Join_Control}]");
    if (!word.ok()) return word.error();
    out.word_ = std::make_shared<Regex>(std::move(word).Value());
  }
  return out;
}

bool AddedTokenMatcher::IsWordAt(std::string_view text, size_t at) const {
  if (at >= text.size()) return false;
  RegexScratch scratch;
  Match m{};
  return word_->Find(text.substr(at, DecodeUtf8(text.data() + at).length), 0, scratch, &m);
}

bool AddedTokenMatcher::IsWordBefore(std::string_view text, size_t at) const {
  return at > 0 && IsWordAt(text, CharBefore(text, at));
}

void AddedTokenMatcher::Split(std::string_view text, bool specials, std::vector<Part>& parts) const {
  parts.clear();
  if (rounds_[1].nodes.size() == 1) return Round(rounds_[0], text, specials, parts);
  std::vector<Part> first;
  Round(rounds_[0], text, specials, first);
  for (const Part& part : first) {
    if (part.id >= 0) {
      parts.push_back(part);
    } else {
      Round(rounds_[1], part.text, specials, parts);
    }
  }
}

void AddedTokenMatcher::Round(const Trie& trie, std::string_view text, bool specials, std::vector<Part>& parts) const {
  if (trie.nodes.size() == 1) {
    if (!text.empty()) parts.push_back({text, -1});
    return;
  }
  size_t done = 0;  // what is behind is in `parts`
  for (size_t at = trie.NextCandidate(text, 0); at < text.size(); at = trie.NextCandidate(text, at)) {
    const int32_t index = trie.Longest(text, at);
    if (index < 0) {
      ++at;
      continue;
    }
    const AddedToken& token = tokens_[index];
    size_t begin = at, end = at + token.content.size();
    at = end;  // the search goes on behind the match, taken or not
    if (token.special && !specials) continue;
    if (token.single_word && (IsWordBefore(text, begin) || IsWordAt(text, end))) continue;
    if (token.lstrip) {
      while (begin > done) {
        const size_t before = CharBefore(text, begin);
        if (before < done || !IsWhiteSpace(DecodeUtf8(text.data() + before).value)) break;
        begin = before;
      }
    }
    if (token.rstrip) {
      while (end < text.size()) {
        const CodePoint c = DecodeUtf8(text.data() + end);
        if (!IsWhiteSpace(c.value)) break;
        end += c.length;
      }
    }
    if (begin > done) parts.push_back({text.substr(done, begin - done), -1});
    parts.push_back({text.substr(begin, end > begin ? end - begin : 0), token.id});
    done = end;
  }
  if (done < text.size()) parts.push_back({text.substr(done), -1});
}

}  // namespace fathom::tokenizer
