#define PCRE2_CODE_UNIT_WIDTH 8
#include "tokenizer/regex.h"

#include <fmt/format.h>
#include <pcre2.h>

#include <algorithm>
#include <cctype>
#include <new>
#include <vector>

#include "tokenizer/unicode.h"

namespace fathom::tokenizer {
namespace {

constexpr size_t kMaxExpression = 1 << 16;
constexpr size_t kJitStackStart = 32 << 10, kJitStackMost = 16 << 20;

// Oniguruma's \w in UTF-8: its documented classes, and six superscripts and fractions of Latin-1 that its table also
// holds.
constexpr std::string_view kWord = "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\x{B2}\\x{B3}\\x{B9}\\x{BC}-\\x{BE}";

std::string Newer(std::string_view property) {
  static const std::vector<std::pair<std::string_view, CharClass>> names = {
      {"L", CharClass::kL}, {"M", CharClass::kM}, {"P", CharClass::kP},
      {"S", CharClass::kS}, {"N", CharClass::kN}, {"Nd", CharClass::kNd}};
  std::string out;
  for (const auto& [name, cls] : names) {
    if (name != property) continue;
    for (const ClassRange& r : ClassRangesSinceUnicode14()) {
      if (r.value == cls) out += fmt::format("\\x{{{:X}}}-\\x{{{:X}}}", r.first, r.last);
    }
  }
  return out;
}

// One pass over the expression; `in_class_` inside [...].
class Translator {
 public:
  explicit Translator(std::string_view in) : in_(in) {}

  Result<std::string> Run() {
    if (in_.size() > kMaxExpression) {
      return Error("tokenizer: an expression is too long", fmt::format("{} bytes", in_.size()),
                   fmt::format("at most {}", kMaxExpression));
    }
    while (at_ < in_.size() && refused_.empty()) Step();
    if (in_class_ && refused_.empty()) refused_ = "a character class that does not end";
    if (!refused_.empty()) {
      return Error("tokenizer: a pre-tokenizer expression is not supported",
                   fmt::format("{} in {}", refused_, std::string(in_.substr(0, 200))),
                   "the part of Oniguruma's syntax that src/tokenizer/regex.h names");
    }
    return std::move(out_);
  }

 private:
  bool Follows(std::string_view s) const { return in_.substr(at_, s.size()) == s; }
  void Copy(size_t n) {
    out_ += in_.substr(at_, n);
    at_ += n;
  }
  void Refuse(std::string_view what) { refused_ = what; }
  void Put(std::string_view members) {  // members of a class, inside one or as one
    if (in_class_) {
      out_ += members;
    } else {
      out_ += fmt::format("[{}]", members);
    }
  }

  void Step() {
    const char c = in_[at_];
    if (c == '\\') return Escape();
    if (in_class_) return ClassMember(c);
    if (c == '[') {
      in_class_ = true;
      Copy(1);
      if (Follows("^")) Copy(1);
      if (Follows("]")) Refuse("[] (an empty class)");
    } else if (c == '(') {
      Group();
    } else if (c == '{') {
      Braces();
    } else {
      Copy(1);
    }
  }

  void ClassMember(char c) {
    if (c == '[') return Refuse("a class within a class");
    if (Follows("&&")) return Refuse("&& (an intersection of classes)");
    if (c == ']') in_class_ = false;
    Copy(1);
  }

  void Group() {
    Copy(1);
    if (Follows("*")) return Refuse("(*...) (a verb)");
    if (!Follows("?")) return;
    for (std::string_view known : {"?:", "?=", "?!", "?>", "?<=", "?<!", "?i:", "?-i:", "?i)"}) {
      if (Follows(known)) return Copy(known.size() - (known.back() == ')' ? 1 : 0));
    }
    Refuse(fmt::format("({}", in_.substr(at_, 3)));
  }

  void Braces() {  // {n} {n,} {n,m}; anything else is a literal brace to PCRE2, but not always to Oniguruma
    size_t end = at_ + 1;
    while (end < in_.size() && (std::isdigit(static_cast<unsigned char>(in_[end])) || in_[end] == ',')) ++end;
    if (end == in_.size() || in_[end] != '}' || !std::isdigit(static_cast<unsigned char>(in_[at_ + 1]))) {
      return Refuse("a brace that is no {n,m}");
    }
    Copy(end + 1 - at_);
    if (Follows("+")) Refuse("a possessive {n,m}+");
  }

  void Escape() {
    if (at_ + 1 == in_.size()) return Refuse("a backslash at the end");
    const char e = in_[at_ + 1];
    if (static_cast<unsigned char>(e) >= 0x80 || std::ispunct(static_cast<unsigned char>(e)) || e == ' ')
      return Copy(2);
    switch (e) {
      case 'n':
      case 'r':
      case 't':
      case 'f':
      case 'a':
        return Copy(2);
      case 'A':
      case 'z':
      case 'Z':
      case 'b':
      case 'B':
        if (in_class_) return Refuse(fmt::format("\\{} in a class", e));
        return Copy(2);
      case 's':
        out_ += "\\p{White_Space}", at_ += 2;
        return;
      case 'S':
        out_ += "\\P{White_Space}", at_ += 2;
        return;
      case 'd':
        Put("\\p{Nd}" + Newer("Nd")), at_ += 2;
        return;
      case 'w':
        Put(kWord), at_ += 2;
        return;
      case 'D':
      case 'W':
        if (in_class_) return Refuse(fmt::format("\\{} in a class", e));
        out_ += fmt::format("[^{}]", e == 'W' ? std::string(kWord) : "\\p{Nd}" + Newer("Nd")), at_ += 2;
        return;
      case 'p':
      case 'P':
        return Property(e == 'P');
      case 'x':
      case 'u':
        return Hexadecimal(e);
      default:
        return Refuse(fmt::format("\\{}", e));
    }
  }

