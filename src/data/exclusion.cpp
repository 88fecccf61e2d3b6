#include "data/exclusion.h"

#include <algorithm>

#include "data/hash.h"

namespace fathom::data {
namespace {

constexpr uint64_t kBase = 0x9E3779B97F4A7C15u;

// kBase^n modulo 2^64.
constexpr uint64_t Power(size_t n) {
  uint64_t power = 1;
  for (size_t i = 0; i < n; ++i) power *= kBase;
  return power;
}
constexpr uint64_t kOldest = Power(Exclusion::kWindowBytes - 1);

bool IsSpace(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }
bool Continues(char c) { return (static_cast<unsigned char>(c) & 0xC0) == 0x80; }  // within a character
uint64_t ByteValue(char c) { return static_cast<unsigned char>(c) + uint64_t{1}; }

// Runs of white space as one blank, none at the ends.
std::string Normalise(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (const char c : text) {
    if (!IsSpace(c)) {
      out += c;
    } else if (!out.empty() && out.back() != ' ') {
      out += ' ';
    }
  }
  if (!out.empty() && out.back() == ' ') out.pop_back();
  return out;
}

uint64_t WindowHash(std::string_view text, size_t at) {
  uint64_t hash = 0;
  for (size_t i = 0; i < Exclusion::kWindowBytes; ++i) hash = hash * kBase + ByteValue(text[at + i]);
  return hash;
}

}  // namespace

void Exclusion::Add(std::string_view text) {
  std::string normal = Normalise(text);
  if (normal.empty()) return;
  const uint64_t hash = HashText(normal);
  if (!whole_.insert(hash).second) return;
  hash_ = HashPair(hash_, hash);
  const auto index = static_cast<uint32_t>(texts_.size());
  for (size_t at = 0; at + kWindowBytes <= normal.size(); at += kWindowBytes) {
    std::vector<Window>& twins = windows_[MixBits(WindowHash(normal, at))];
    if (twins.size() < kMaxTwins) twins.push_back({index, static_cast<uint32_t>(at)});
    ++window_count_;
  }
  texts_.push_back(std::move(normal));
  GrowFilter();
}

// At least 64 bits a window.
void Exclusion::GrowFilter() {
  size_t bits = std::max<size_t>(filter_.size() * 64, 1 << 16);
  const bool grow = filter_.empty() || bits < window_count_ * 64;
  while (bits < window_count_ * 64) bits *= 4;
  const auto set = [&](uint64_t hash) {
    filter_[hash >> filter_shift_ >> 6] |= uint64_t{1} << (hash >> filter_shift_ & 63);
  };
  if (grow) {
    filter_.assign(bits / 64, 0);
    filter_shift_ = 64;
    for (size_t b = bits; b > 1; b /= 2) --filter_shift_;
    for (const auto& entry : windows_) set(entry.first);
    return;
  }
  const std::string& text = texts_.back();
  for (size_t at = 0; at + kWindowBytes <= text.size(); at += kWindowBytes) set(MixBits(WindowHash(text, at)));
}

// The run around a window that lies at document[at]; not to the left of `from`. Its length, 0 if the window does not
// lie there.
size_t Exclusion::Extend(std::string_view document, size_t at, size_t from, const Window& window, Range* run) const {
  const std::string_view text = texts_[window.text];
  if (document.compare(at, kWindowBytes, text, window.position, kWindowBytes) != 0) return 0;
  size_t left = at, text_left = window.position;
  while (left > from && text_left > 0 && document[left - 1] == text[text_left - 1]) --left, --text_left;
  size_t right = at + kWindowBytes, text_right = window.position + kWindowBytes;
  while (right < document.size() && text_right < text.size() && document[right] == text[text_right]) {
    ++right, ++text_right;
  }
  const size_t length = right - left;
  if (length < kRunBytes && length < text.size() && length < document.size()) return 0;
  *run = {left, right};
  return length;
}

bool Exclusion::Cut(std::string_view text, std::vector<std::string>* rest) const {
  rest->clear();
  if (texts_.empty()) return false;
  const std::string document = Normalise(text);
  if (whole_.count(HashText(document)) != 0) return true;

  std::vector<Range> ranges;  // of the normalised document
  size_t from = 0;            // the end of the last range
  uint64_t hash = 0;
  for (size_t at = 0, fresh = 1; at + kWindowBytes <= document.size();) {
    if (fresh != 0) {
      hash = WindowHash(document, at);
      fresh = 0;
    }
    const uint64_t mixed = MixBits(hash);
    Range best{0, 0};
    if (MaybeWindow(mixed)) {
      if (const auto found = windows_.find(mixed); found != windows_.end()) {
        for (const Window& window : found->second) {
          Range run{0, 0};
          if (Extend(document, at, from, window, &run) > best.end - best.begin) best = run;
        }
      }
    }
    if (best.end > 0) {
      ranges.push_back(best);
      at = from = best.end;
      fresh = 1;
      continue;
    }
    if (at + kWindowBytes < document.size()) {
      hash = (hash - ByteValue(document[at]) * kOldest) * kBase + ByteValue(document[at + kWindowBytes]);
    }
    ++at;
  }
  if (ranges.empty()) return false;

  // The same ranges in the text as it was: Normalise's rule once more, counting.
  size_t kept = 0, next = 0, begin = 0;  // begin: of what is kept
  bool inside = false, blank = true;     // blank: the last byte written was one (or none was)
  const auto keep = [&](size_t end) {
    if (end > begin && !std::all_of(text.begin() + begin, text.begin() + end, IsSpace)) {
      rest->emplace_back(text.substr(begin, end - begin));
    }
  };
  for (size_t i = 0; i < text.size() && (inside || next < ranges.size()); ++i) {
    const bool space = IsSpace(text[i]);
    if (space && blank) continue;
    blank = space;
    // Byte i of the text is byte `kept` of the document.
    if (inside && kept >= ranges[next].end && !Continues(text[i])) {
      inside = false;
      begin = i;
      ++next;
    }
    if (!inside && next < ranges.size() && kept >= ranges[next].begin) {
      size_t cut = i;
      while (cut > begin && Continues(text[cut])) --cut;
      keep(cut);
      inside = true;
    }
    ++kept;
  }
  if (!inside) keep(text.size());
  return true;
}

}  // namespace fathom::data
