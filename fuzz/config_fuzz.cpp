// config.json in both forms: what is accepted is consistent, has finite numbers, and is read again from what is
// written.
#include <cmath>
#include <cstdint>
#include <string_view>

#include "model/config.h"

namespace {

void Check(const fathom::model::ModelConfig& c) {
  fathom::model::Validate(c);
  FATHOM_CHECK(std::isfinite(c.SoftmaxScale()) && std::isfinite(c.RopeAmplitude()));
  for (double f : c.RopeFrequencies()) FATHOM_CHECK(std::isfinite(f));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace fathom;
  const std::string_view json(reinterpret_cast<const char*>(data), size);
  const Result<model::ParsedConfig> parsed = model::ParseConfig(json);
  if (parsed) {
    const model::ModelConfig& c = parsed.Value().config;
    Check(c);
    const std::string text = model::ToJson(c);
    const Result<model::ParsedConfig> again = model::ParseConfig(text);
    FATHOM_CHECK(again.ok(), again ? "" : again.error().what());
    FATHOM_CHECK(model::ToJson(again.Value().config) == text);
  }
  const Result<model::ParsedConfig> demo = model::ParseDemoConfig(json);
  if (demo) Check(demo.Value().config);
  return 0;
}
