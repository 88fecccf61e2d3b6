#include "checkpoint/init.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>
#include <exception>
#include <filesystem>
#include <mutex>
#include <unordered_map>

#include "checkpoint/hf.h"
#include "core/normal.h"
#include "io/file.h"

namespace fathom::checkpoint {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kBandRows = kFp8Block;  // rows of a task
constexpr int64_t kSliceTasks = 64;       // tasks between two reports of progress

// FNV-1a, 64 bits: the random stream of a tensor.
uint64_t StreamOf(std::string_view name) {
  uint64_t h = 0xcbf29ce484222325u;
  for (char c : name) h = (h ^ static_cast<uint8_t>(c)) * 0x100000001b3u;
  return h;
}

// As F32ToE4M3 for |y| <= 448 (the scale makes it so), without branches.
inline uint8_t EncodeE4M3(float y) {
  const uint32_t u = std::bit_cast<uint32_t>(y), a = u & 0x7fffffffu;
  const uint32_t normal = ((a + 0x7ffffu + ((a >> 20) & 1)) >> 20) - (120u << 3);
  // Below 2^-6 codes count steps of 2^-9, the spacing of floats from 2^14 on.
  const uint32_t small = std::bit_cast<uint32_t>(std::bit_cast<float>(a) + 16384.0f) - 0x46800000u;
  return static_cast<uint8_t>((u >> 24 & 0x80u) | (a < 0x3c800000u ? small : normal));
}

void FillRows(model::ParamKind kind, uint64_t stream, uint64_t seed, float deviation, int64_t first_row, int64_t rows,
              int64_t cols, float* out) {
  if (kind == model::ParamKind::kVector || kind == model::ParamKind::kRouterBias) {
    std::fill_n(out, rows * cols, kind == model::ParamKind::kVector ? 1.0f : 0.0f);
    return;
  }
  const int64_t counters = (cols + 3) / 4;  // of a row
  for (int64_t r = 0; r < rows; ++r)
    FillNormal(seed, stream, static_cast<uint64_t>((first_row + r) * counters), deviation, out + r * cols, cols);
}

struct Task {
  const io::TensorSpec* spec;
  size_t tensor, scale;  // places in the file's list; scale: of weight_scale_inv, or -1
  model::ParamKind kind;
  uint64_t stream;
  int64_t first_row, rows, cols;
};

class Filler {
 public:
  Filler(io::SafetensorsWriter& writer, const InitOptions& options, float deviation, bool ue8m0)
      : writer_(writer), seed_(options.seed), deviation_(deviation), ue8m0_(ue8m0) {}

  // Makes and writes the rows of a task. Scratch of the thread grows to the widest task.
  int64_t Run(const Task& t, std::vector<float>& values, std::vector<std::byte>& bytes) const {
    const size_t n = static_cast<size_t>(t.rows * t.cols);
    values.resize(n);
    FillRows(t.kind, t.stream, seed_, deviation_, t.first_row, t.rows, t.cols, values.data());
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
  uint64_t seed_;
  float deviation_;
  bool ue8m0_;
};

struct Origin {
  model::ParamKind kind;
  uint64_t stream;
};

std::vector<Task> TasksOf(const ShardFile& shard, const std::unordered_map<std::string, Origin>& origins) {
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
      tasks.push_back({&spec, i, scale == place.end() ? SIZE_MAX : scale->second, origin->second.kind,
                       origin->second.stream, r, std::min(kBandRows, rows - r), cols});
  }
  return tasks;
}

// Runs the tasks on the pool; the first exception of any of them is thrown here.
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
      std::exception_ptr failure;
      std::mutex mutex;
      std::atomic<int64_t> written{0};
      pool_.ParallelFor(count, [&](int64_t task, int thread) {
        try {
          const size_t t = static_cast<size_t>(thread);
          written += filler.Run(tasks[begin + static_cast<size_t>(task)], values_[t], bytes_[t]);
        } catch (...) {
          const std::lock_guard lock(mutex);
          if (!failure) failure = std::current_exception();
        }
      });
      if (failure) std::rethrow_exception(failure);
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

// A directory that exists under its own name only when it is complete.
class PendingDirectory {
 public:
  explicit PendingDirectory(std::string out) : out_(std::move(out)) {
    while (out_.size() > 1 && out_.back() == '/') out_.pop_back();
    temporary_ = fmt::format("{}.tmp-{}", out_, ::getpid());
    std::error_code error;
    if (!fs::create_directories(temporary_, error) && error)
      throw io::FileError("cannot make the directory " + temporary_, temporary_, error.value());
  }
  ~PendingDirectory() {
    std::error_code ignored;
    fs::remove_all(temporary_, ignored);
  }
  PendingDirectory(const PendingDirectory&) = delete;
  PendingDirectory& operator=(const PendingDirectory&) = delete;

