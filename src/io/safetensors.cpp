#include "io/safetensors.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>
#include <optional>

namespace fathom::io {
namespace {

constexpr size_t kMaxDimensions = 16;
constexpr int64_t kMaxElements = int64_t{1} << 56;  // leaves room to multiply with an element's size

std::string Quote(std::string_view s) {
  constexpr size_t kShown = 120;
  std::string out = "\"";
  for (char c : s.substr(0, kShown)) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
      out += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
    } else {
      out += c;
    }
  }
  return out + (s.size() > kShown ? "...\"" : "\"");
}

// Takes the header event by event: no document is built, and what does not belong there ends the parse at once.
class HeaderReader {
 public:
  using number_integer_t = nlohmann::json::number_integer_t;
  using number_unsigned_t = nlohmann::json::number_unsigned_t;
  using number_float_t = nlohmann::json::number_float_t;
  using string_t = nlohmann::json::string_t;
  using binary_t = nlohmann::json::binary_t;

  SafetensorsHeader header;
  std::optional<Error> error;

  bool key(string_t& s) {
    switch (place_) {
      case Place::kTop:
        if (s == "__metadata__") {
          if (metadata_seen_) return Refuse("__metadata__ is there twice");
          metadata_seen_ = true;
          expect_ = Expect::kMetadata;
        } else {
          entry_ = {};
          entry_.name = std::move(s);
          seen_ = 0;
          expect_ = Expect::kEntry;
        }
        return true;
      case Place::kMetadata:
        metadata_key_ = std::move(s);
        return header.metadata.count(metadata_key_) == 0 ||
               Refuse("the metadata key " + Quote(metadata_key_) + " is there twice");
      case Place::kEntry:
        if (s == "dtype") return Field(kDtypeSeen, Expect::kDtype, s);
        if (s == "shape") return Field(kShapeSeen, Expect::kShape, s);
        if (s == "data_offsets") return Field(kOffsetsSeen, Expect::kOffsets, s);
        return Refuse(Tensor() + " has a field " + Quote(s), "", "dtype, shape and data_offsets");
      case Place::kShape:
      case Place::kOffsets:
      case Place::kOutside:
        break;
    }
    return Refuse("a key in an unexpected place");
  }

  bool start_object(size_t) {
    if (place_ == Place::kOutside) {
      place_ = Place::kTop;
      return true;
    }
    if (place_ == Place::kTop && expect_ == Expect::kMetadata) {
      place_ = Place::kMetadata;
      return true;
    }
    if (place_ == Place::kTop && expect_ == Expect::kEntry) {
      place_ = Place::kEntry;
      return true;
    }
    return Unexpected("an object");
  }

  bool end_object() {
    if (place_ == Place::kMetadata) {
      place_ = Place::kTop;
      return true;
    }
    if (place_ == Place::kEntry) {
      place_ = Place::kTop;
      return FinishEntry();
    }
    place_ = Place::kOutside;  // the header's own end
    return true;
  }

  bool start_array(size_t) {
    if (place_ == Place::kEntry && (expect_ == Expect::kShape || expect_ == Expect::kOffsets)) {
      place_ = expect_ == Expect::kShape ? Place::kShape : Place::kOffsets;
      offsets_ = 0;
      return true;
    }
    return Unexpected("a list");
  }

  bool end_array() {
    if (place_ == Place::kOffsets && offsets_ != 2)
      return Refuse("data_offsets of " + Tensor(), fmt::format("{} numbers", offsets_), "[begin, end]");
    place_ = Place::kEntry;
    return true;
  }

  bool number_unsigned(number_unsigned_t x) {
    if (place_ == Place::kShape) {
      if (entry_.shape.size() == kMaxDimensions)
        return Refuse("the shape of " + Tensor() + " has too many dimensions", "",
                      fmt::format("at most {}", kMaxDimensions));
      if (x > static_cast<number_unsigned_t>(kMaxElements))
        return Refuse("the shape of " + Tensor(), fmt::format("a dimension of {}", x),
                      "sizes whose product fits in a file");
      entry_.shape.push_back(static_cast<int64_t>(x));
      return true;
    }
    if (place_ == Place::kOffsets) {
      if (offsets_ == 2) return Refuse("data_offsets of " + Tensor(), "more than two numbers", "[begin, end]");
      if (x > static_cast<number_unsigned_t>(INT64_MAX))
        return Refuse("data_offsets of " + Tensor(), fmt::format("{}", x), "offsets within the file");
      (offsets_++ == 0 ? entry_.begin : entry_.end) = static_cast<int64_t>(x);
      return true;
    }
    return Unexpected("a number");
  }

  bool number_integer(number_integer_t x) {
    if (place_ == Place::kShape || place_ == Place::kOffsets)
      return Refuse(fmt::format("{} of {}", place_ == Place::kShape ? "the shape" : "data_offsets", Tensor()),
                    fmt::format("{}", x), "whole numbers from 0 on");
    return Unexpected("a number");
  }