  void Property(bool negated) {
    at_ += 2;
    const size_t end = in_.find('}', at_);
    if (!Follows("{") || end == std::string_view::npos) return Refuse("\\p without {name}");
    std::string_view name = in_.substr(at_ + 1, end - at_ - 1);
    at_ = end + 1;
    if (!name.empty() && name[0] == '^') negated = !negated, name.remove_prefix(1);
    const bool known = !name.empty() && std::all_of(name.begin(), name.end(), [](char c) {
      return std::isalnum(static_cast<unsigned char>(c)) || c == '_';
    });
    if (!known) return Refuse("\\p with such a name");
    const std::string newer = Newer(name);
    if (newer.empty()) {
      out_ += fmt::format("\\{}{{{}}}", negated ? 'P' : 'p', name);
    } else if (!negated) {
      Put(fmt::format("\\p{{{}}}{}", name, newer));
    } else if (in_class_) {
      Refuse(fmt::format("\\P{{{}}} in a class", name));
    } else {
      out_ += fmt::format("[^\\p{{{}}}{}]", name, newer);
    }
  }

  void Hexadecimal(char kind) {  // \xHH \x{H...} \uHHHH
    at_ += 2;
    std::string_view digits;
    if (kind == 'x' && Follows("{")) {
      const size_t end = in_.find('}', at_);
      if (end == std::string_view::npos) return Refuse("\\x{ without an end");
      digits = in_.substr(at_ + 1, end - at_ - 1);
      at_ = end + 1;
    } else {
      digits = in_.substr(at_, kind == 'x' ? 2 : 4);
      if (digits.size() != (kind == 'x' ? 2u : 4u)) return Refuse("a short hexadecimal escape");
      at_ += digits.size();
    }
    const bool hex = !digits.empty() && digits.size() <= 6 && std::all_of(digits.begin(), digits.end(), [](char c) {
      return std::isxdigit(static_cast<unsigned char>(c));
    });
    if (!hex) return Refuse("a malformed hexadecimal escape");
    out_ += fmt::format("\\x{{{}}}", digits);
  }

  std::string_view in_;
  size_t at_ = 0;
  bool in_class_ = false;
  std::string out_;
  std::string refused_;
};

template <class T>
T* NotNull(T* p) {
  if (p == nullptr) throw std::bad_alloc();
  return p;
}

}  // namespace

RegexScratch::RegexScratch()
    : data_(NotNull(pcre2_match_data_create(1, nullptr))),
      context_(NotNull(pcre2_match_context_create(nullptr))),
      stack_(pcre2_jit_stack_create(kJitStackStart, kJitStackMost, nullptr)) {
  if (stack_ != nullptr) pcre2_jit_stack_assign(context_, nullptr, stack_);  // absent where PCRE2 has no JIT
}

RegexScratch::~RegexScratch() {
  pcre2_match_data_free(data_);
  pcre2_match_context_free(context_);
  if (stack_ != nullptr) pcre2_jit_stack_free(stack_);
}

void Regex::Free::operator()(pcre2_real_code_8* code) const { pcre2_code_free(code); }

Result<std::string> Regex::Translate(std::string_view oniguruma) { return Translator(oniguruma).Run(); }

std::string Regex::Escape(std::string_view literal) {
  std::string out;
  for (const char c : literal) {
    if (std::ispunct(static_cast<unsigned char>(c)) && static_cast<unsigned char>(c) < 0x80) out += '\\';
    out += c;
  }
  return out;
}

Result<Regex> Regex::Compile(std::string_view oniguruma) {
  Result<std::string> translated = Translate(oniguruma);
  if (!translated.ok()) return translated.error();
  const std::string& pattern = translated.Value();
  pcre2_compile_context* context = NotNull(pcre2_compile_context_create(nullptr));
  pcre2_set_newline(context, PCRE2_NEWLINE_LF);
  int code = 0;
  PCRE2_SIZE offset = 0;
  pcre2_code* compiled =
      pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                    PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C, &code, &offset, context);
  pcre2_compile_context_free(context);
  if (compiled == nullptr) {
    unsigned char message[256] = {};
    pcre2_get_error_message(code, message, sizeof message);
    return Error(
        "tokenizer: a pre-tokenizer expression is malformed",
        fmt::format("{} in {}", reinterpret_cast<const char*>(message), std::string(oniguruma.substr(0, 200))));
  }
  pcre2_jit_compile(compiled, PCRE2_JIT_COMPLETE);  // where that fails the interpreter runs it
  return Regex(compiled);
}

bool Regex::Find(std::string_view text, size_t from, RegexScratch& scratch, Match* match) const {
  const uint64_t limit = 1'000'000 + 32 * static_cast<uint64_t>(text.size());
  pcre2_set_match_limit(scratch.context_, static_cast<uint32_t>(std::min<uint64_t>(limit, UINT32_MAX)));
  const int rc = pcre2_match(code_.get(), reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), from,
                             PCRE2_NO_UTF_CHECK, scratch.data_, scratch.context_);
  if (rc == PCRE2_ERROR_NOMATCH) return false;
  if (rc < 0) {
    unsigned char message[256] = {};
    pcre2_get_error_message(rc, message, sizeof message);
    throw Error("tokenizer: a pre-tokenizer expression gave up on the text", reinterpret_cast<const char*>(message), "",
                "the tokenizer's expressions need more backtracking than is allowed");
  }
  const PCRE2_SIZE* bounds = pcre2_get_ovector_pointer(scratch.data_);
  // \K is refused, so a match never begins after its end.
  *match = {bounds[0], bounds[1]};
  return true;
}

}  // namespace fathom::tokenizer
