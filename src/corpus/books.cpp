#include "corpus/books.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cstdint>
#include <regex>
#include <utility>

namespace fathom::corpus {
namespace {

constexpr size_t kDocumentBytes = 3000;  // aimed at
constexpr size_t kLeastBytes = 200;      // shorter sections are captions and remarks
constexpr size_t kVerseLines = 8;

bool IsUpper(char c) { return c >= 'A' && c <= 'Z'; }
bool IsLower(char c) { return c >= 'a' && c <= 'z'; }
bool IsBlank(std::string_view s) { return s.find_first_not_of(" \t\r") == std::string_view::npos; }

std::string_view Strip(std::string_view s) {
  const size_t begin = s.find_first_not_of(" \t\r");
  if (begin == std::string_view::npos) return {};
  return s.substr(begin, s.find_last_not_of(" \t\r") - begin + 1);
}

std::vector<std::string_view> Lines(std::string_view text) {
  std::vector<std::string_view> lines;
  for (size_t at = 0; at <= text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    lines.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  return lines;
}

// What stands in square brackets: translators' and editors' glosses, numbers of notes.
void DropBrackets(std::string& text) {
  for (size_t at = 0; (at = text.find('[', at)) != std::string::npos;) {
    const size_t end = text.find_first_of("[]", at + 1);
    if (end == std::string::npos || text[end] == '[') {
      text.erase(at, 1);
      continue;
    }
    size_t begin = at;
    while (begin > 0 && text[begin - 1] == ' ') --begin;
    text.erase(begin, end + 1 - begin);
    at = begin;
  }
}

// Runs of blanks to one, marks of emphasis left out.
std::string Plain(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '_' || c == '*' || c == '\\' || c == '\r') continue;
    if (c == ' ' || c == '\t') {
      if (!out.empty() && out.back() != ' ' && out.back() != '\n') out += ' ';
    } else {
      out += c;
    }
  }
  while (!out.empty() && out.back() == ' ') out.pop_back();
  return out;
}

// The list, each letter moved by 13, so that the words do not stand here.
constexpr std::array<std::string_view, 7> kSlurs = {"avttre", "avttn", "qnexvr", "cvpxnaval",
                                                    "fnzob",  "xvxr",  "xnssve"};

bool HasSlur(std::string_view text) {
  std::string turned(text);
  for (char& c : turned) {
    const char low = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    c = IsLower(low) ? static_cast<char>('a' + (low - 'a' + 13) % 26) : ' ';
  }
  turned.insert(turned.begin(), ' ');
  return std::any_of(kSlurs.begin(), kSlurs.end(), [&](std::string_view slur) {
    for (size_t at = turned.find(slur); at != std::string::npos; at = turned.find(slur, at + 1)) {
      if (turned[at - 1] == ' ') return true;
    }
    return false;
  });
}

enum class Kind : uint8_t { kProse, kVerse, kHeading, kDropped };

struct Paragraph {
  Kind kind = Kind::kDropped;
  size_t lines = 0;
  std::string text;
};

bool IsHeading(const std::string& text) {
  if (std::none_of(text.begin(), text.end(), IsLower)) return true;
  if (text.size() > 120) return false;
  static const std::regex heading(
      "(?:chapter|book|part|volume|adventure|stave|epilogue|contents|footnotes?|the end|end of|produced by|translated "
      "by|"
      "by)\\b(?:(?: the)? (?:[ivxlc]+\\b|[0-9]+|first|second|third|one|two|three)\\b.*|[:.]?.{0,60})",
      std::regex::icase);
  static const std::regex numbered("(?:[IVXLC]+|[0-9]+)\\.? ?.{0,50}[^.!?\"',;]");
  static const std::regex chapter("(?:CHAPTER|Chapter|BOOK|PART|VOLUME) .*");
  if (std::regex_match(text, chapter) || std::regex_match(text, numbered)) return true;
  const char last = text.back();
  return std::regex_match(text, heading) && last != '"' && last != ',' && last != ';' && text.size() < 80 &&
         (last != '.' || text.size() < 40) && last != '!' && last != '?' && last != ':';
}

Paragraph Classify(const std::vector<std::string_view>& lines) {
  Paragraph p;
  p.lines = lines.size();
  const std::string_view first = Strip(lines.front());
  if (first.starts_with("#") || first.starts_with("[Illustration") || first.find_first_not_of("-*=_ ") == first.npos) {
    p.kind = Kind::kHeading;
    return p;
  }
  size_t longest = 0, bytes = 0, capitals = 0, indented = 0;
  for (std::string_view line : lines) {
    indented += line.starts_with("   ") ? 1 : 0;
    const std::string_view stripped = Strip(line);
    longest = std::max(longest, stripped.size());
    bytes += stripped.size();
    const size_t letter = stripped.find_first_not_of("\"'(_");
    capitals += letter != stripped.npos && IsUpper(stripped[letter]) ? 1 : 0;
  }
  const bool verse = lines.size() >= 3 && longest < 66 && bytes < lines.size() * 52 &&
                     (capitals * 10 >= lines.size() * 8 || indented * 10 >= lines.size() * 8);
  std::string text;
  for (std::string_view line : lines) {
    line = Strip(line);
    while (line.starts_with(">")) line = Strip(line.substr(1));
    if (line.empty()) continue;
    if (!text.empty()) text += verse ? '\n' : ' ';
    text += line;
  }
  DropBrackets(text);
  p.text = Plain(text);
  if (p.text.empty() || p.text.find("Gutenberg") != std::string::npos || p.text.find("http") != std::string::npos) {
    p.kind = Kind::kDropped;
  } else if (IsHeading(p.text)) {
    p.kind = Kind::kHeading;
  } else if (verse) {
    p.kind = Kind::kVerse;
  } else {
    // Running text ends with a mark; a short line without one is a caption, a signature or a line of contents.
    const bool ends = std::string_view(".!?\"':;,-)").find(p.text.back()) != std::string_view::npos;
    p.kind = ends || p.text.size() >= 120 ? Kind::kProse : Kind::kDropped;
  }
  return p;
}

std::vector<Paragraph> Paragraphs(std::string_view text) {
  std::vector<Paragraph> out;
  std::vector<std::string_view> lines;
  const auto end = [&] {
    if (!lines.empty()) out.push_back(Classify(lines));
    lines.clear();
  };
  for (const std::string_view line : Lines(text)) {
    const bool heading = line.starts_with("#");
    if (heading || IsBlank(line)) end();
    if (heading) out.push_back({Kind::kHeading, 1, {}});
    if (!heading && !IsBlank(line)) lines.push_back(line);
  }
  end();
  return out;
}

// Verse that goes on over blank lines counts as one piece.
void DropLongVerse(std::vector<Paragraph>& paragraphs) {
  for (size_t begin = 0; begin < paragraphs.size();) {
    size_t end = begin, lines = 0;
    while (end < paragraphs.size() && paragraphs[end].kind == Kind::kVerse) lines += paragraphs[end++].lines;
    if (lines > kVerseLines) {
      for (size_t i = begin; i < end; ++i) paragraphs[i].kind = Kind::kDropped;
    }
    begin = std::max(end, begin + 1);
  }
}

// A section's paragraphs as parts of nearly equal size.
void AddSection(const std::string& book, std::vector<std::string>& section, std::vector<BookDocument>& out) {
  size_t bytes = 0;
  for (const std::string& p : section) bytes += p.size() + 2;
  if (bytes >= kLeastBytes) {
    const size_t parts = std::max<size_t>(1, (bytes + kDocumentBytes / 2) / kDocumentBytes);
    size_t done = 0, part = 1;
    std::string text;
    for (const std::string& p : section) {
      if (!text.empty() && part < parts && done + p.size() / 2 >= bytes * part / parts) {
        if (!HasSlur(text)) out.push_back({book, std::move(text)});
        text.clear();
        ++part;
      }
      if (!text.empty()) text += "\n\n";
      text += p;
      done += p.size() + 2;
    }
    if (!text.empty() && !HasSlur(text)) out.push_back({book, std::move(text)});
  }
  section.clear();
}

void CleanBook(std::string_view text, const std::string& title, std::vector<BookDocument>& out) {
  std::vector<Paragraph> paragraphs = Paragraphs(text);
  DropLongVerse(paragraphs);
  std::vector<std::string> section;
  for (Paragraph& p : paragraphs) {
    if (p.kind == Kind::kHeading) AddSection(title, section, out);
    if (p.kind == Kind::kProse || p.kind == Kind::kVerse) section.push_back(std::move(p.text));
  }
  AddSection(title, section, out);
}

}  // namespace

