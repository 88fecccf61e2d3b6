// Encoded documents of a split, drawn from its sources by their weights: each next document comes from the source whose
// tokens so far are the least for its weight (the first of equals). So the shares of tokens differ from the weights by
// no more than a document a source, at any time, and what is drawn depends on nothing but the state.
#pragma once

#include <cstdint>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "data/encoder.h"
#include "data/exclusion.h"
#include "data/notices.h"
#include "data/options.h"
#include "data/source.h"
#include "tokenizer/tokenizer.h"

namespace fathom::data {

enum class Split : uint8_t { kTrain, kValidation };

struct StreamState {
  std::vector<SourceState> sources;
  int64_t documents = 0;  // given out since the beginning: the number of the next one
};

nlohmann::json ToJson(const StreamState& state);
// Throws Error if `json` is not what ToJson makes.
StreamState StateFromJson(const nlohmann::json& json);

class DocumentStream {
 public:
  // Opens the sources; throws Error as Validate, ListFiles and DocumentEncoder do. `tokenizer` and `notices` outlive
  // this.
  //   kTrain       endless; without the documents that are validation's, and without `exclude`
  //   kValidation  one pass in the order of the files, neither FIM nor taken-apart tokens
  DocumentStream(const DataOptions& options, const tokenizer::Tokenizer& tokenizer, Split split, Notices& notices);

  // The ids of the next document, as chat.h stores them; false at the end (kValidation).
  bool Next(std::vector<int32_t>* ids);

  StreamState State() const;        // of the next document
  StreamState StateBefore() const;  // of the last one
  void Restore(const StreamState& state);

  // What a cursor can be used with: every setting and file that the stream depends on.
  nlohmann::json Fingerprint() const;
  int64_t bytes() const;  // of the files as text; a guess for the compressed ones
  size_t source_count() const { return sources_.size(); }
  bool endless() const { return split_ == Split::kTrain; }

 private:
  DataOptions options_;
  Split split_;
  DocumentEncoder encoder_;
  Notices& notices_;
  uint64_t tokenizer_hash_;
  Exclusion exclusion_;
  std::vector<std::unique_ptr<Source>> sources_;
  std::vector<uint8_t> ended_;
  std::vector<int64_t> last_epochs_;  // in which a conversation could last be rendered
  int64_t documents_ = 0;
  size_t last_source_ = 0;
  SourceState last_state_;
  std::string text_;
};

// Whether a document is validation's, by its text alone: copies of a document are all on one side.
bool IsValidation(std::string_view text, uint64_t seed, double fraction);

}  // namespace fathom::data
