// The trained model as a checkpoint in the Hugging Face layout.
#pragma once

#include <string>

#include "checkpoint/write.h"
#include "train/param_store.h"

namespace fathom::train {

// Writes the masters, or with `use_ema` the averages of what has any, rounded as options.precision says;
// options.files: the tokenizer's and generation_config.json. See checkpoint::WriteCheckpoint. Throws Error.
void ExportModel(const ParamStore& store, const model::ModelConfig& config, const std::string& out_dir,
                 const checkpoint::WriteOptions& options, bool use_ema, ThreadPool& pool);

}  // namespace fathom::train
