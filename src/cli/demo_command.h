// DeepSeek's own demo by its flags: `fathom generate --ckpt-path DIR --config FILE ...` does what generate.py of
// deepseek-ai/DeepSeek-V3 does (inference/generate.py), for its shards or a Hugging Face directory.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "cli/loaded_model.h"
#include "cli/sampling_options.h"

namespace CLI {
class App;
}

namespace fathom::cli {

constexpr int64_t kPromptLimit = int64_t{256} << 20;  // bytes of a file of prompts

struct DemoFlags {
  std::string ckpt_path;
  std::string chat_template;
  bool interactive = false;
  std::optional<int64_t> max_new_tokens;
};

void AddDemoOptions(CLI::App& command, DemoFlags& flags);

// --input-file: one single-turn prompt a line, stripped, answered through the chat template, all as one batch; prints
// Prompt, Completion and a blank line for each. --interactive (which wins): a conversation at `>>> ` with /exit and
// /clear. `ids`: instead of either, one prompt of token ids, its answer as ids (JSON with `json`), which needs no
// tokenizer.
int RunDemo(const DemoFlags& flags, const ModelOptions& model, const SamplingOptions& sampling,
            const std::string& input_file, const std::string& ids, bool json);

}  // namespace fathom::cli
