// For tests: the model that ships, as a server shows it, without its weights.
#pragma once

#include "server/served_model.h"

namespace fathom::server {

inline ServedModel TestModel() {
  ServedModel m{.names = {"story", "other-name"},
                .text = tokenizer::LoadModelText(FATHOM_SOURCE_DIR "/configs/runs/smoke-tokenizer"),
                .vocab_size = 4096,
                .max_context = 64,
                .eos_ids = {1}};
  m.Prepare("v3");
  m.fingerprint = "test";
  return m;
}

inline const ServedModel& Model() {
  static const ServedModel model = TestModel();
  return model;
}

}  // namespace fathom::server
