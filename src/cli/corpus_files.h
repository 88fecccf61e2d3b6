// Documents out of files and folders: text (a file is a document) and JSON Lines (the "text" of each row), plain or
// gzipped.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/progress.h"

namespace fathom::cli {

// What becomes of documents, given in parts.
class DocumentSink {
 public:
  virtual ~DocumentSink() = default;
  virtual void Append(std::string_view bytes) = 0;
  virtual void EndDocument() = 0;
};

// Files as named, and of folders, at any depth, those that end in .txt or .jsonl or, behind that, .gz; in the order of
// `paths` and, within a folder, of names. Throws Error: nothing there, a format that is not read.
std::vector<std::string> FindCorpusFiles(const std::vector<std::string>& paths);

// Reads all of them, `progress` in bytes on disk. Throws Error: unreadable, binary, a row that is no JSON object with a
// "text", a row over 1 GiB.
void ReadCorpus(const std::vector<std::string>& files, DocumentSink& sink, const ProgressFn& progress);

}  // namespace fathom::cli
