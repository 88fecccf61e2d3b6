// The next sequences of a stream of documents: a window takes exactly so many tokens from the stream as its sequences
// have, the last document cut where the window ends (its rest begins the next one), and packs them. So a window depends
// on the place in the stream where it begins and on nothing else, and nothing is carried over but that place.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <vector>

#include "data/document_stream.h"

namespace fathom::data {

struct WindowPlace {
  StreamState stream;
  int64_t skip = 0;  // tokens of its first document that are already given out
};

struct Window {
  WindowPlace begin, end;
  int64_t sequences = 0;
  std::vector<int32_t> ids;                  // (sequences, size), as chat.h stores them
  std::vector<std::vector<int32_t>> starts;  // (sequences): where its pieces begin
  int64_t documents = 0;                     // that have tokens in it
  int64_t cuts = 0;                          // in documents, the one at the window's end included
  int64_t cuts_without_packing = 0;          // had they been put one behind the other and cut at every sequence's end
};

class WindowBuilder {
 public:
  // `size`: ids in a sequence. `shuffle`: the order of a window's sequences, else by their first documents.
  WindowBuilder(DocumentStream& stream, int64_t size, int64_t sequences, bool shuffle, uint64_t seed);

  // Fewer sequences than wanted, perhaps none, only where the stream ends; what is left over then is dropped.
  void Build(Window* window);
  WindowPlace Place() const;
  int64_t size() const { return size_; }
  void Restore(const WindowPlace& place);

 private:
  DocumentStream& stream_;
  int64_t size_, sequences_;
  bool shuffle_;
  uint64_t seed_;
  std::vector<int32_t> pending_;  // the document at hand
  size_t taken_ = 0;              // tokens of it
  std::vector<int32_t> tokens_;   // of the window, as they come
  std::vector<int64_t> lengths_;
};

}  // namespace fathom::data
