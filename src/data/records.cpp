#include "data/records.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "core/utf8.h"
#include "data/chat.h"

namespace fathom::data {
namespace {

constexpr size_t kReadBytes = 1 << 20;
constexpr size_t kSniffBytes = 64 << 10;
constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";
constexpr size_t kInvalidShare = 10;  // a tenth of the bytes: what is no text in another encoding has far fewer

// Bytes that are no UTF-8; a character that the end cuts off is not counted.
size_t InvalidBytes(std::string_view bytes) {
  if (IsUtf8(bytes)) return 0;
  size_t invalid = 0;
  for (size_t i = 0; i < bytes.size();) {
    const Utf8Part part = NextUtf8Part(bytes.substr(i));
    if (!part.valid && !part.incomplete) invalid += static_cast<size_t>(part.length);
    i += static_cast<size_t>(part.length);
  }
  return invalid;
}

bool IsWhite(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }
bool IsBlank(std::string_view text) { return std::all_of(text.begin(), text.end(), IsWhite); }

std::string_view TrimLineEnds(std::string_view text) {
  const auto is_end = [](char c) { return c == '\n' || c == '\r'; };
  while (!text.empty() && is_end(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_end(text.back())) text.remove_suffix(1);
  return text;
}

// Keeps one string of an object and nothing else, however large and deep the rest is.
class TextHandler : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit TextHandler(std::string_view key) : key_(key) {}
  bool null() override { return Value(); }
  bool boolean(bool) override { return Value(); }
  bool number_integer(number_integer_t) override { return Value(); }
  bool number_unsigned(number_unsigned_t) override { return Value(); }
  bool number_float(number_float_t, const string_t&) override { return Value(); }
  bool binary(binary_t&) override { return Value(); }
  bool string(string_t& value) override {
    if (depth_ == 0) return false;
    if (wanted_) text_ = std::move(value);  // the last of several, as nlohmann::json::parse and Python have it
    wanted_ = false;
    return true;
  }
  bool start_object(std::size_t) override { return Open(); }
  bool key(string_t& name) override {
    wanted_ = depth_ == 1 && name == key_;
    if (wanted_) {
      text_.reset();
      has_key_ = true;
    }
    return true;
  }
  bool end_object() override { return --depth_, true; }
  bool start_array(std::size_t) override { return depth_ > 0 && Open(); }
  bool end_array() override { return --depth_, true; }
  bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception&) override {
    error_at_ = position;
    return false;
  }
  bool has_key() const { return has_key_; }
  size_t error_at() const { return error_at_; }
  std::optional<std::string>& text() { return text_; }

 private:
  bool Value() {
    wanted_ = false;
    return depth_ > 0;
  }
  bool Open() {
    wanted_ = false;
    ++depth_;
    return true;
  }
  std::string_view key_;
  std::optional<std::string> text_;
  int64_t depth_ = 0;
  size_t error_at_ = 0;
  bool wanted_ = false, has_key_ = false;
};

}  // namespace

std::optional<std::string> TextOfJsonLine(std::string_view line, std::string_view text_key, NoticeKind* why,
                                          std::string* detail) {
  TextHandler handler(text_key);
  *why = NoticeKind::kBadJson;
  if (!nlohmann::json::sax_parse(line.begin(), line.end(), &handler)) {
    *detail = handler.error_at() > 0 ? fmt::format("a mistake at its byte {}", handler.error_at()) : "no object";
    return std::nullopt;
  }
  *why = NoticeKind::kNoText;
  if (!handler.text()) {
    *detail = handler.has_key() ? fmt::format("\"{}\" is no string", text_key) : fmt::format("no key \"{}\"", text_key);
    return std::nullopt;
  }
  return std::move(handler.text());
}

RecordReader::RecordReader(std::string path, Compression compression, const RecordOptions& options, Notices& notices)
    : RecordReader(std::move(path), nullptr, options, notices) {
  Result<std::unique_ptr<ByteReader>> bytes = ByteReader::Open(path_, compression);
  if (bytes) {
    bytes_ = std::move(bytes.Value());
  } else {
    Damaged(bytes.error());
  }
}