  bool number_float(number_float_t, const string_t& s) {
    if (place_ == Place::kShape || place_ == Place::kOffsets)
      return Refuse(fmt::format("{} of {}", place_ == Place::kShape ? "the shape" : "data_offsets", Tensor()), s,
                    "whole numbers from 0 on");
    return Unexpected("a number");
  }

  bool string(string_t& s) {
    if (place_ == Place::kMetadata) {
      header.metadata.emplace(std::move(metadata_key_), std::move(s));
      return true;
    }
    if (place_ == Place::kEntry && expect_ == Expect::kDtype) {
      const std::optional<DType> dtype = DTypeFromName(s);
      if (!dtype)
        return Refuse("the dtype of " + Tensor() + " is unknown", Quote(s),
                      "F64 F32 F16 BF16 F8_E4M3 F8_E5M2 I64 I32 I16 I8 U64 U32 U16 U8 BOOL");
      entry_.dtype = *dtype;
      return true;
    }
    return Unexpected("a string");
  }

  bool null() { return Unexpected("null"); }
  bool boolean(bool) { return Unexpected("true or false"); }
  bool binary(binary_t&) { return Unexpected("binary data"); }

  bool parse_error(size_t position, const std::string&, const nlohmann::detail::exception&) {
    error = Error("the header is not valid JSON", fmt::format("a fault at its byte {}", position), "",
                  "the file is damaged: fetch it again");
    return false;
  }

 private:
  enum class Place { kOutside, kTop, kMetadata, kEntry, kShape, kOffsets };
  enum class Expect { kMetadata, kEntry, kDtype, kShape, kOffsets };
  enum : unsigned { kDtypeSeen = 1, kShapeSeen = 2, kOffsetsSeen = 4 };

  std::string Tensor() const { return "tensor " + Quote(entry_.name); }

  bool Refuse(std::string what, std::string got = "", std::string expected = "") {
    error = Error(std::move(what), std::move(got), std::move(expected));
    return false;
  }

  bool Unexpected(const char* got) {
    switch (place_) {
      case Place::kOutside:
        return Refuse("the header", got, "an object of tensors");
      case Place::kTop:
        return Refuse(expect_ == Expect::kMetadata ? "__metadata__" : Tensor(), got,
                      "an object with dtype, shape and data_offsets");
      case Place::kMetadata:
        return Refuse("the metadata " + Quote(metadata_key_), got, "a string");
      case Place::kEntry:
        return Refuse("a field of " + Tensor(), got, "dtype: a string, shape and data_offsets: lists");
      case Place::kShape:
      case Place::kOffsets:
        return Refuse(fmt::format("{} of {}", place_ == Place::kShape ? "the shape" : "data_offsets", Tensor()), got,
                      "whole numbers from 0 on");
    }
    return false;
  }

  bool Field(unsigned bit, Expect expect, const std::string& key) {
    if (seen_ & bit) return Refuse(Tensor() + " has " + key + " twice");
    seen_ |= bit;
    expect_ = expect;
    return true;
  }

  bool FinishEntry() {
    if (seen_ != (kDtypeSeen | kShapeSeen | kOffsetsSeen)) {
      return Refuse(fmt::format("{} has no {}", Tensor(),
                                !(seen_ & kDtypeSeen)   ? "dtype"
                                : !(seen_ & kShapeSeen) ? "shape"
                                                        : "data_offsets"));
    }
    int64_t elements = 1;
    for (int64_t d : entry_.shape) {
      if (d != 0 && elements > kMaxElements / d)
        return Refuse("the shape of " + Tensor(), ToString(entry_.shape), "sizes whose product fits in a file");
      elements *= d;
    }
    const int64_t bytes = elements * SizeOf(entry_.dtype);
    if (entry_.begin > entry_.end)
      return Refuse("data_offsets of " + Tensor(), fmt::format("[{}, {}]", entry_.begin, entry_.end), "begin <= end");
    if (entry_.end - entry_.begin != bytes) {
      return Refuse("data_offsets of " + Tensor() + " do not fit its shape",
                    fmt::format("{} bytes", entry_.end - entry_.begin),
                    fmt::format("{} bytes for {} of {}", bytes, ToString(entry_.shape), Name(entry_.dtype)));
    }
    header.entries.push_back(std::move(entry_));
    return true;
  }

  Place place_ = Place::kOutside;
  Expect expect_ = Expect::kEntry;
  SafetensorsEntry entry_;
  unsigned seen_ = 0;
  int offsets_ = 0;
  bool metadata_seen_ = false;
  std::string metadata_key_;
};

