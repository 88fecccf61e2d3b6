#include "tokenizer/tokenizer.h"

#include <fmt/format.h>

#include <bit>
#include <cstring>
#include <mutex>

#include "core/utf8.h"
#include "tokenizer/json_read.h"
#include "tokenizer/published_scanner.h"
#include "tokenizer/tokenizer_json.h"

namespace fathom::tokenizer {
namespace {

enum : uint8_t { kToken = 1, kSpecial = 2 };

// Pieces met lately and their ids: one line of memory each, found by hash, the newest stays.
class PieceCache {
 public:
  static constexpr size_t kMaxBytes = 31;
  static constexpr int kMaxIds = 7;
  static constexpr int kBits = 13;
  struct alignas(64) Entry {
    uint64_t key[4];  // the bytes, zeros behind them, the length in the last byte (0: empty)
    TokenId ids[kMaxIds];
    int32_t count;
  };

  PieceCache() : entries_(size_t{1} << kBits) {}

  // The entry where this piece is or would be; `key` is filled. Up to 32 bytes from p on may be read if `readable` says
  // so.
  Entry& Locate(std::string_view piece, bool readable, uint64_t key[4]) {
    char copy[32];
    const char* p = piece.data();
    const size_t n = piece.size();
    if (!readable) p = static_cast<const char*>(std::memcpy(copy, p, n));
    key[0] = Word(p, n);
    key[1] = n > 8 ? Word(p + 8, n - 8) : 0;
    key[2] = n > 16 ? Word(p + 16, n - 16) : 0;
    key[3] = (n > 24 ? Word(p + 24, n - 24) : 0) | static_cast<uint64_t>(n) << 56;
    uint64_t h = key[0] * 0x9E3779B97F4A7C15u ^ std::rotl(key[1], 17) * 0xD6E8FEB86659FD93u ^
                 std::rotl(key[2], 31) * 0xA0761D6478BD642Fu ^ key[3] * 0xE7037ED1A0B428DBu;
    h = (h ^ h >> 32) * 0x9E3779B97F4A7C15u;
    return entries_[h >> (64 - kBits)];
  }
  static bool Holds(const Entry& e, const uint64_t key[4]) {
    return ((e.key[0] ^ key[0]) | (e.key[1] ^ key[1]) | (e.key[2] ^ key[2]) | (e.key[3] ^ key[3])) == 0;
  }

 private:
  static uint64_t Word(const char* p, size_t n) {
    uint64_t w;
    std::memcpy(&w, p, 8);
    return n >= 8 ? w : w & ((uint64_t{1} << (8 * n)) - 1);
  }
  static_assert(std::endian::native == std::endian::little);

  std::vector<Entry> entries_;
};

}  // namespace

struct Tokenizer::Scratch {
  PieceCache cache;
  BpeScratch bpe;
  std::vector<AddedTokenMatcher::Part> parts;
  std::unique_ptr<PreTokenizerScratch> pre_tokenizer;  // where expressions run
};

// Scratches not in use; as many as there ever were callers at one time.
class Tokenizer::ScratchPool {
 public:
  std::unique_ptr<Scratch> Take() {
    {
      const std::lock_guard lock(mutex_);
      if (!free_.empty()) {
        std::unique_ptr<Scratch> s = std::move(free_.back());
        free_.pop_back();
        return s;
      }
    }
    return std::make_unique<Scratch>();
  }
  void Give(std::unique_ptr<Scratch> s) {
    const std::lock_guard lock(mutex_);
    free_.push_back(std::move(s));
  }

