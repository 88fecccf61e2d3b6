#include "corpus/teller.h"

#include <cctype>
#include <vector>

#include "core/error.h"

namespace fathom::corpus {
namespace {

constexpr int kDeepest = 16;  // of values within values

// Where the bracket that opens at `at` is closed.
size_t Closing(std::string_view pattern, size_t at) {
  int open = 0;
  for (size_t i = at; i < pattern.size(); ++i) {
    if (pattern[i] == '[') ++open;
    if (pattern[i] == ']' && --open == 0) return i;
  }
  FATHOM_CHECK(false, std::string(pattern));
  return pattern.size();
}

std::vector<std::string_view> Choices(std::string_view inside) {
  std::vector<std::string_view> choices;
  int open = 0;
  size_t begin = 0;
  for (size_t i = 0; i <= inside.size(); ++i) {
    if (i == inside.size() || (inside[i] == '|' && open == 0)) {
      choices.push_back(inside.substr(begin, i - begin));
      begin = i + 1;
    } else if (inside[i] == '[') {
      ++open;
    } else if (inside[i] == ']') {
      --open;
    }
  }
  return choices;
}

bool TakesAn(std::string_view word) {
  if (word.empty()) return false;
  for (const std::string_view silent : {"hour", "honest"}) {
    if (word.starts_with(silent)) return true;
  }
  for (const std::string_view consonant : {"one", "use", "uni"}) {
    if (word.starts_with(consonant)) return false;
  }
  return std::string_view("aeiouAEIOU").find(word.front()) != std::string_view::npos;
}

// Blanks doubled by empty choices to one, "a~" to "a" or "an".
std::string Finish(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == ' ' && (out.empty() || out.back() == ' ' || out.back() == '\n')) continue;
    if (text[i] == '~') {
      const size_t word = text.find_first_not_of(" ~", i);
      if (word != std::string_view::npos && TakesAn(text.substr(word))) out += 'n';
      continue;
    }
    if (std::string_view(".,!?;:").find(text[i]) != std::string_view::npos && !out.empty() && out.back() == ' ') {
      out.pop_back();
    }
    out += text[i];
  }
  while (!out.empty() && out.back() == ' ') out.pop_back();
  return out;
}

}  // namespace

std::string Capital(std::string_view text) {
  std::string out(text);
  if (!out.empty()) out[0] = static_cast<char>(std::toupper(static_cast<unsigned char>(out[0])));
  return out;
}

std::string Teller::Value(std::string_view key, int depth) {
  FATHOM_CHECK(depth < kDeepest, std::string(key));
  const auto found = values_.find(key);
  std::string out;
  if (found != values_.end()) {
    Expand(found->second, depth + 1, &out);
    return out;
  }
  std::string lower(key);
  for (char& c : lower) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  const auto small = values_.find(lower);
  FATHOM_CHECK(small != values_.end(), std::string(key));
  Expand(small->second, depth + 1, &out);
  return Capital(out);
}

void Teller::Expand(std::string_view pattern, int depth, std::string* out) {
  for (size_t at = 0; at < pattern.size();) {
    if (pattern[at] == '[') {
      const size_t end = Closing(pattern, at);
      const std::vector<std::string_view> choices = Choices(pattern.substr(at + 1, end - at - 1));
      Expand(PickOf(choices), depth, out);
      at = end + 1;
    } else if (pattern[at] == '<') {
      const size_t end = pattern.find('>', at);
      FATHOM_CHECK(end != std::string_view::npos, std::string(pattern));
      *out += Value(pattern.substr(at + 1, end - at - 1), depth);
      at = end + 1;
    } else {
      *out += pattern[at++];
    }
  }
}

std::string Teller::Say(std::string_view pattern) {
  std::string out;
  Expand(pattern, 0, &out);
  return Finish(out);
}

void Teller::Add(std::string_view pattern) {
  const std::string sentence = Say(pattern);
  if (sentence.empty()) return;
  if (!text_.empty()) text_ += paragraph_ ? "\n\n" : " ";
  paragraph_ = false;
  text_ += sentence;
}

}  // namespace fathom::corpus
