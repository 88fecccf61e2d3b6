// A checkpoint, opened: mapped files, configuration, parameters in the model's shape, sampling defaults, audit.
//
// Opening reads configurations and headers. Weights are used where they lie, in the type they have: no byte of them is
// read before it is used, unless it has to be copied (shards of the demo joined, tensors at odd addresses).
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "checkpoint/audit.h"
#include "checkpoint/generation_config.h"
#include "core/progress.h"
#include "io/safetensors.h"
#include "model/params.h"

namespace fathom::checkpoint {

struct OpenOptions {
  // Either form of configuration. Needed where the directory has no config.json (the demo's shards have none).
  std::string config_path = {};
  // Problems of tensors are left in audit() instead of thrown, and nothing is copied: for looking, not for running.
  bool audit_only = false;
};

class Checkpoint {
 public:
  const std::string& path() const { return path_; }
  const model::ModelConfig& config() const { return config_; }
  // Complete if the audit has no problems. Views live as long as this object (moving it keeps them valid).
  const model::ModelParams& params() const { return params_; }
  const GenerationConfig& generation_config() const { return generation_config_; }
  // End-of-text ids of config.json and generation_config.json together.
  const std::vector<int64_t>& eos_ids() const { return eos_ids_; }
  const Audit& audit() const { return audit_; }
  const std::vector<std::string>& warnings() const { return audit_.warnings; }
  bool is_demo() const { return is_demo_; }
  // Reads all files into memory before their first use, with `lock` to stay there: MappedFile::Load, bytes of all files
  // as progress.
  void Load(bool lock, const ProgressFn& progress = {}) const;
  int64_t file_bytes() const;
  // Calls visit(info, weight) for every parameter, in the order of the layers.
  void ForEachParam(const std::function<void(const model::ParamInfo&, const kernels::Weight&)>& visit) const;

 private:
  friend Checkpoint Open(const std::string& path, const OpenOptions& options);
  std::string path_;
  model::ModelConfig config_;
  model::ModelParams params_;
  GenerationConfig generation_config_;
  std::vector<int64_t> eos_ids_;
  Audit audit_;
  bool is_demo_ = false;
  std::vector<std::unique_ptr<io::SafetensorsFile>> files_;
  std::vector<Buffer> owned_;
};

// Opens a directory in the published layout (hf.h) or of the demo's shards (demo.h). Throws Error.
Checkpoint Open(const std::string& path, const OpenOptions& options = {});

}  // namespace fathom::checkpoint
