// What a recipe says about data: plain structs, filled by whoever reads the recipe. VisitFields is the one list of
// keys.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace fathom::data {

// One place that documents come from (docs/data.md, "Sources").
struct SourceOptions {
  std::string path;               // a file, or a folder walked recursively in the order of its paths
  double weight = 1.0;            // its share of the tokens, relative to the other sources'
  std::string format = "auto";    // auto (by the file's extension), text, jsonl, chat (jsonl of conversations, chat.h)
  std::string text_key = "text";  // jsonl: the key of the document's text
  std::string separator{};        // text: what lies between two documents; empty: a file is one document
};

struct DataOptions {
  std::vector<SourceOptions> sources;
  int64_t sequence_length = 0;  // T: a sequence is T + 1 ids
  uint64_t seed = 0;
  bool add_bos = true;                          // bos at the beginning of every document
  double fim_rate = 0.1;                        // share of the documents turned to fill-in-the-middle
  double split_punctuation_newline_rate = 0.0;  // share of the combined punctuation-newline tokens taken apart
  std::string chat_template;                    // v2, v3, r1, v3.1: of the sources of format chat
  bool isolate_documents = false;               // passed on in Batch; the model isolates by `starts`
  bool shuffle = true;
  double validation_fraction = 0.0;               // share of the documents that only validation sees
  std::vector<SourceOptions> validation_sources;  // or validation has files of its own (weights are not used)
  std::string exclude;                            // jsonl of documents that training must not see; empty: none
  int64_t max_document_bytes = 64 << 20;
  int64_t shuffle_buffer_bytes = 256 << 20;  // of documents held in memory to be shuffled, all sources together
  int64_t pack_window_tokens = 1 << 20;      // that documents are packed from at a time
};

// v(key, field) for every field, in the order above.
template <class Options, class Visitor>
void VisitSourceFields(Options& o, Visitor&& v) {
  v("path", o.path);
  v("weight", o.weight);
  v("format", o.format);
  v("text_key", o.text_key);
  v("separator", o.separator);
}

template <class Options, class Visitor>
void VisitFields(Options& o, Visitor&& v) {
  v("sources", o.sources);
  v("sequence_length", o.sequence_length);
  v("seed", o.seed);
  v("add_bos", o.add_bos);
  v("fim_rate", o.fim_rate);
  v("split_punctuation_newline_rate", o.split_punctuation_newline_rate);
  v("chat_template", o.chat_template);
  v("isolate_documents", o.isolate_documents);
  v("shuffle", o.shuffle);
  v("validation_fraction", o.validation_fraction);
  v("validation_sources", o.validation_sources);
  v("exclude", o.exclude);
  v("max_document_bytes", o.max_document_bytes);
  v("shuffle_buffer_bytes", o.shuffle_buffer_bytes);
  v("pack_window_tokens", o.pack_window_tokens);
}

bool HasChat(const DataOptions& options);  // a source of format chat

// Throws Error naming the field if a value is out of range or contradicts another. Opens nothing.
void Validate(const DataOptions& options);

}  // namespace fathom::data