RecordReader::RecordReader(std::string path, std::unique_ptr<ByteReader> bytes, const RecordOptions& options,
                           Notices& notices)
    : path_(std::move(path)),
      options_(options),
      notices_(notices),
      bytes_(std::move(bytes)),
      delimiter_(HasLines(options.format) ? "\n" : options.separator) {}

void RecordReader::Damaged(const Error& error) {
  damaged_ = at_end_ = true;
  buffer_.clear();
  begin_ = 0;
  notices_.Add(NoticeKind::kDamaged, path_, base_, error.got().empty() ? error.summary() : error.got());
}

bool RecordReader::Fill() {
  if (at_end_) return false;
  if (begin_ > 0) {
    buffer_.erase(0, begin_);
    base_ += static_cast<int64_t>(begin_);
    begin_ = 0;
  }
  const size_t size = buffer_.size();
  buffer_.resize(size + kReadBytes);
  const Result<int64_t> got = bytes_->Read(buffer_.data() + size, kReadBytes);
  if (!got) {
    Damaged(got.error());
    return false;
  }
  buffer_.resize(size + static_cast<size_t>(got.Value()));
  at_end_ = got.Value() == 0;
  return !at_end_;
}

bool RecordReader::Skip(int64_t bytes) {
  if (at_end_) return false;
  const Result<int64_t> skipped = bytes_->Skip(bytes);
  if (!skipped) {
    Damaged(skipped.error());
    return false;
  }
  base_ = skipped.Value();
  return true;
}

// Goes past the next line end; false if none comes before `end`.
bool RecordReader::SkipLine(int64_t end) {
  for (;;) {
    const size_t found = buffer_.find('\n', begin_);
    if (found != std::string::npos) {
      begin_ = found + 1;
      return true;
    }
    begin_ = buffer_.size();
    if (position() >= end || !Fill()) return false;
  }
}

void RecordReader::SetRange(int64_t begin, int64_t end) {
  FATHOM_CHECK(HasLines(options_.format) && !opened_);
  end_ = end;
  if (begin == 0) return;
  if (!Skip(begin - 1) || !SkipLine(end)) at_end_ = true;  // the line that byte begin - 1 belongs to is another range's
}

void RecordReader::Resume(int64_t offset, int64_t end) {
  FATHOM_CHECK(!opened_);
  end_ = end;
  Skip(offset);
  opened_ = true;
}

// A file that is empty or binary is left out as a whole, and named once.
void RecordReader::Sniff() {
  opened_ = true;
  while (buffer_.size() - begin_ < kSniffBytes && Fill()) {
  }
  if (damaged_) return;
  if (buffer_.empty() && base_ == 0) notices_.Add(NoticeKind::kEmptyFile, path_, 0);
  const std::string_view head = std::string_view(buffer_).substr(begin_, kSniffBytes);
  const bool nul = head.find('\0') != std::string_view::npos;
  if (!nul && (HasLines(options_.format) || InvalidBytes(head) * kInvalidShare < head.size() || head.empty())) {
    return;
  }
  notices_.Add(NoticeKind::kBinary, path_, 0, nul ? "NUL bytes" : "invalid UTF-8");
  buffer_.clear();
  begin_ = 0;
  at_end_ = true;
}

// Where a text that is too long is cut; `text` has more than max_document_bytes.
size_t RecordReader::CutPoint(std::string_view text) const {
  const auto limit = static_cast<size_t>(options_.max_document_bytes);
  const size_t line = text.substr(0, limit).rfind('\n');
  if (line != std::string_view::npos) return line + 1;
  size_t cut = limit;  // back over the bytes that continue a character
  while (cut + 4 > limit && (static_cast<unsigned char>(text[cut]) & 0xC0) == 0x80) --cut;
  return cut + 4 > limit ? cut : limit;
}

