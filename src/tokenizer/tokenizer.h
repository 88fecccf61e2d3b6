// Text to token ids and back, exactly as Hugging Face tokenizers does with the same tokenizer.json (byte-level BPE;
// docs/tokenizer.md).
//
// Encode is linear in the text's length but for the heap of one huge piece (bpe.h), and may be called from many threads
// at once. No bos is added unless asked for. Invalid UTF-8 on input is replaced as Utf8Lossy does before anything else.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/error.h"
#include "tokenizer/added_tokens.h"
#include "tokenizer/bpe.h"
#include "tokenizer/pretokenizer.h"

namespace fathom::tokenizer {

struct EncodeOptions {
  bool parse_special = true;        // special tokens written in the text become their ids
  bool add_bos = false;             // an Error if the tokenizer has none
  bool reference_splitter = false;  // PCRE2 also where the published expressions' own scanner could be used
};

class Tokenizer {
 public:
  static constexpr size_t kMaxFile = 256u << 20;
  static constexpr int64_t kMaxIds = 1 << 24;        // token ids lie below this
  static constexpr size_t kMaxText = INT32_MAX / 2;  // bytes of one text

  // `tokenizer_json`: the bytes of tokenizer.json.
  static Result<Tokenizer> FromJson(std::string_view tokenizer_json);

  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;
  ~Tokenizer();

  std::vector<TokenId> Encode(std::string_view text,
                              const EncodeOptions& options = {}) const;  // throws Error: text too long
  // Ids that name no token (the unused end of a model's embedding) stand for nothing, as in Hugging Face's decode.
  std::string Decode(std::span<const TokenId> ids, bool skip_special = false) const;

  int64_t vocab_size() const { return static_cast<int64_t>(offsets_.size()) - 1; }  // the largest id + 1
  bool IsToken(TokenId id) const;
  bool IsSpecial(TokenId id) const;
  // The bytes that a token adds to the text; not always whole characters. Empty if the id names no token.
  std::string_view TokenBytes(TokenId id) const;
  // The id of a token by its name in tokenizer.json (an added token's content, or a string of model.vocab).
  std::optional<TokenId> IdOf(std::string_view token) const;

  std::optional<TokenId> bos_id() const { return bos_id_; }
  std::optional<TokenId> eos_id() const { return eos_id_; }
  // The pieces within which merges happen (of valid UTF-8 without added tokens); `reference` as in EncodeOptions.
  std::vector<std::string> Pieces(std::string_view text, bool reference = false) const;
  bool HasScanner() const { return pre_tokenizer_->IsPublished(); }  // for its pre-tokenizer, beside PCRE2
  const Bpe& bpe() const { return *bpe_; }

  void set_bos_id(std::optional<TokenId> id) { bos_id_ = id; }
  void set_eos_id(std::optional<TokenId> id) { eos_id_ = id; }

 private:
  struct Scratch;
  class ScratchPool;
  Tokenizer();
  template <class Visit>
  void ForEachPiece(std::string_view text, bool reference, Scratch& scratch, const Visit& visit) const;
  void EncodePart(std::string_view text, bool reference, Scratch& scratch, std::vector<TokenId>& out) const;
  void EncodePiece(std::string_view piece, const char* readable_end, Scratch& scratch, std::vector<TokenId>& out) const;

  std::optional<PreTokenizer> pre_tokenizer_;
  std::optional<Bpe> bpe_;
  AddedTokenMatcher added_;
  std::string bytes_;              // of all tokens, one behind the other
  std::vector<uint32_t> offsets_;  // (vocab_size + 1) into bytes_
  std::vector<uint8_t> kinds_;     // (vocab_size) kToken, kSpecial
  std::vector<std::pair<std::string, TokenId>> names_;
  std::unique_ptr<VocabularyMap> name_map_;
  std::optional<TokenId> bos_id_, eos_id_;
  std::unique_ptr<ScratchPool> pool_;
};

}  // namespace fathom::tokenizer