 private:
  std::mutex mutex_;
  std::vector<std::unique_ptr<Scratch>> free_;
};

Tokenizer::Tokenizer() : pool_(std::make_unique<ScratchPool>()) {}
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

Result<Tokenizer> Tokenizer::FromJson(std::string_view tokenizer_json) {
  Result<TokenizerJson> read = ReadTokenizerJson(tokenizer_json);
  if (!read.ok()) return read.error();
  TokenizerJson& file = read.Value();
  Tokenizer out;

  const nlohmann::json* pre = Find(file.rest, "pre_tokenizer");
  Result<PreTokenizer> pre_tokenizer = PreTokenizer::FromJson(pre == nullptr ? nlohmann::json(nullptr) : *pre);
  if (!pre_tokenizer.ok()) return pre_tokenizer.error();
  out.pre_tokenizer_ = std::move(pre_tokenizer).Value();
  Result<Bpe> bpe = Bpe::Make(file.bpe);
  if (!bpe.ok()) return bpe.error();
  out.bpe_ = std::move(bpe).Value();
  Result<AddedTokenMatcher> added = AddedTokenMatcher::Make(file.added_tokens);
  if (!added.ok()) return added.error();
  out.added_ = std::move(added).Value();

  out.names_ = std::move(file.bpe.vocabulary);
  const size_t vocabulary = out.names_.size();
  TokenId most = 0;
  for (const auto& [name, id] : out.names_) most = std::max(most, id);
  for (const AddedToken& t : file.added_tokens) most = std::max(most, t.id);
  std::vector<int32_t> name_of(most + 1, -1);
  for (size_t i = 0; i < vocabulary; ++i) {
    int32_t& slot = name_of[out.names_[i].second];
    if (slot >= 0) {
      return Error(
          "tokenizer.json: two tokens share an id",
          fmt::format("id {}: \"{}\" and \"{}\"", out.names_[i].second, out.names_[slot].first, out.names_[i].first));
    }
    slot = static_cast<int32_t>(i);
  }
  out.kinds_.assign(most + 1, 0);
  {
    const VocabularyMap map(out.names_);
    std::vector<std::pair<std::string, TokenId>> fresh;
    for (const AddedToken& t : file.added_tokens) {
      const TokenId in_vocabulary = map.Find(t.content);
      const int32_t other = name_of[t.id];
      if ((in_vocabulary >= 0 && in_vocabulary != t.id) || (other >= 0 && in_vocabulary < 0)) {
        return Error("tokenizer.json: an added token contradicts model.vocab",
                     fmt::format("\"{}\" is added as {}, model.vocab has {}", t.content, t.id,
                                 other >= 0 ? fmt::format("\"{}\" there", out.names_[other].first)
                                            : fmt::format("it as {}", in_vocabulary)));
      }
      if (other < 0) {
        name_of[t.id] = static_cast<int32_t>(vocabulary + fresh.size());
        fresh.emplace_back(t.content, t.id);
      }
      if (t.special) out.kinds_[t.id] |= kSpecial;
    }
    out.names_.insert(out.names_.end(), std::make_move_iterator(fresh.begin()), std::make_move_iterator(fresh.end()));
  }
  out.name_map_ = std::make_unique<VocabularyMap>(out.names_);
  out.offsets_.reserve(most + 2);
  out.offsets_.push_back(0);
  for (TokenId id = 0; id <= most; ++id) {
    if (name_of[id] >= 0) {
      out.bytes_ += BytesOfTokenString(out.names_[name_of[id]].first);
      out.kinds_[id] |= kToken;
    }
    out.offsets_.push_back(static_cast<uint32_t>(out.bytes_.size()));
  }
  return out;
}

bool Tokenizer::IsToken(TokenId id) const { return id >= 0 && id < vocab_size() && (kinds_[id] & kToken) != 0; }
bool Tokenizer::IsSpecial(TokenId id) const { return id >= 0 && id < vocab_size() && (kinds_[id] & kSpecial) != 0; }

std::string_view Tokenizer::TokenBytes(TokenId id) const {
  if (id < 0 || id >= vocab_size()) return {};
  return std::string_view(bytes_).substr(offsets_[id], offsets_[id + 1] - offsets_[id]);
}

std::optional<TokenId> Tokenizer::IdOf(std::string_view token) const {
  const TokenId id = name_map_->Find(token);
  return id < 0 ? std::nullopt : std::optional(id);
}

std::string Tokenizer::Decode(std::span<const TokenId> ids, bool skip_special) const {
  std::string bytes;
  for (const TokenId id : ids) {
    if (skip_special && IsSpecial(id)) continue;
    bytes += TokenBytes(id);
  }
  return IsUtf8(bytes) ? bytes : Utf8Lossy(bytes);
}

std::vector<TokenId> Tokenizer::Encode(std::string_view text, const EncodeOptions& options) const {
  if (text.size() > kMaxText) {
    throw Error("the text is too long for one call", fmt::format("{} bytes", text.size()),
                fmt::format("at most {}", kMaxText));
  }
  std::vector<TokenId> ids;
  if (options.add_bos) {
    if (!bos_id_) throw Error("the tokenizer has no bos token", "", "bos_token in tokenizer_config.json");
    ids.push_back(*bos_id_);
  }
  std::string repaired;
  if (!IsUtf8(text)) text = repaired = Utf8Lossy(text);
  ids.reserve(ids.size() + text.size() / 3 + 8);

  std::unique_ptr<Scratch> scratch = pool_->Take();
  added_.Split(text, options.parse_special, scratch->parts);
  for (const auto& part : scratch->parts) {
    if (part.id >= 0) {
      ids.push_back(part.id);
    } else {
      EncodePart(part.text, options.reference_splitter, *scratch, ids);
    }
  }
  pool_->Give(std::move(scratch));
  return ids;
}

// Calls visit(piece, where the readable bytes behind it end).
template <class Visit>
void Tokenizer::ForEachPiece(std::string_view text, bool reference, Scratch& scratch, const Visit& visit) const {
  if (pre_tokenizer_->IsPublished() && !reference) {
    const PublishedScanner scanner(text);
    const char* const end = text.data() + text.size();
    for (const char* p = text.data(); p != end;) {
      const char* const next = scanner.Next(p);
      visit(std::string_view(p, static_cast<size_t>(next - p)), end);
      p = next;
    }
    return;
  }
  if (scratch.pre_tokenizer == nullptr) scratch.pre_tokenizer = std::make_unique<PreTokenizerScratch>();
  pre_tokenizer_->Run(text, *scratch.pre_tokenizer);
  for (const std::string_view piece : scratch.pre_tokenizer->pieces) visit(piece, piece.data() + piece.size());
}

void Tokenizer::EncodePart(std::string_view text, bool reference, Scratch& scratch, std::vector<TokenId>& out) const {
  ForEachPiece(text, reference, scratch, [&](std::string_view piece, const char* readable_end) {
    EncodePiece(piece, readable_end, scratch, out);
  });
}

std::vector<std::string> Tokenizer::Pieces(std::string_view text, bool reference) const {
  std::vector<std::string> pieces;
  Scratch scratch;
  ForEachPiece(text, reference, scratch, [&](std::string_view piece, const char*) { pieces.emplace_back(piece); });
  return pieces;
}

void Tokenizer::EncodePiece(std::string_view piece, const char* readable_end, Scratch& scratch,
                            std::vector<TokenId>& out) const {
  if (piece.size() > PieceCache::kMaxBytes) return bpe_->Encode(piece, scratch.bpe, out);
  uint64_t key[4];
  PieceCache::Entry& entry = scratch.cache.Locate(piece, readable_end - piece.data() >= 32, key);
  const size_t before = out.size();
  if (PieceCache::Holds(entry, key)) {
    out.resize(before + entry.count);
    for (int32_t i = 0; i < entry.count; ++i) out[before + i] = entry.ids[i];
    return;
  }
  bpe_->Encode(piece, scratch.bpe, out);
  const size_t count = out.size() - before;
  if (count > PieceCache::kMaxIds) return;
  std::memcpy(entry.key, key, sizeof entry.key);
  std::copy(out.begin() + static_cast<std::ptrdiff_t>(before), out.end(), entry.ids);
  entry.count = static_cast<int32_t>(count);
}

}  // namespace fathom::tokenizer
