#include "data/fim.h"

#include <algorithm>
#include <array>
#include <utility>

namespace fathom::data {
namespace {

bool BeginsCharacter(char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }

// The byte at which character `index` begins, counted on from a character's beginning; the end if there are not so
// many.
size_t ByteOf(std::string_view text, size_t from, int64_t index) {
  for (size_t i = from; i < text.size(); ++i) {
    if (BeginsCharacter(text[i]) && index-- == 0) return i;
  }
  return text.size();
}

}  // namespace

std::optional<FimTokens> FindFimTokens(const tokenizer::Tokenizer& tokenizer) {
  for (const auto& names : {std::array<std::string_view, 3>{"<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"},
                            std::array<std::string_view, 3>{"<|fim_begin|>", "<|fim_hole|>", "<|fim_end|>"}}) {
    const auto begin = tokenizer.IdOf(names[0]), hole = tokenizer.IdOf(names[1]), end = tokenizer.IdOf(names[2]);
    if (begin && hole && end) return FimTokens{*begin, *hole, *end};
  }
  return std::nullopt;
}

FimParts CutForFim(std::string_view text, Rng& rng) {
  const int64_t characters = std::count_if(text.begin(), text.end(), BeginsCharacter);
  int64_t first = rng.NextBelow(characters + 1), second = rng.NextBelow(characters + 1);
  if (first > second) std::swap(first, second);
  const size_t begin = ByteOf(text, 0, first), end = ByteOf(text, begin, second - first);
  return {text.substr(0, begin), text.substr(begin, end - begin), text.substr(end)};
}

}  // namespace fathom::data
