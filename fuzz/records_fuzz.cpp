// Any bytes as a file of documents: JSONL, whole text, text with separators, under a small limit. Documents are valid
// UTF-8 without NUL and no longer than the limit allows, and reading goes on at every position as it would have.
#include <cstdlib>
#include <cstring>

#include "core/utf8.h"
#include "data/records.h"

using namespace fathom;
using namespace fathom::data;

namespace {

class MemoryReader : public ByteReader {
 public:
  explicit MemoryReader(std::string_view bytes) : bytes_(bytes) {}
  Result<int64_t> Read(char* out, int64_t count) override {
    const size_t taken = bytes_.copy(out, static_cast<size_t>(count));
    bytes_.remove_prefix(taken);
    return static_cast<int64_t>(taken);
  }

 private:
  std::string_view bytes_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  constexpr int64_t kLimit = 64;
  for (const RecordOptions& options :
       {RecordOptions{Format::kJsonl, "text", "", kLimit}, RecordOptions{Format::kText, "text", "", kLimit},
        RecordOptions{Format::kText, "text", "\n\n", kLimit}}) {
    Notices notices;
    RecordReader reader("x", std::make_unique<MemoryReader>(bytes), options, notices);
    std::string text, next, resumed;
    bool more = reader.Next(&text);
    while (more) {
      // An invalid byte becomes three.
      if (!IsUtf8(text) || text.find('\0') != std::string::npos || text.size() > 3 * kLimit) std::abort();
      RecordReader rest("x", std::make_unique<MemoryReader>(bytes), options, notices);
      rest.Resume(reader.position());
      more = reader.Next(&next);
      if (rest.Next(&resumed) != more || (more && resumed != next)) std::abort();
      std::swap(text, next);
    }
  }
  return 0;
}
