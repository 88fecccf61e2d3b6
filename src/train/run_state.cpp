#include "train/run_state.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <memory>

#include "core/parallel.h"
#include "io/pending_directory.h"
#include "io/safetensors_writer.h"
#include "train/run_state_arrays.h"
#include "train/run_state_json.h"

namespace fathom::train {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kPrefix = "step-";

// -1: not the name of a saved step.
int64_t StepOf(const std::string& name) {
  if (name.rfind(kPrefix, 0) != 0) return -1;
  int64_t step = -1;
  const char* const end = name.data() + name.size();
  const auto [at, error] = std::from_chars(name.data() + kPrefix.size(), end, step);
  return error == std::errc() && at == end && step >= 0 ? step : -1;
}

struct SavedStep {
  int64_t step;
  fs::path path;
};

fs::path FolderOf(const std::string& run_dir) { return fs::path(run_dir) / "checkpoints"; }

// The oldest first. Throws Error where the folder is there and cannot be read: that is not an empty run.
std::vector<SavedStep> SavedSteps(const fs::path& folder) {
  std::vector<SavedStep> out;
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    const int64_t step = StepOf(it->path().filename().string());
    if (step >= 0 && it->is_directory()) out.push_back({step, it->path()});
  }
  if (error && error != std::errc::no_such_file_or_directory)
    throw io::FileError("cannot read " + folder.string(), folder.string(), error.value());
  std::sort(out.begin(), out.end(), [](const SavedStep& a, const SavedStep& b) { return a.step < b.step; });
  return out;
}

// Takes its name first, so that no half-removed folder looks like a checkpoint.
std::error_code RemoveFolder(const fs::path& path) {
  const fs::path aside = fmt::format("{}.tmp-{}-removed", path.string(), ::getpid());
  std::error_code error;
  fs::remove_all(aside, error);
  fs::rename(path, aside, error);
  if (!error) fs::remove_all(aside, error);
  return error;
}

std::vector<std::string> Rotate(const fs::path& folder, int64_t step, int64_t keep) {
  std::vector<SavedStep> steps = SavedSteps(folder);
  const auto later = std::find_if(steps.begin(), steps.end(), [&](const SavedStep& s) { return s.step > step; });
  std::vector<SavedStep> remove(later, steps.end());
  steps.erase(later, steps.end());
  const int64_t old = static_cast<int64_t>(steps.size()) - keep;
  if (old > 0) remove.insert(remove.end(), steps.begin(), steps.begin() + old);
  std::vector<std::string> warnings;
  for (const SavedStep& s : remove) {
    const std::error_code error = RemoveFolder(s.path);
    if (error) warnings.push_back(fmt::format("cannot remove {}: {}", s.path.string(), error.message()));
  }
  return warnings;
}

// Writes all arrays and takes their checksums: a task is a piece of a tensor, pieces of different files in turn, so
// that threads seldom wait for each other in one file.
std::vector<StateFile> WriteArrays(const fs::path& folder, const std::vector<StateArrays>& arrays, ThreadPool& pool) {
  std::vector<std::unique_ptr<io::SafetensorsWriter>> writers;
  std::vector<StateFile> files;
  for (const StateArrays& a : arrays) {
    writers.push_back(std::make_unique<io::SafetensorsWriter>((folder / a.name).string(), a.specs));
    const std::string head = io::SafetensorsHead(a.specs);
    files.push_back({a.name, static_cast<int64_t>(head.size()) + a.bytes(), ChecksumOf(head), {}});
  }
  std::vector<StatePiece> pieces = PiecesOf(arrays);
  std::vector<uint64_t> checksums(pieces.size());
  ParallelForThrowing(pool, static_cast<int64_t>(pieces.size()), [&](int64_t task, int) {
    const StatePiece& p = pieces[static_cast<size_t>(task)];
    const char* from = static_cast<const char*>(arrays[p.file].data[p.tensor]) + p.begin;
    checksums[static_cast<size_t>(task)] = ChecksumOf({from, static_cast<size_t>(p.bytes)});
    writers[p.file]->WriteAt(p.tensor, p.begin, from, p.bytes);
  });
  for (const auto& writer : writers) writer->Commit();
  for (size_t i = 0; i < arrays.size(); ++i) files[i].tensors = TensorChecksums(arrays[i], i, pieces, checksums);
  return files;
}

void CheckSpace(const std::string& folder, int64_t bytes) {
  std::error_code error;
  const fs::space_info space = fs::space(folder, error);
  if (!error && space.available < static_cast<std::uintmax_t>(bytes))
    throw Error("not enough space in " + folder, io::HumanBytes(static_cast<int64_t>(space.available)) + " free",
                io::HumanBytes(bytes), "free some space; a smaller checkpoint.keep takes less of it");
}

Error NotSaved(const Error& why, int64_t step, int64_t bytes, const std::vector<SavedStep>& before) {
  const std::string rest = before.empty() ? "no earlier step is saved"
                                          : fmt::format("step {} is the last that is saved", before.back().step);
  return Error(fmt::format("the state of step {} was not saved: {}", step, why.summary()), why.got(),
               why.expected().empty() ? io::HumanBytes(bytes) : why.expected(),
               why.hint().empty() ? rest : why.hint() + "; " + rest);
}

}  // namespace

void RemoveLeftovers(const std::string& run_dir) {
  std::error_code error;
  std::vector<fs::path> found;
  for (fs::directory_iterator it(FolderOf(run_dir), error), end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    if (name.rfind(kPrefix, 0) == 0 && io::IsTemporaryName(name)) found.push_back(it->path());
  }
  for (const fs::path& path : found) fs::remove_all(path, error);
}

std::vector<std::string> ListRunStates(const std::string& run_dir) {
  std::vector<std::string> out;
  for (const SavedStep& s : SavedSteps(FolderOf(run_dir))) out.insert(out.begin(), s.path.string());
  return out;
}

int64_t RunStateBytes(const ParamStore& store) {
  int64_t bytes = 0;
  for (const StateArrays& a : ArraysOf(store)) bytes += a.bytes();
  return bytes;
}

SavedState SaveRunState(const std::string& run_dir, const ParamStore& store, const RunState& state, int64_t keep,
                        ThreadPool& pool) {
  FATHOM_CHECK(keep >= 1 && state.step >= 0);
  const fs::path folder = FolderOf(run_dir);
  RemoveLeftovers(run_dir);
  const std::vector<SavedStep> before = SavedSteps(folder);
  const std::vector<StateArrays> arrays = ArraysOf(store);
  SavedState saved;
  for (const StateArrays& a : arrays) saved.bytes += a.bytes();
  try {
    io::PendingDirectory directory((folder / fmt::format("{}{:08}", kPrefix, state.step)).string());
    CheckSpace(directory.path(), saved.bytes);
    const std::string text = StateText({state, WriteArrays(directory.path(), arrays, pool)});
    io::WriteFileAtomically((fs::path(directory.path()) / kStateFile).string(), text);
    directory.Commit();
    saved.path = directory.target();
    saved.bytes += static_cast<int64_t>(text.size());
  } catch (const Error& e) {
    throw NotSaved(e, state.step, saved.bytes, before);
  }
  saved.warnings = Rotate(folder, state.step, keep);
  return saved;
}

}  // namespace fathom::train