// No tensor twice, every byte of the data in exactly one tensor. Sorts the entries by offset.
std::optional<Error> CheckLayout(SafetensorsHeader& header, int64_t data_bytes) {
  auto& entries = header.entries;
  std::sort(entries.begin(), entries.end(), [](const SafetensorsEntry& a, const SafetensorsEntry& b) {
    return a.begin != b.begin ? a.begin < b.begin : a.end < b.end;
  });
  int64_t at = 0;
  const SafetensorsEntry* before = nullptr;
  for (const SafetensorsEntry& e : entries) {
    if (e.end > data_bytes) {
      return Error(fmt::format("tensor {} lies past the end of the file", Quote(e.name)),
                   fmt::format("bytes {} to {}", e.begin, e.end), fmt::format("{} bytes of data", data_bytes),
                   "the file is truncated: fetch it again");
    }
    if (e.begin < at) {
      return Error(fmt::format("tensors {} and {} overlap", Quote(before->name), Quote(e.name)),
                   fmt::format("one ends at byte {}, the other begins at {}", at, e.begin), "each byte in one tensor");
    }
    if (e.begin > at) {
      return Error(fmt::format("bytes {} to {}, before tensor {}, belong to no tensor", at, e.begin, Quote(e.name)),
                   "a hole", "tensors that follow each other without holes");
    }
    at = e.end;
    before = &e;
  }
  if (at != data_bytes) {
    return Error(fmt::format("{} bytes after the last tensor belong to no tensor", data_bytes - at), "",
                 "a file that ends with its last tensor");
  }
  return std::nullopt;
}

Error In(const std::string& path, const Error& e) {
  return Error(path + ": " + e.summary(), e.got(), e.expected(), e.hint());
}

}  // namespace

Result<SafetensorsHeader> ParseSafetensorsHeader(std::string_view json, int64_t data_bytes, const std::string& path) {
  HeaderReader reader;
  const bool ok = nlohmann::json::sax_parse(json.begin(), json.end(), &reader);
  if (reader.error) return In(path, *reader.error);
  if (!ok) return Error(path + ": the header is not valid JSON");
  std::vector<std::string_view> names;
  names.reserve(reader.header.entries.size());
  for (const SafetensorsEntry& e : reader.header.entries) names.push_back(e.name);
  std::sort(names.begin(), names.end());
  const auto twice = std::adjacent_find(names.begin(), names.end());
  if (twice != names.end()) return Error(fmt::format("{}: tensor {} is there twice", path, Quote(*twice)));
  if (const auto fault = CheckLayout(reader.header, data_bytes)) return In(path, *fault);
  return std::move(reader.header);
}

Result<SafetensorsFile> SafetensorsFile::Open(const std::string& path) {
  Result<MappedFile> mapped = MappedFile::Open(path);
  if (!mapped) return mapped.error();
  SafetensorsFile out;
  out.file_ = std::move(mapped).Value();
  const int64_t size = out.file_.bytes();
  const auto fault = [&](std::string what, std::string got, std::string expected, std::string hint) {
    return Error(path + ": " + what, std::move(got), std::move(expected), std::move(hint));
  };
  if (size < 8) {
    return fault("not a safetensors file", fmt::format("{} bytes", size), "8 bytes of header length and a header",
                 "the file is empty or truncated: fetch it again");
  }
  Result<std::string> head = out.file_.Read(0, 8);
  if (!head) return head.error();
  uint64_t length = 0;
  for (size_t i = 0; i < 8; ++i) length |= uint64_t{static_cast<uint8_t>(head.Value()[i])} << (8 * i);
  if (length > static_cast<uint64_t>(size - 8)) {
    const bool pointer = head.Value() == "version ";  // "version https://git-lfs.github.com/spec/v1"
    return fault("the header's length goes past the end of the file", fmt::format("{} bytes", length),
                 fmt::format("at most the {} that follow it", size - 8),
                 pointer ? "this is a Git LFS pointer, not the file: run git lfs pull"
                         : "the file is truncated, or no safetensors file");
  }
  if (length > static_cast<uint64_t>(kMaxSafetensorsHeader)) {
    return fault("the header is too long", HumanBytes(static_cast<int64_t>(length)),
                 "at most " + HumanBytes(kMaxSafetensorsHeader), "");
  }
  Result<std::string> json = out.file_.Read(8, static_cast<int64_t>(length));
  if (!json) return json.error();
  out.data_begin_ = 8 + static_cast<int64_t>(length);
  Result<SafetensorsHeader> header = ParseSafetensorsHeader(json.Value(), size - out.data_begin_, path);
  if (!header) return header.error();
  out.header_ = std::move(header).Value();
  out.index_.reserve(out.header_.entries.size());
  for (size_t i = 0; i < out.header_.entries.size(); ++i) out.index_.emplace(out.header_.entries[i].name, i);
  return out;
}

const SafetensorsEntry* SafetensorsFile::Find(std::string_view name) const {
  const auto it = index_.find(name);
  return it == index_.end() ? nullptr : &header_.entries[it->second];
}

TensorView SafetensorsFile::View(const SafetensorsEntry& entry) const {
  return {file_.data() + data_begin_ + entry.begin, entry.dtype, entry.shape};
}

bool SafetensorsFile::IsAligned(const SafetensorsEntry& entry) const {
  return (data_begin_ + entry.begin) % SizeOf(entry.dtype) == 0;
}

TensorView SafetensorsFile::Get(std::string_view name) const {
  const SafetensorsEntry* entry = Find(name);
  if (!entry) throw Error(fmt::format("{} has no tensor {}", path(), Quote(name)));
  return View(*entry);
}

}  // namespace fathom::io