std::string AsciiPunctuation(std::string_view text) {
  static const std::array<std::pair<std::string_view, std::string_view>, 19> map = {{
      {"\u2018", "'"},  {"\u2019", "'"},  {"\u201c", "\""},  {"\u201d", "\""}, {"\u2013", "-"},
      {"\u2014", "--"}, {"\u2015", "--"}, {"\u2026", "..."}, {"\u00a0", " "},  {"\u200b", ""},
      {"\u2060", ""},   {"\ufeff", ""},   {"\u00e6", "ae"},  {"\u00c6", "Ae"}, {"\u0153", "oe"},
      {"\u0152", "Oe"}, {"\u00d7", "x"},  {"\u2020", ""},    {"\u2022", ""},
  }};
  std::string out;
  out.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const auto found = static_cast<unsigned char>(text[at]) < 0x80
                           ? map.end()
                           : std::find_if(map.begin(), map.end(),
                                          [&](const auto& m) { return text.substr(at, m.first.size()) == m.first; });
    if (found == map.end()) {
      out += text[at++];
    } else {
      out += found->second;
      at += found->first.size();
    }
  }
  return out;
}

std::vector<BookDocument> CleanBooks(std::string_view text, std::string_view title) {
  constexpr std::string_view kTitle = "# Title: ", kLineTitle = "\n# Title: ";
  const std::string ascii = AsciiPunctuation(text);
  std::vector<BookDocument> out;
  size_t at = ascii.starts_with(kTitle) ? 0 : ascii.find(kLineTitle);
  if (at == std::string::npos) {
    CleanBook(ascii, std::string(title), out);
    return out;
  }
  while (at != std::string::npos) {
    at = ascii.find(kTitle, at) + kTitle.size();
    const size_t line_end = std::min(ascii.find('\n', at), ascii.size());
    const size_t next = ascii.find(kLineTitle, line_end);
    CleanBook(std::string_view(ascii).substr(line_end, std::min(next, ascii.size()) - line_end),
              std::string(Strip(std::string_view(ascii).substr(at, line_end - at))), out);
    at = next;
  }
  return out;
}

}  // namespace fathom::corpus