// The bytes of the next record; they stay valid until the next call.
bool RecordReader::NextRaw(std::string_view* raw, int64_t* begin) {
  const auto limit = static_cast<size_t>(options_.max_document_bytes);
  size_t scanned = 0;  // from begin_; no delimiter begins before it
  for (;;) {
    *begin = position();
    if (*begin >= end_) return false;
    const size_t found = delimiter_.empty() ? std::string::npos : buffer_.find(delimiter_, begin_ + scanned);
    const size_t length = (found == std::string::npos ? buffer_.size() : found) - begin_;
    if (length > limit) {
      if (!cut_) {
        notices_.Add(NoticeKind::kOversized, path_, *begin,
                     HasLines(options_.format) ? "left out" : "cut into documents");
      }
      if (HasLines(options_.format)) {
        if (!SkipLine(kNoEnd)) return false;
        scanned = 0;
        continue;
      }
      cut_ = true;  // said once a text
      *raw = std::string_view(buffer_).substr(begin_, length);
      *raw = raw->substr(0, CutPoint(*raw));
      begin_ += raw->size();
      return true;
    }
    if (found != std::string::npos) {
      *raw = std::string_view(buffer_).substr(begin_, length);
      begin_ = found + delimiter_.size();
      cut_ = false;
      return true;
    }
    if (at_end_) {
      if (length == 0) return false;
      *raw = std::string_view(buffer_).substr(begin_);
      begin_ = buffer_.size();
      return true;
    }
    scanned = length - std::min(length, delimiter_.empty() ? size_t{0} : delimiter_.size() - 1);
    Fill();
  }
}

// The document of a record; false where it is left out.
bool RecordReader::Clean(std::string_view raw, int64_t begin, std::string* text) {
  if (begin == 0 && raw.substr(0, kByteOrderMark.size()) == kByteOrderMark) raw.remove_prefix(kByteOrderMark.size());
  if (options_.format == Format::kText && !delimiter_.empty()) raw = TrimLineEnds(raw);
  if (IsBlank(raw)) {
    // Empty lines, and separators side by side, are no documents that somebody could miss.
    if (delimiter_.empty()) notices_.Add(NoticeKind::kEmptyDocument, path_, begin);
    return false;
  }
  std::string repaired;
  if (!IsUtf8(raw)) {
    if (InvalidBytes(raw) * kInvalidShare >= raw.size()) {
      notices_.Add(NoticeKind::kBinary, path_, begin, "invalid UTF-8");
      return false;
    }
    repaired = Utf8Lossy(raw);
    raw = repaired;
  }
  if (options_.format == Format::kJsonl) {
    NoticeKind why = NoticeKind::kBadJson;
    std::string detail;
    std::optional<std::string> found = TextOfJsonLine(raw, options_.text_key, &why, &detail);
    if (!found) {
      notices_.Add(why, path_, begin, detail);
      return false;
    }
    if (IsBlank(*found)) {
      notices_.Add(NoticeKind::kEmptyDocument, path_, begin);
      return false;
    }
    *text = std::move(*found);
  } else {
    if (options_.format == Format::kChat) {
      if (const auto messages = MessagesOfLine(raw); !messages) {
        notices_.Add(NoticeKind::kNoText, path_, begin, messages.error().summary());
        return false;
      }
    }
    text->assign(raw);
  }
  if (text->find('\0') != std::string::npos) {
    notices_.Add(NoticeKind::kBinary, path_, begin, "NUL bytes");
    return false;
  }
  if (!repaired.empty()) notices_.Add(NoticeKind::kInvalidUtf8, path_, begin);
  return true;
}

bool RecordReader::Next(std::string* text, int64_t* begin) {
  if (damaged_) return false;
  if (!opened_) Sniff();
  std::string_view raw;
  int64_t at = 0;
  while (NextRaw(&raw, &at)) {
    if (!Clean(raw, at, text)) continue;
    if (begin != nullptr) *begin = at;
    return true;
  }
  return false;
}

}  // namespace fathom::data
