// How often a run reads its corpus, before it runs: estimated from the files' sizes and a sample of their text.
#pragma once

#include <cstdint>
#include <string>

#include "data/options.h"
#include "tokenizer/tokenizer.h"

namespace fathom::train {

struct CorpusEstimate {
  std::string source;  // the one that is read most often
  double tokens = 0;   // about so many in it
  double epochs = 0;   // so often it is read
};

// For a run over `tokens` tokens, each source giving its share by weight. Throws Error where files cannot be listed.
CorpusEstimate EstimateCorpus(const data::DataOptions& options, const tokenizer::Tokenizer& tokenizer, int64_t tokens);

}  // namespace fathom::train
