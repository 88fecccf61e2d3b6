#include "checkpoint/write.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <filesystem>
#include <unordered_map>

#include "checkpoint/hf.h"
#include "core/parallel.h"
#include "io/pending_directory.h"

namespace fathom::checkpoint {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kBandRows = kFp8Block;  // rows of a task
constexpr int64_t kSliceTasks = 64;       // tasks between two reports of progress

// As F32ToE4M3 for |y| <= 448 (the scale makes it so), without branches.
inline uint8_t EncodeE4M3(float y) {
  const uint32_t u = std::bit_cast<uint32_t>(y), a = u & 0x7fffffffu;
  const uint32_t normal = ((a + 0x7ffffu + ((a >> 20) & 1)) >> 20) - (120u << 3);
  // Below 2^-6 codes count steps of 2^-9, the spacing of floats from 2^14 on.
  const uint32_t small = std::bit_cast<uint32_t>(std::bit_cast<float>(a) + 16384.0f) - 0x46800000u;
  return static_cast<uint8_t>((u >> 24 & 0x80u) | (a < 0x3c800000u ? small : normal));
}

struct Task {
  const io::TensorSpec* spec;
  size_t tensor, scale;  // places in the file's list; scale: of weight_scale_inv, or -1
  const model::ParamInfo* origin;
  int64_t first_row, rows, cols;
};

class Filler {
 public:
  Filler(io::SafetensorsWriter& writer, const ValuesFn& values, bool ue8m0)
      : writer_(writer), values_(values), ue8m0_(ue8m0) {}

  // Makes and writes the rows of a task. Scratch of the thread grows to the widest task.
  int64_t Run(const Task& t, std::vector<float>& values, std::vector<std::byte>& bytes) const {
    const size_t n = static_cast<size_t>(t.rows * t.cols);
    values.resize(n);
    values_(*t.origin, t.first_row, t.rows, t.cols, values.data());
    const int64_t size = t.rows * t.cols * SizeOf(t.spec->dtype), at = t.first_row * t.cols * SizeOf(t.spec->dtype);
    switch (t.spec->dtype) {
      case DType::kF32:
        writer_.WriteAt(t.tensor, at, values.data(), size);
        return size;
      case DType::kBF16: {
        bytes.resize(static_cast<size_t>(size));
        auto* out = reinterpret_cast<uint16_t*>(bytes.data());
        for (size_t i = 0; i < n; ++i) out[i] = F32ToBf16(values[i]);
        writer_.WriteAt(t.tensor, at, out, size);
        return size;
      }
      case DType::kF8E4M3: {
        const int64_t scale_cols = (t.cols + kFp8Block - 1) / kFp8Block;
        std::vector<float> scales(static_cast<size_t>(scale_cols));
        bytes.resize(static_cast<size_t>(size));
        auto* codes = reinterpret_cast<uint8_t*>(bytes.data());
        QuantizeBlocks(values.data(), t.rows, t.cols, ue8m0_, codes, scales.data());
        writer_.WriteAt(t.tensor, at, codes, size);
        const int64_t scale_bytes = scale_cols * SizeOf(DType::kF32);
        writer_.WriteAt(t.scale, t.first_row / kFp8Block * scale_bytes, scales.data(), scale_bytes);
        return size + scale_bytes;
      }
      default:
        FATHOM_CHECK(false, "a type that is not written");
        return 0;
    }
  }

 private:
  io::SafetensorsWriter& writer_;
  const ValuesFn& values_;
  bool ue8m0_;
};

using Origins = std::unordered_map<std::string, model::ParamInfo>;

// The parameter that each stored tensor has its values of.
Origins OriginsOf(const model::ModelConfig& config) {
  Origins origins;
  model::ModelParams params = model::MakeParams(config);
  model::ForEachParam(config, params, [&](const model::ParamInfo& info, const kernels::Weight&) {
    model::ParamInfo& origin = origins[info.name] = info;
    if (!info.copy) return;
    origin.name = info.name.ends_with("embed_tokens.weight") ? "model.embed_tokens.weight" : "lm_head.weight";
    origin.mtp = origin.copy = false;
  });
  return origins;
}

std::vector<Task> TasksOf(const ShardFile& shard, const Origins& origins) {
  std::unordered_map<std::string_view, size_t> place;
  for (size_t i = 0; i < shard.tensors.size(); ++i) place.emplace(shard.tensors[i].name, i);
  std::vector<Task> tasks;
  for (size_t i = 0; i < shard.tensors.size(); ++i) {
    const io::TensorSpec& spec = shard.tensors[i];
    const auto origin = origins.find(spec.name);
    if (origin == origins.end()) continue;  // scales: written with their weight
    const auto scale = place.find(spec.name + "_scale_inv");
    const int64_t rows = spec.shape.size() == 1 ? 1 : spec.shape[0], cols = spec.shape.back();
    for (int64_t r = 0; r < rows; r += kBandRows)
      tasks.push_back({&spec, i, scale == place.end() ? SIZE_MAX : scale->second, &origin->second, r,
                       std::min(kBandRows, rows - r), cols});
  }
  return tasks;
}

// Runs the tasks on the pool, in slices between which progress is reported.
class Runner {
 public:
  Runner(ThreadPool& pool, ProgressFn progress, int64_t total)
      : pool_(pool),
        progress_(std::move(progress)),
        total_(total),
        values_(static_cast<size_t>(pool.size())),
        bytes_(static_cast<size_t>(pool.size())) {}