  const std::string& path() const { return temporary_; }

  void Commit() {
    std::error_code error;
    if (!fs::exists(out_, error) || fs::is_empty(out_, error)) {
      fs::rename(temporary_, out_, error);  // over an empty directory too
    } else {
      for (const fs::directory_entry& old : fs::directory_iterator(out_, error)) {
        const std::string name = old.path().filename().string();
        const bool weights = name.rfind("model", 0) == 0 && name.ends_with(".safetensors");
        if (weights || name == kIndexFile) fs::remove(old.path(), error);
      }
      for (const fs::directory_entry& made : fs::directory_iterator(temporary_, error)) {
        fs::rename(made.path(), fs::path(out_) / made.path().filename(), error);
        if (error) break;
      }
    }
    if (error) throw io::FileError("cannot write " + out_, out_, error.value());
  }

 private:
  std::string out_, temporary_;
};

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

void FillInitial(std::string_view name, model::ParamKind kind, uint64_t seed, float deviation, int64_t first_row,
                 int64_t rows, int64_t cols, float* out) {
  FillRows(kind, StreamOf(name), seed, deviation, first_row, rows, cols, out);
}

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

void InitCheckpoint(const model::ModelConfig& config, const std::string& out, const InitOptions& options,
                    ThreadPool& pool) {
  model::Validate(config);
  const model::ModelConfig stored = WithPrecision(config, options.precision);
  const std::vector<io::TensorSpec> tensors = Layout(stored, options.precision);
  const int64_t total = TotalBytes(tensors);
  CheckTarget(out, options.force, total);

  std::unordered_map<std::string, Origin> origins;
  model::ModelParams params = model::MakeParams(stored);
  model::ForEachParam(stored, params, [&](const model::ParamInfo& info, const kernels::Weight&) {
    const bool embed = info.name.ends_with("embed_tokens.weight");
    const std::string name = !info.copy ? info.name : embed ? "model.embed_tokens.weight" : "lm_head.weight";
    origins.emplace(info.name, Origin{info.kind, StreamOf(name)});
  });

  PendingDirectory directory(out);
  const std::vector<ShardFile> shards = Shard(tensors, options.max_shard_bytes);
  const bool ue8m0 = stored.quantization_config && stored.quantization_config->ue8m0;
  Runner runner(pool, options.progress, total);
  for (const ShardFile& shard : shards) {
    io::SafetensorsWriter writer((fs::path(directory.path()) / shard.name).string(), shard.tensors, {{"format", "pt"}});
    runner.Run(TasksOf(shard, origins), Filler(writer, options, static_cast<float>(stored.initializer_range), ue8m0));
    writer.Commit();
  }
  if (shards.size() > 1) io::WriteFileAtomically((fs::path(directory.path()) / kIndexFile).string(), IndexJson(shards));
  io::WriteFileAtomically((fs::path(directory.path()) / "config.json").string(), model::ToJson(stored));
  directory.Commit();
}

}  // namespace fathom::checkpoint
