// Training a byte-level BPE: from how often each piece of text occurs to a vocabulary and its merges.
//
// Again and again the pair of adjacent tokens that occurs most often is joined, everywhere, leftmost first; of equals
// the pair with the lowest ids, left one first. This is the rule of Hugging Face tokenizers' BpeTrainer, so the merges
// are equal to its merges on the same pieces.
//
// All pieces lie one behind the other in one array, a slot a byte. A pair has its count, and a list of the places where
// it occurred when it came to be; a merge visits its list alone, skips the places that other merges have changed, and
// makes the lists of the pairs that the new token is part of. Every byte is joined at most once, so all lists together
// are linear in the bytes of the distinct pieces, and so is the work but for a heap of pairs, whatever the length of a
// piece. A pair of tokens never comes to be again after its merge, and no two merges make the same string: what happens
// within a token does not depend on what is around it (bpe.h).
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/progress.h"
#include "tokenizer/bpe.h"
#include "tokenizer/piece_counter.h"

namespace fathom::tokenizer {

struct BpeTrainOptions {
  int64_t vocab_size = 0;     // all ids: special tokens, 256 bytes, merges (as far as the text gives), reserved
  int64_t reserved = 0;       // ids at the end that are left for tokens added later
  int64_t min_frequency = 2;  // a pair that occurs less often is not joined
  std::vector<std::string> special_tokens = {};  // the first ids; none may be a string of byte-level characters
  ProgressFn progress = {};                      // in merges
};

// Throws Error if the vocabulary's size is too small or too large.
void CheckVocabSize(const BpeTrainOptions& options);

// Ids: the special tokens, the 256 bytes in the order of their printable characters, then what each merge makes. Throws
// Error: CheckVocabSize's, or more than 4 GiB of distinct pieces.
BpeSource TrainBpe(std::vector<PieceCount> pieces, const BpeTrainOptions& options);

}  // namespace fathom::tokenizer
