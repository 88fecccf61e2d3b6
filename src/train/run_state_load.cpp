// The reading half of run_state.h.
#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "core/parallel.h"
#include "io/safetensors.h"
#include "train/run_state.h"
#include "train/run_state_arrays.h"
#include "train/run_state_json.h"

namespace fathom::train {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kMaxStateText = 1 << 30;

// A checkpoint whose files are open and whose headers are what was written; tensors not yet read.
struct OpenState {
  std::string path;
  StateContents contents;
  std::vector<io::SafetensorsFile> files;  // beside contents.files

  const StateFile* Find(const std::string& name, const io::SafetensorsFile** file) const {
    for (size_t i = 0; i < files.size(); ++i) {
      if (contents.files[i].name != name) continue;
      *file = &files[i];
      return &contents.files[i];
    }
    return nullptr;
  }
};

std::string FileOf(const std::string& folder, const std::string& name) { return (fs::path(folder) / name).string(); }

Result<StateContents> ReadContents(const std::string& path) {
  const std::string file = FileOf(path, kStateFile);
  const Result<std::string> text = io::ReadFile(file, kMaxStateText);
  if (!text) return text.error();
  return ParseStateText(text.Value(), file);
}

Result<OpenState> OpenFiles(const std::string& path) {
  Result<StateContents> contents = ReadContents(path);
  if (!contents) return contents.error();
  OpenState out{path, std::move(contents).Value(), {}};
  for (const StateFile& f : out.contents.files) {
    const std::string name = FileOf(path, f.name);
    std::error_code error;
    const auto size = fs::file_size(name, error);
    if (!error && size != static_cast<std::uintmax_t>(f.bytes))
      return Error(name + " is damaged", fmt::format("{} bytes", size), fmt::format("{} bytes", f.bytes));
    Result<io::SafetensorsFile> file = io::SafetensorsFile::Open(name);
    if (!file) return file.error();
    const Result<std::string> head = file.Value().file().Read(0, file.Value().data_begin());
    if (!head) return head.error();
    if (ChecksumOf(head.Value()) != f.head) return Error(name + " is damaged", "another header than was written");
    out.files.push_back(std::move(file).Value());
  }
  return out;
}

// Throws Error naming the first keys that differ. Those that say nothing of a resumed run's arithmetic may.
void CheckConfig(const OpenState& state, const model::ModelConfig& config) {
  const nlohmann::json ours = nlohmann::json::parse(model::ToJson(config));
  const nlohmann::json theirs = nlohmann::json::parse(state.contents.state.model_config_json, nullptr, false);
  if (!theirs.is_object()) return;  // not kept: the tensors' shapes are compared all the same
  std::string got, expected;
  for (const auto& [key, value] : ours.items()) {
    if (key == "torch_dtype" || key == "quantization_config" || key == "initializer_range") continue;
    const auto at = theirs.find(key);
    const std::string other = at == theirs.end() ? "absent" : at->dump();
    if (other == value.dump()) continue;
    got += fmt::format("{}{} = {}", got.empty() ? "" : ", ", key, other);
    expected += fmt::format("{}{} = {}", expected.empty() ? "" : ", ", key, value.dump());
  }
  if (!got.empty())
    throw Error(state.path + " is of another model", got, expected, "resume with the model that the run began with");
}

std::string Show(DType dtype, const Shape& shape) {
  return fmt::format("{} ({})", Name(dtype), fmt::join(shape, ", "));
}

// The file's tensors are those of `arrays`, in type and shape; throws Error. The headers are undamaged: what differs
// was written so.
void CheckArrays(const OpenState& state, const StateArrays& arrays) {
  const io::SafetensorsFile* file = nullptr;
  const std::string name = FileOf(state.path, arrays.name);
  const StateFile* const listed = state.Find(arrays.name, &file);
  if (!listed)
    throw Error(state.path + " has no " + arrays.name, "", "the moments of the optimiser",
                "it was saved without an optimiser; export it and begin another run with model.from");
  for (const io::TensorSpec& spec : arrays.specs) {
    const io::SafetensorsEntry* entry = file->Find(spec.name);
    if (!entry) throw Error(name + " is of another model", "no " + spec.name, Show(spec.dtype, spec.shape));
    if (entry->shape != spec.shape)
      throw Error(name + " is of another model: " + spec.name, Show(entry->dtype, entry->shape),
                  Show(spec.dtype, spec.shape));
    if (entry->dtype != spec.dtype)
      throw Error(name + " is in another type: " + spec.name, Show(entry->dtype, entry->shape),
                  Show(spec.dtype, spec.shape), "resume with the train.optimizer_moments that the run began with");
  }
  if (file->entries().size() == arrays.specs.size()) return;
  for (const io::SafetensorsEntry& entry : file->entries()) {
    const auto is = [&](const io::TensorSpec& spec) { return spec.name == entry.name; };
    if (std::none_of(arrays.specs.begin(), arrays.specs.end(), is))
      throw Error(name + " is of another model", entry.name, "no such tensor");
  }
}

// Reads and verifies all pieces; throws Error naming the first tensor that is not as it was written.
void ReadArrays(const OpenState& state, const std::vector<StateArrays>& arrays, ThreadPool& pool) {
  std::vector<const StateFile*> listed;
  std::vector<const io::SafetensorsFile*> files(arrays.size());
  std::vector<std::vector<int64_t>> begins(arrays.size());
  for (size_t i = 0; i < arrays.size(); ++i) {
    listed.push_back(state.Find(arrays[i].name, &files[i]));
    for (const io::TensorSpec& spec : arrays[i].specs)
      begins[i].push_back(files[i]->data_begin() + files[i]->Find(spec.name)->begin);
  }
  const std::vector<StatePiece> pieces = PiecesOf(arrays);
  std::vector<uint64_t> checksums(pieces.size());
  ParallelForThrowing(pool, static_cast<int64_t>(pieces.size()), [&](int64_t task, int) {
    const StatePiece& p = pieces[static_cast<size_t>(task)];
    const std::string bytes = files[p.file]->file().Read(begins[p.file][p.tensor] + p.begin, p.bytes).Value();
    checksums[static_cast<size_t>(task)] = ChecksumOf(bytes);
    std::memcpy(static_cast<char*>(arrays[p.file].data[p.tensor]) + p.begin, bytes.data(), bytes.size());
  });
  for (size_t i = 0; i < arrays.size(); ++i) {
    for (const auto& [name, checksum] : TensorChecksums(arrays[i], i, pieces, checksums)) {
      const auto said = listed[i]->tensors.find(name);
      if (said == listed[i]->tensors.end() || said->second != checksum)
        throw Error(FileOf(state.path, arrays[i].name) + " is damaged", "another checksum of " + name);
    }
  }
}

// One line of an Error: what a warning has room for.
std::string Brief(const Error& e) {
  std::string out = e.summary();
  if (!e.got().empty()) out += ": " + e.got();
  if (!e.expected().empty()) out += " instead of " + e.expected();
  return out;
}

}  // namespace

