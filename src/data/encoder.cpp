#include "data/encoder.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/utf8.h"
#include "data/hash.h"
#include "tokenizer/unicode.h"

namespace fathom::data {
namespace {

using tokenizer::CharClass;
using tokenizer::ClassRange;

constexpr uint64_t kFimDraws = 0x46494D, kSplitDraws = 0x53504C;  // seeds of different draws must differ

bool IsPunctuationOrSymbol(uint32_t code_point) {
  const std::vector<ClassRange>& ranges = tokenizer::ClassRanges();
  const auto after = std::upper_bound(ranges.begin(), ranges.end(), code_point,
                                      [](uint32_t value, const ClassRange& range) { return value < range.first; });
  if (after == ranges.begin()) return false;
  const ClassRange& range = *(after - 1);
  return code_point <= range.last && (range.value == CharClass::kP || range.value == CharClass::kS);
}

}  // namespace

size_t PunctuationBeforeNewline(std::string_view token) {
  const size_t last = token.find_last_not_of("\r\n");
  if (last == std::string_view::npos || last + 1 == token.size()) return 0;
  const std::string_view head = token.substr(0, last + 1);
  if (!IsUtf8(head)) return 0;
  size_t at = head[0] == ' ' ? 1 : 0;
  if (at == head.size()) return 0;
  while (at < head.size()) {
    const CodePoint c = DecodeUtf8(head.data() + at);
    if (!IsPunctuationOrSymbol(c.value)) return 0;
    at += static_cast<size_t>(c.length);
  }
  return head.size();
}

DocumentEncoder::DocumentEncoder(const tokenizer::Tokenizer& tokenizer, const EncoderOptions& options)
    : tokenizer_(tokenizer), options_(options) {
  if (!tokenizer.eos_id()) {
    throw Error("data: the tokenizer names no end of sentence", "no eos token", "",
                "put an eos_token into tokenizer_config.json beside it");
  }
  eos_ = *tokenizer.eos_id();
  if (options.add_bos) {
    if (!tokenizer.bos_id()) {
      throw Error("data: the tokenizer names no beginning of sentence", "no bos token", "",
                  "put a bos_token into tokenizer_config.json beside it, or set add_bos = false");
    }
    bos_ = *tokenizer.bos_id();
  }
  if (options.chat_template) chat_.emplace(tokenizer, *options.chat_template);
  if (options.fim_rate > 0) {
    fim_ = FindFimTokens(tokenizer);
    if (!fim_) {
      throw Error("data: the tokenizer has no fill-in-the-middle tokens", "fim_rate above 0",
                  "<｜fim▁begin｜>, <｜fim▁hole｜> and <｜fim▁end｜> (or <|fim_begin|> and so on)",
                  "set fim_rate = 0, or add the three tokens to the tokenizer");
    }
  }
  if (options.split_punctuation_newline_rate > 0) {
    for (int32_t id = 0; id < tokenizer.vocab_size(); ++id) {
      if (!tokenizer.IsToken(id) || tokenizer.IsSpecial(id)) continue;
      const std::string_view bytes = tokenizer.TokenBytes(id);
      const size_t cut = PunctuationBeforeNewline(bytes);
      if (cut == 0) continue;
      const tokenizer::EncodeOptions plain{.parse_special = false};
      std::vector<int32_t> parts = tokenizer.Encode(bytes.substr(0, cut), plain);
      const std::vector<int32_t> newlines = tokenizer.Encode(bytes.substr(cut), plain);
      parts.insert(parts.end(), newlines.begin(), newlines.end());
      splits_.emplace(id, std::move(parts));
    }
  }
}

void DocumentEncoder::Append(std::string_view text, Rng& rng, std::vector<int32_t>* ids) const {
  if (text.empty()) return;
  const std::vector<int32_t> encoded = tokenizer_.Encode(text, {.parse_special = false});
  if (splits_.empty()) {
    ids->insert(ids->end(), encoded.begin(), encoded.end());
    return;
  }
  for (const int32_t id : encoded) {
    const auto split = splits_.find(id);
    if (split != splits_.end() && rng.NextDouble() < options_.split_punctuation_newline_rate) {
      ids->insert(ids->end(), split->second.begin(), split->second.end());
    } else {
      ids->push_back(id);
    }
  }
}

std::string DocumentEncoder::EncodeChat(std::string_view line, std::vector<int32_t>* ids) const {
  ids->clear();
  const Result<nlohmann::ordered_json> messages = MessagesOfLine(line);
  if (!messages) return messages.error().summary();
  Result<std::vector<int32_t>> encoded = chat_->Encode(messages.Value());
  if (!encoded) return encoded.error().summary();
  *ids = std::move(encoded.Value());
  return "";
}

void DocumentEncoder::Encode(std::string_view text, int64_t document, std::vector<int32_t>* ids) const {
  const auto number = static_cast<uint64_t>(document);
  Rng fim(HashPair(options_.seed, kFimDraws), number), split(HashPair(options_.seed, kSplitDraws), number);
  ids->clear();
  if (options_.add_bos) ids->push_back(bos_);
  if (fim_ && fim.NextDouble() < options_.fim_rate) {
    const FimParts parts = CutForFim(text, fim);
    ids->push_back(fim_->begin);
    Append(parts.prefix, split, ids);
    ids->push_back(fim_->hole);
    Append(parts.suffix, split, ids);
    ids->push_back(fim_->end);
    Append(parts.middle, split, ids);
  } else {
    Append(text, split, ids);
  }
  ids->push_back(eos_);
}

}  // namespace fathom::data
