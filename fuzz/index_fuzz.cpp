// model.safetensors.index.json and generation_config.json: a list of plain file names, and sampling settings in range,
// or an Error.
#include <cstdint>
#include <string_view>

#include "checkpoint/generation_config.h"
#include "checkpoint/hf.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace fathom;
  const std::string_view json(reinterpret_cast<const char*>(data), size);
  const Result<checkpoint::SafetensorsIndex> index = checkpoint::ParseIndex(json);
  if (index) {
    for (const auto& [tensor, file] : index.Value().weight_map) {
      FATHOM_CHECK(!file.empty() && file[0] != '.' && file.find('/') == std::string::npos);
      checkpoint::LayerOf(tensor);
    }
  }
  const Result<checkpoint::GenerationConfig> sampling = checkpoint::ParseGenerationConfig(json);
  if (sampling && sampling.Value().top_p) FATHOM_CHECK(*sampling.Value().top_p >= 0 && *sampling.Value().top_p <= 1);
  return 0;
}