  void Run(const std::vector<Task>& tasks, const Filler& filler) {
    for (size_t begin = 0; begin < tasks.size(); begin += kSliceTasks) {
      const int64_t count = std::min<int64_t>(kSliceTasks, static_cast<int64_t>(tasks.size() - begin));
      std::atomic<int64_t> written{0};
      ParallelForThrowing(pool_, count, [&](int64_t task, int thread) {
        const size_t t = static_cast<size_t>(thread);
        written += filler.Run(tasks[begin + static_cast<size_t>(task)], values_[t], bytes_[t]);
      });
      done_ += written;
      if (progress_) progress_(done_, total_);
    }
  }

 private:
  ThreadPool& pool_;
  ProgressFn progress_;
  int64_t done_ = 0, total_;
  std::vector<std::vector<float>> values_;
  std::vector<std::vector<std::byte>> bytes_;
};

// Into a directory that has other files too: they stay, its weights do not.
void MoveInto(const std::string& out, const std::string& made_in) {
  std::error_code error;
  for (const fs::directory_entry& old : fs::directory_iterator(out, error)) {
    const std::string name = old.path().filename().string();
    const bool weights = name.rfind("model", 0) == 0 && name.ends_with(".safetensors");
    if (weights || name == kIndexFile) fs::remove(old.path(), error);
  }
  for (const fs::directory_entry& made : fs::directory_iterator(made_in, error)) {
    fs::rename(made.path(), fs::path(out) / made.path().filename(), error);
    if (error) break;
  }
  if (error) throw io::FileError("cannot write " + out, out, error.value());
  io::SyncDirectory(out);
}

void CheckTarget(const std::string& out, bool force, int64_t bytes) {
  std::error_code ignored;
  if (fs::exists(out, ignored)) {
    if (!fs::is_directory(out, ignored)) throw Error(out + " is in the way", "a file", "a new or empty directory");
    if (!fs::is_empty(out, ignored) && !force)
      throw Error(out + " is not empty", "", "a new or empty directory",
                  "--force replaces the weights and the config.json in it");
  }
  const fs::path parent = fs::absolute(fs::path(out), ignored).lexically_normal().parent_path();
  fs::path there = parent;
  while (!there.empty() && !fs::exists(there, ignored) && there != there.parent_path()) there = there.parent_path();
  const fs::space_info space = fs::space(there, ignored);
  if (space.available != static_cast<std::uintmax_t>(-1) && space.available < static_cast<std::uintmax_t>(bytes))
    throw Error("not enough space for " + out, io::HumanBytes(static_cast<int64_t>(space.available)) + " free",
                io::HumanBytes(bytes), "free some space, or write to another disk");
}

}  // namespace

void QuantizeBlocks(const float* x, int64_t rows, int64_t cols, bool ue8m0, uint8_t* codes, float* scales) {
  const int64_t scale_cols = (cols + kFp8Block - 1) / kFp8Block;
  for (int64_t r0 = 0; r0 < rows; r0 += kFp8Block) {
    for (int64_t c0 = 0; c0 < cols; c0 += kFp8Block) {
      const int64_t r1 = std::min(rows, r0 + kFp8Block), width = std::min(kFp8Block, cols - c0);
      uint32_t largest = 0;  // the bits of magnitudes order as the magnitudes do
      for (int64_t r = r0; r < r1; ++r) {
        const float* row = x + r * cols + c0;
        for (int64_t c = 0; c < width; ++c) largest = std::max(largest, std::bit_cast<uint32_t>(row[c]) & 0x7fffffffu);
      }
      const float scale = Fp8Scale(std::bit_cast<float>(largest), ue8m0);
      scales[r0 / kFp8Block * scale_cols + c0 / kFp8Block] = scale;
      for (int64_t r = r0; r < r1; ++r) {
        const float* row = x + r * cols + c0;
        uint8_t* out = codes + r * cols + c0;
        for (int64_t c = 0; c < width; ++c) out[c] = EncodeE4M3(row[c] / scale);
      }
    }
  }
}

void WriteCheckpoint(const model::ModelConfig& config, const std::string& out, const WriteOptions& options,
                     const ValuesFn& values, ThreadPool& pool) {
  model::Validate(config);
  const model::ModelConfig stored = WithPrecision(config, options.precision);
  const std::vector<io::TensorSpec> tensors = Layout(stored, options.precision);
  const int64_t total = TotalBytes(tensors);
  CheckTarget(out, options.force, total);

  const Origins origins = OriginsOf(stored);
  io::PendingDirectory directory(out);
  const auto in_directory = [&](const std::string& name) { return (fs::path(directory.path()) / name).string(); };
  const std::vector<ShardFile> shards = Shard(tensors, options.max_shard_bytes);
  const bool ue8m0 = stored.quantization_config && stored.quantization_config->ue8m0;
  Runner runner(pool, options.progress, total);
  for (const ShardFile& shard : shards) {
    io::SafetensorsWriter writer(in_directory(shard.name), shard.tensors, {{"format", "pt"}});
    runner.Run(TasksOf(shard, origins), Filler(writer, values, ue8m0));
    writer.Commit();
  }
  if (shards.size() > 1) io::WriteFileAtomically(in_directory(kIndexFile), IndexJson(shards));
  for (const auto& [name, bytes] : options.files) io::WriteFileAtomically(in_directory(name), bytes);
  io::WriteFileAtomically(in_directory("config.json"), model::ToJson(stored));
  std::error_code ignored;
  if (fs::exists(out, ignored) && !fs::is_empty(out, ignored)) {
    MoveInto(directory.target(), directory.path());
  } else {
    directory.Commit();
  }
}

}  // namespace fathom::checkpoint
