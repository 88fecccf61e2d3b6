#include "cli/bench_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <memory>

#include "core/machine.h"
#include "core/rng.h"
#include "engine/latent_pool.h"
#include "engine/step_cost.h"
#include "io/file.h"

namespace fathom::cli {
namespace {

using Clock = std::chrono::steady_clock;
using kernels::ByteSpan;
using kernels::Median;

double SecondsSince(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

constexpr int64_t kNoiseRows = 1021;  // a prime: rows of sequences and layers do not repeat side by side
constexpr int64_t kMinSteps = 5, kMaxSteps = 60;
constexpr double kCaseSeconds = 9;       // of one case at most, passes over memory included
constexpr int64_t kArithmeticEvery = 4;  // steps between pieces of arithmetic
constexpr int kTournamentPasses = 4;     // of every pattern, before the best three remain

// Weights in F32 or F16 are computed in float32 whatever was asked for (ops.h, Compute).
bool InFloat32(const model::ModelParams& params, model::Compute compute) {
  const DType linear = params.layers.front().self_attn.o_proj.dtype;
  return compute == model::Compute::kF32 || linear == DType::kF32 || linear == DType::kF16;
}

// Bytes of the huge pages that spans in ascending order touch; Buffer asks for huge pages.
int64_t TouchedPages(std::span<const ByteSpan> spans) {
  constexpr uintptr_t kPage = uintptr_t{2} << 20;
  uintptr_t next = 0, pages = 0;  // pages below `next` are counted
  for (const ByteSpan& s : spans) {
    const uintptr_t begin = reinterpret_cast<uintptr_t>(s.data), end = begin + static_cast<uintptr_t>(s.bytes);
    const uintptr_t first = std::max(next, begin / kPage), last = (end + kPage - 1) / kPage;
    if (last > first) pages += last - first;
    next = std::max(next, last);
  }
  return static_cast<int64_t>(pages * kPage);
}

class Bench {
 public:
  Bench(const BenchModel& m, const BenchPlan& plan, const std::function<void(const std::string&)>& on_case)
      : m_(m),
        config_(m.transformer.config()),
        plan_(plan),
        on_case_(on_case),
        weights_(config_, m.params),
        use_(config_),
        read_(m.ctx),
        arithmetic_(m.ctx),
        arena_(PlanSteps()) {}

  BenchResult Run();

 private:
  struct StepSeconds {
    double body, head;
  };
  int64_t PlanSteps();
  StepSeconds Step(Arena& arena, std::span<const int32_t> ids, std::span<const model::SequenceSlice> slices,
                   int64_t head_rows);
  void CheckMemory() const;
  void TouchWeights();
  void FillCaches(int64_t batch, int64_t context);
  void ReadBeside(std::span<const ByteSpan> spans, int64_t step);
  std::vector<int32_t> RandomIds(int64_t n);
  bool TooLong(double bound_seconds, double steps, std::string* why) const;
  DecodeRow Decode(int64_t batch, int64_t context);
  PrefillRow Prefill(int64_t tokens);
  double AttentionPeak(const kernels::Peaks& peaks) const;  // operations a second, as the next
  double ProductPeak(const kernels::Peaks& peaks) const;
  double Roofline(const DecodeRow& row, double attention_ops) const;
  int64_t RowBytes() const { return m_.transformer.cache_layers() * config_.cache_width() * SizeOf(m_.cache_dtype); }

  const BenchModel& m_;
  const model::ModelConfig& config_;
  const BenchPlan& plan_;
  const std::function<void(const std::string&)>& on_case_;
  engine::WeightMap weights_;
  engine::ExpertUse use_;
  kernels::ReadMeter read_;
  kernels::ArithmeticMeter arithmetic_;
  Arena arena_;
  Rng rng_{20241227};
  std::vector<float> noise_;  // (kNoiseRows, cache_width)
  std::vector<std::unique_ptr<engine::LatentStore>> stores_;
  std::vector<int64_t> filled_;  // positions of each store
  double worst_fraction_ = 1;    // of the bounds of the cases so far: predicts how long the next takes
  Clock::time_point start_ = Clock::now();
};

// The code that will run, on a planner.
int64_t Bench::PlanSteps() {
  Arena planner = Arena::Planner();
  const auto plan = [&](int64_t sequences, int64_t tokens, int64_t position, int64_t head_rows) {
    std::vector<model::SequenceSlice> slices;
    for (int64_t s = 0; s < sequences; ++s)
      slices.push_back({.row = s * tokens, .tokens = tokens, .position = position, .wanted = 1, .caches = {}});
    Step(planner, std::vector<int32_t>(static_cast<size_t>(sequences * tokens)), slices, head_rows);
  };
  for (int64_t batch : plan_.batches) {
    for (int64_t context : plan_.contexts) plan(batch, 1, context, batch);
  }
  for (int64_t tokens : plan_.prefills) plan(1, tokens, 0, 1);
  return planner.HighWater();
}

Bench::StepSeconds Bench::Step(Arena& arena, std::span<const int32_t> ids, std::span<const model::SequenceSlice> slices,
                               int64_t head_rows) {
  ArenaScope scope(arena);
  const model::Env env{.ctx = m_.ctx, .arena = arena, .compute = m_.compute, .probe = &use_.probe()};
  const int64_t t = static_cast<int64_t>(ids.size()), d = config_.hidden_size;
  float* hidden = arena.Take<float>(t * d);
  float* normed = arena.Take<float>(head_rows * d);
  float* logits = arena.Take<float>(head_rows * config_.vocab_size);
  const auto start = Clock::now();
  m_.transformer.Forward(env, {ids, slices}, hidden);
  const double body = SecondsSince(start);
  m_.transformer.FinalNorm(env, hidden + (arena.planning() ? 0 : (t - head_rows) * d), head_rows, normed);
  m_.transformer.Head(env, normed, head_rows, logits);
  return {body, SecondsSince(start) - body};
}

void Bench::CheckMemory() const {
  const int64_t positions = PositionsOf(plan_);
  const bool decode = !plan_.batches.empty() && !plan_.contexts.empty();
  const int64_t batch = decode ? *std::max_element(plan_.batches.begin(), plan_.batches.end()) : 1;
  const int64_t need = kernels::TotalBytes(weights_.All()) + batch * positions * RowBytes() + arena_.Capacity();
  // What is mapped already (weights in the page cache) counts as available.
  if (const int64_t have = AvailableMemory(); have >= 0 && need > have) {
    throw Error("the model and the caches of this benchmark do not fit into memory",
                fmt::format("{} available", io::HumanBytes(have)), io::HumanBytes(need),
                "choose a smaller --batch or --context; the benchmark measures memory, not the disk");
  }
}

void Bench::TouchWeights() {
  on_case_(fmt::format("reading {} of weights", io::HumanBytes(kernels::TotalBytes(weights_.All()))));
  read_.Pass(weights_.All());
  read_.Forget();
}

void Bench::FillCaches(int64_t batch, int64_t context) {
  const int64_t width = config_.cache_width();
  if (noise_.empty()) {
    noise_.resize(static_cast<size_t>(kNoiseRows * width));
    for (float& x : noise_) x = static_cast<float>(rng_.NextNormal());
  }
  while (static_cast<int64_t>(stores_.size()) < batch) {
    stores_.push_back(std::make_unique<engine::LatentStore>(
        engine::LatentLayout::Of(config_, m_.transformer.cache_layers(), m_.cache_dtype), PositionsOf(plan_)));
    filled_.push_back(0);
  }
  for (int64_t s = 0; s < batch; ++s) {
    const auto caches = stores_[static_cast<size_t>(s)]->caches();
    int64_t& filled = filled_[static_cast<size_t>(s)];
    for (size_t l = 0; l < caches.size() && filled < context; ++l) {
      for (int64_t at = filled; at < context;) {
        const int64_t first = rng_.NextBelow(kNoiseRows), rows = std::min(kNoiseRows - first, context - at);
        const kernels::CacheWriteArgs write{
            .cache = caches[l], .x = noise_.data() + first * width, .ldx = width, .rows = rows, .position = at};
        kernels::CacheWrite(m_.ctx, std::span(&write, 1));
        at += rows;
      }
    }
    filled = std::max(filled, context);
  }
}

// A pass over what the step read; every pattern's in the first steps of the first case.
void Bench::ReadBeside(std::span<const ByteSpan> spans, int64_t step) {
  const bool tournament = read_.patterns() > 3;
  for (int i = 0; i < (tournament ? read_.patterns() : 1); ++i) read_.Pass(spans);
  if (tournament && step + 1 >= kTournamentPasses) read_.Narrow();
}

std::vector<int32_t> Bench::RandomIds(int64_t n) {
  std::vector<int32_t> ids(static_cast<size_t>(n));
  for (int32_t& id : ids) id = static_cast<int32_t>(rng_.NextBelow(config_.vocab_size));
  return ids;
}

bool Bench::TooLong(double bound_seconds, double steps, std::string* why) const {
  const double expected = bound_seconds / worst_fraction_ * steps, left = plan_.seconds - SecondsSince(start_);
  if (expected <= left) return false;
  *why = fmt::format("would take {:.0f} s, {:.0f} s are left", expected, std::max(0.0, left));
  return true;
}

double Bench::AttentionPeak(const kernels::Peaks& peaks) const {
  const bool bf16 = m_.compute == model::Compute::kBf16 && m_.cache_dtype == DType::kBF16;
  return (bf16 ? peaks.bf16_tflop_s : peaks.f32_tflop_s) * 1e12;
}

double Bench::ProductPeak(const kernels::Peaks& p) const {
  return (InFloat32(m_.params, m_.compute) ? p.f32_tflop_s : p.bf16_tflop_s) * 1e12;
}

// By the experts of the last step, of which it takes the ratio to its bytes alone.
double Bench::Roofline(const DecodeRow& row, double attention_ops) const {
  const double bandwidth = row.peaks.read_gb_s * 1e9, ops = ProductPeak(row.peaks);
  const double by_bytes = weights_.BodySeconds(use_, row.batch, bandwidth, std::numeric_limits<double>::infinity());
  return weights_.BodySeconds(use_, row.batch, bandwidth, ops) / by_bytes * row.body_bytes / bandwidth +
         weights_.HeadSeconds(row.batch, bandwidth, ops) +
         std::max(row.cache_bytes / bandwidth, attention_ops / AttentionPeak(row.peaks));
}

DecodeRow Bench::Decode(int64_t batch, int64_t context) {
  DecodeRow row;
  row.batch = batch;
  row.context = context;
  read_.Forget();
  arithmetic_.Forget();
  arithmetic_.Piece();
  const double attention = static_cast<double>(batch) * engine::AbsorbedAttentionOps(config_, context + 1);
  row.head_bytes = static_cast<double>(kernels::TotalBytes(weights_.Head()));
  row.cache_bytes = static_cast<double>(batch * (context + 1) * RowBytes());
  const auto bound = [&](double bytes, double operations) {
    return bytes / (read_.gb_s() * 1e9) + operations / AttentionPeak(Summary(read_, arithmetic_));
  };
  {
    // All weights of the body are more than enough to foresee the time.
    read_.Pass(weights_.Head());
    const double body = static_cast<double>(kernels::TotalBytes(weights_.All()));
    if (TooLong(bound(body + row.cache_bytes, attention), kMinSteps + 1, &row.skipped)) return row;
    read_.Forget();
  }
  FillCaches(batch, context);
  std::vector<model::SequenceSlice> slices;
  std::vector<ByteSpan> cache_spans;
  for (int64_t s = 0; s < batch; ++s) {
    const auto caches = stores_[static_cast<size_t>(s)]->caches();
    slices.push_back({.row = s, .tokens = 1, .position = context, .caches = caches});
    const auto spans = engine::CacheSpans(caches, context + 1);
    cache_spans.insert(cache_spans.end(), spans.begin(), spans.end());
  }
  Step(arena_, RandomIds(batch), slices, batch);  // first touches: caches, scratch
  std::vector<double> all, body, head;
  double body_bytes = 0, experts = 0;
  const auto case_start = Clock::now();
  while (row.steps < kMinSteps || (row.steps < kMaxSteps && SecondsSince(case_start) < kCaseSeconds)) {
    use_.Clear();
    const std::vector<int32_t> ids = RandomIds(batch);
    const StepSeconds s = Step(arena_, ids, slices, batch);
    all.push_back(s.body + s.head);
    body.push_back(s.body);
    head.push_back(s.head);
    experts += use_.DistinctPerLayer();
    std::vector<ByteSpan> spans = weights_.Body(use_, ids);
    body_bytes += static_cast<double>(kernels::TotalBytes(spans));
    spans.insert(spans.end(), cache_spans.begin(), cache_spans.end());
    spans.push_back(weights_.Head().front());
    ReadBeside(spans, row.steps);
    if (row.steps % kArithmeticEvery == 0) arithmetic_.Piece();
    ++row.steps;
  }
  const double steps = static_cast<double>(row.steps);
  row.seconds = Median(all);
  row.body_seconds = Median(body);
  row.head_seconds = Median(head);
  row.experts_per_layer = experts / steps;
  row.body_bytes = body_bytes / steps;
  row.body_bound_seconds = bound(row.body_bytes + row.cache_bytes, attention);
  row.head_bound_seconds = bound(row.head_bytes, 0);
  row.bound_seconds = row.body_bound_seconds + row.head_bound_seconds;
  row.peaks = Summary(read_, arithmetic_);
  row.roofline_seconds = Roofline(row, attention);
  worst_fraction_ = std::min(worst_fraction_, row.fraction());
  return row;
}

PrefillRow Bench::Prefill(int64_t tokens) {
  PrefillRow row;
  row.tokens = tokens;
  read_.Forget();
  arithmetic_.Forget();
  arithmetic_.Piece();
  row.operations = engine::PrefillOps(config_, tokens);
  const auto peak = [&] { return ProductPeak(Summary(read_, arithmetic_)); };
  if (TooLong(row.operations / peak(), 4, &row.skipped)) return row;
  FillCaches(1, 0);
  const model::SequenceSlice slice{
      .row = 0, .tokens = tokens, .position = 0, .wanted = 1, .caches = stores_.front()->caches()};
  Step(arena_, RandomIds(tokens), std::span(&slice, 1), 1);
  std::vector<double> all;
  double bytes = 0, experts = 0;
  const auto case_start = Clock::now();
  while (row.steps < 3 || (row.steps < 15 && SecondsSince(case_start) < kCaseSeconds)) {
    use_.Clear();
    const std::vector<int32_t> ids = RandomIds(tokens);
    arithmetic_.Piece();
    const StepSeconds s = Step(arena_, ids, std::span(&slice, 1), 1);
    all.push_back(s.body + s.head);
    arithmetic_.Piece();
    experts += use_.DistinctPerLayer();
    std::vector<ByteSpan> spans = weights_.Body(use_, ids);
    spans.push_back(weights_.Head().front());
    bytes += static_cast<double>(kernels::TotalBytes(spans));
    ReadBeside(spans, row.steps);
    ++row.steps;
  }
  filled_.front() = std::max(filled_.front(), tokens);
  row.seconds = Median(all);
  row.experts_per_layer = experts / static_cast<double>(row.steps);
  row.bytes = bytes / static_cast<double>(row.steps);
  row.peak_tera_per_s = peak() * 1e-12;
  row.bound_seconds = std::max(row.operations / (row.peak_tera_per_s * 1e12), row.bytes / (read_.gb_s() * 1e9));
  row.peaks = Summary(read_, arithmetic_);
  worst_fraction_ = std::min(worst_fraction_, row.fraction_of_bound());
  return row;
}

BenchResult Bench::Run() {
  CheckMemory();
  TouchWeights();
  BenchResult result;
  const auto prefill = [&] {
    for (int64_t tokens : plan_.prefills) {
      on_case_(fmt::format("prefill of {} tokens", tokens));
      result.prefill.push_back(Prefill(tokens));
    }
  };
  // Short contexts first: what does not fit into the time is the longest.
  for (size_t i = 0; i < plan_.contexts.size(); ++i) {
    for (int64_t batch : plan_.batches) {
      on_case_(fmt::format("decode, {} sequence{} at {}", batch, batch == 1 ? "" : "s", plan_.contexts[i]));
      result.decode.push_back(Decode(batch, plan_.contexts[i]));
    }
    if (i == 0) prefill();
  }
  if (plan_.contexts.empty()) prefill();
  std::vector<double> bf16, f32, int8;
  const auto add = [&](const auto& rows) {
    for (const auto& row : rows) {
      if (!row.skipped.empty()) continue;
      if (result.peaks.read_gb_s == 0) result.peaks = row.peaks;
      bf16.push_back(row.peaks.bf16_tflop_s);
      f32.push_back(row.peaks.f32_tflop_s);
      int8.push_back(row.peaks.int8_top_s);
    }
  };
  add(result.decode);
  add(result.prefill);
  result.peaks.bf16_tflop_s = Median(bf16);
  result.peaks.f32_tflop_s = Median(f32);
  result.peaks.int8_top_s = Median(int8);
  int64_t cache = 0;
  for (size_t i = 0; i < stores_.size(); ++i)
    cache += std::min(stores_[i]->bytes(), TouchedPages(engine::CacheSpans(stores_[i]->caches(), filled_[i] + 1)));
  const int64_t rope = PositionsOf(plan_) * config_.qk_rope_head_dim * static_cast<int64_t>(sizeof(float));
  result.memory = {.program = m_.program_bytes + rope,
                   .weights = kernels::TotalBytes(weights_.All()),
                   .cache = cache,
                   .arena = arena_.HighWater(),
                   .peak = PeakResidentBytes(),
                   .arena_overflows = arena_.Overflows()};
  result.seconds = SecondsSince(start_);
  return result;
}

}  // namespace

int64_t PositionsOf(const BenchPlan& plan) {
  int64_t positions = 1;
  for (int64_t context : plan.contexts) positions = std::max(positions, context + 1);
  for (int64_t tokens : plan.prefills) positions = std::max(positions, tokens);
  return positions;
}

BenchResult RunBench(const BenchModel& model, const BenchPlan& plan,
                     const std::function<void(const std::string&)>& on_case) {
  return Bench(model, plan, on_case).Run();
}

}  // namespace fathom::cli
