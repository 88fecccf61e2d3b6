// The header of a safetensors file: any bytes either parse into tensors that lie within the data, or give an Error.
#include <cstdint>
#include <cstring>
#include <string_view>

#include "io/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace fathom;
  // The first two bytes stand for the length of the data that follows the header in the file.
  if (size < 2) return 0;
  uint16_t data_bytes = 0;
  std::memcpy(&data_bytes, data, 2);
  const std::string_view json(reinterpret_cast<const char*>(data) + 2, size - 2);
  const Result<io::SafetensorsHeader> header = io::ParseSafetensorsHeader(json, data_bytes, "fuzz");
  if (!header) {
    FATHOM_CHECK(!header.error().summary().empty());
    return 0;
  }
  int64_t at = 0;
  for (const io::SafetensorsEntry& e : header.Value().entries) {
    FATHOM_CHECK(e.begin == at && e.end >= e.begin && e.end <= data_bytes);
    FATHOM_CHECK(NumElements(e.shape) * SizeOf(e.dtype) == e.end - e.begin);
    at = e.end;
  }
  FATHOM_CHECK(at == data_bytes);
  return 0;
}