RunState ReadRunState(const std::string& path) { return std::move(ReadContents(path)).Value().state; }

std::optional<LoadedState> LoadNewestRunState(const std::string& run_dir, const model::ModelConfig& config,
                                              ParamStore& store, Context& ctx) {
  RemoveLeftovers(run_dir);
  const std::vector<std::string> paths = ListRunStates(run_dir);
  if (paths.empty()) return std::nullopt;
  LoadedState out;
  for (const std::string& path : paths) {
    const Result<OpenState> opened = OpenFiles(path);
    if (!opened) {
      out.warnings.push_back(fmt::format("{} was passed over: {}", path, Brief(opened.error())));
      continue;
    }
    const OpenState& state = opened.Value();
    std::vector<StateArrays> arrays = ArraysOf(store);
    const io::SafetensorsFile* unused = nullptr;
    const bool has_averages = state.Find(kAveragesFile, &unused);
    const bool wants_averages = store.policy().ema;
    if (!has_averages) std::erase_if(arrays, [](const StateArrays& a) { return a.name == kAveragesFile; });
    CheckConfig(state, config);
    for (const StateArrays& a : arrays) CheckArrays(state, a);
    try {
      ReadArrays(state, arrays, ctx.pool);
    } catch (const Error& e) {
      out.warnings.push_back(fmt::format("{} was passed over: {}", path, Brief(e)));
      continue;
    }
    store.Refresh(ctx, wants_averages && !has_averages);
    if (wants_averages && !has_averages)
      out.warnings.push_back(path + " has no averaged weights: they begin at its weights");
    if (has_averages && !wants_averages) out.warnings.push_back("the averaged weights of " + path + " were left out");
    out.state = state.contents.state;
    out.path = path;
    return out;
  }
  throw Error("none of the checkpoints in " + FileOf(run_dir, "checkpoints") + " can be used",
              fmt::format("{}", fmt::join(out.warnings, "\n")), "one that is whole",
              "begin again in another folder, or take weights that were exported with model.from");
}

}  // namespace fathom::train
