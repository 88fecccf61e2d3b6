#include "plan/plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <limits>

#include "core/error.h"

namespace fathom::plan {
namespace {

namespace fs = std::filesystem;
using train::Recipe;

constexpr double kReserve = 0.05;  // of a device's memory, left to others
constexpr int64_t kMaxCounted = 50'000'000;

model::ModelConfig ConfigOf(const Recipe& recipe) {
  const std::string path =
      recipe.model.from.empty() ? recipe.model.config : (fs::path(recipe.model.from) / "config.json").string();
  return model::ReadConfigFile(path).config;
}

// Steps until the recipe ends. Steps of a batch that changes are counted one by one.
int64_t CountSteps(const Recipe& recipe) {
  const train::StepSchedule schedule(recipe);
  const int64_t none = std::numeric_limits<int64_t>::max();
  const int64_t all_tokens = recipe.train.tokens > 0 ? recipe.train.tokens : none;
  const int64_t all_steps = recipe.train.steps > 0 ? recipe.train.steps : none;
  int64_t changes = 0;  // the token from which the batch stays
  for (const train::Segment& s : recipe.schedule.batch_size.segments) {
    changes = s.until > 0 ? s.until : changes + s.tokens;
  }
  int64_t tokens = 0, steps = 0;
  while (tokens < std::min(changes, all_tokens) && steps < all_steps) {
    if (steps == kMaxCounted) {
      throw Error{"the batch size changes over too many steps to count", fmt::format("more than {}", kMaxCounted),
                  "a shorter schedule.batch_size, or larger batches"};
    }
    tokens += schedule.At(tokens).tokens;
    ++steps;
  }
  if (tokens >= all_tokens || steps >= all_steps) return steps;
  const int64_t a_step = schedule.At(tokens).tokens, left = all_tokens == none ? none : all_tokens - tokens;
  const int64_t by_tokens = left == none ? none : steps + (left - 1) / a_step + 1;
  return std::min(by_tokens, all_steps);
}

int64_t CountTokens(const Recipe& recipe, int64_t steps) {
  const train::StepSchedule schedule(recipe);
  int64_t changes = 0, tokens = 0, step = 0;
  for (const train::Segment& s : recipe.schedule.batch_size.segments) {
    changes = s.until > 0 ? s.until : changes + s.tokens;
  }
  for (; step < steps && tokens < changes; ++step) tokens += schedule.At(tokens).tokens;
  const int64_t a_step = schedule.At(tokens).tokens;
  constexpr double kMostTokens = 4e18;
  if (D(tokens) + D(steps - step) * D(a_step) > kMostTokens) {
    throw Error{"the run has more tokens than can be counted", fmt::format("{} steps of {} tokens", steps, a_step),
                fmt::format("at most {:g} tokens in all", kMostTokens)};
  }
  tokens += (steps - step) * a_step;
  return recipe.train.tokens > 0 ? std::min(tokens, recipe.train.tokens) : tokens;
}

void CheckBatch(const Recipe& recipe) {
  const train::ParallelRecipe& p = recipe.parallel;
  const int64_t unit = p.data * recipe.train.micro_batch;
  for (double size : recipe.schedule.batch_size.Corners()) {
    if (std::fmod(size, D(unit)) == 0) continue;
    throw Error{"parallel.data and train.micro_batch do not divide schedule.batch_size",
                fmt::format("{} sequences over {} x {}", size, p.data, recipe.train.micro_batch),
                fmt::format("multiples of {}", unit),
                "fewer parallel.data; parallel.context spreads a sequence over devices"};
  }
  if (recipe.data.sequence_length % p.context != 0) {
    throw Error{"parallel.context does not divide data.sequence_length",
                fmt::format("{} tokens over {} devices", recipe.data.sequence_length, p.context),
                fmt::format("a divisor of {}", recipe.data.sequence_length)};
  }
}

Work WorkOfStage(const model::ModelConfig& c, const Chunk& chunk, int64_t length, model::Recompute recompute) {
  Work w = chunk.head ? WorkOfHeads(c) : Work{};
  for (int64_t layer = chunk.first; layer < chunk.last; ++layer) w.Add(WorkOfLayer(c, layer, length, recompute));
  return w;
}

MemoryArgs MemoryArgsOf(const Recipe& recipe) {
  return {.precision = recipe.train.precision,
          .recompute = recipe.train.recompute,
          .moment_bytes = train::MomentsOf(recipe.train) == train::MomentType::kBf16 ? 2 : 4,
          .ema = recipe.optimizer.ema_decay > 0,
          .micro_batch = recipe.train.micro_batch,
          .length = recipe.data.sequence_length};
}

int64_t Even(int64_t n) { return n + n % 2; }

// Devices' memory by pipeline rank.
std::vector<DeviceMemory> StageMemory(const model::ModelConfig& config, const Recipe& recipe, const Layout& layout) {
  const MemoryArgs args = MemoryArgsOf(recipe);
  const int64_t ranks = layout.parallel.pipeline;
  std::vector<std::array<double, 2>> weights(static_cast<size_t>(ranks));
  for (int64_t rank = 0; rank < ranks; ++rank) {
    const std::vector<int64_t> stages = layout.StagesOf(rank);
    for (size_t direction = 0; direction < stages.size(); ++direction) {
      const Kept kept = KeptByStage(config, layout, args, stages[direction]);
      weights[static_cast<size_t>(rank)][direction] = kept.activations + kept.cache;
    }
  }
  // The most in flight is reached while the pipeline fills: more micro-batches do not change it.
  double largest = 1;
  for (double size : recipe.schedule.batch_size.Corners()) largest = std::max(largest, size);
  const auto n = static_cast<int64_t>(largest) / (layout.parallel.data * recipe.train.micro_batch);
  const int64_t shown =
      std::max(LeastMicroBatches(layout.parallel.schedule, ranks), Even(std::clamp<int64_t>(n, 1, 2 * ranks + 2)));
  return MemoryOf(config, layout, args, Simulate(layout.parallel.schedule, ranks, shown, {}, weights).alive);
}

struct Need {
  double device = 0, node = 0;  // bytes of the fullest
};
Need NeedOf(const std::vector<DeviceMemory>& ranks, const Machine& machine) {
  Need need;
  const bool in_host = machine.host_memory_gib == 0;
  for (const DeviceMemory& m : ranks) {
    need.device = std::max(need.device, m.Total() + (in_host ? m.ema : 0));
    if (!in_host) need.node = std::max(need.node, m.ema * D(machine.devices_per_node));
  }
  return need;
}
bool Fits(const Need& need, const Machine& machine) {
  return need.device <= machine.memory_bytes() * (1 - kReserve) &&
         (machine.host_memory_gib == 0 || need.node <= machine.host_memory_gib * 0x1p30 * (1 - kReserve));
}

std::vector<int64_t> Divisors(int64_t n) {
  std::vector<int64_t> out;
  for (int64_t i = 1; i * i <= n; ++i) {
    if (n % i != 0) continue;
    out.push_back(i);
    if (i * i != n) out.push_back(n / i);
  }
  std::sort(out.begin(), out.end());
  return out;
}

// The layout of all the machine's devices that needs the least memory.
train::ParallelRecipe LeastMemory(const model::ModelConfig& config, const Recipe& recipe, const Machine& machine) {
  train::ParallelRecipe best;
  double least = std::numeric_limits<double>::infinity();
  for (int64_t pipeline : Divisors(machine.devices)) {
    if (pipeline > config.num_hidden_layers) break;
    const int64_t group = machine.devices / pipeline;
    for (int64_t context : Divisors(group)) {
      Recipe tried = recipe;
      train::ParallelRecipe& p = tried.parallel;
      p.pipeline = pipeline;
      p.context = context;
      p.data = group / context;
      p.expert = 1;
      for (int64_t e : Divisors(group)) {
        if (config.n_routed_experts > 0 && config.n_routed_experts % e == 0) p.expert = e;
      }
      if (pipeline % 2 != 0) p.schedule = train::PipelineSchedule::k1F1B;
      try {
        CheckBatch(tried);
        const Layout layout = MakeLayout(config, p, recipe.data.sequence_length);
        const double bytes = NeedOf(StageMemory(config, tried, layout), machine).device;
        if (bytes < least) {
          least = bytes;
          best = p;
        }
      } catch (const Error&) {
        continue;  // does not divide
      }
    }
  }
  return best;
}

// Whether the recipe's own layout can be that of a machine.
bool HasRoom(const train::ParallelRecipe& p, const Machine& machine) {
  return p.devices() <= machine.devices && machine.devices % p.devices() == 0;
}

double Seconds(double tokens, const Work& work, int64_t devices, double rate) {
  return tokens * work.Train() / (D(devices) * rate);
}

// A token of a layer with experts goes once to each other node that has experts for it, and comes back: dispatched in
// FP8 (FP8 runs) or BF16, combined in BF16. Within one node it goes to each device. Balanced routing.
double ExchangeSeconds(const StagePlan& s, const Chunk& chunk, const Machine& machine) {
  const train::ParallelRecipe& p = s.layout.parallel;
  const model::ModelConfig& c = s.config;
  if (p.expert <= 1) return 0;
  const int64_t nodes = (p.expert + machine.devices_per_node - 1) / machine.devices_per_node;
  const bool far = nodes > 1;
  const double places = far ? D(nodes) : D(p.expert);
  const double most = far && c.n_group > 1 ? std::min(D(c.topk_group), places) : places;
  const double copies = std::min(D(c.num_experts_per_tok), most) * (1 - 1 / places);
  const double rate = (far ? machine.network_gb_s : machine.node_gb_s) * 1e9;
  double layers = 0;
  for (int64_t layer = chunk.first; layer < chunk.last; ++layer) layers += c.IsMoe(layer) ? 1 : 0;
  const double bytes = D(c.hidden_size) * ((s.recipe.train.precision == train::Precision::kFp8 ? 1 : 2) + 2);
  const double tokens = D(s.recipe.train.micro_batch * s.sequence_length) / D(p.context);
  return rate > 0 ? tokens * layers * copies * bytes / rate : std::numeric_limits<double>::infinity();
}

PipelinePlan PlanPipeline(const StagePlan& s, const Machine& machine) {
  const train::ParallelRecipe& p = s.layout.parallel;
  PipelinePlan out;
  const int64_t unit = p.data * s.recipe.train.micro_batch;
  out.least = std::numeric_limits<int64_t>::max();
  for (double size : s.recipe.schedule.batch_size.Corners()) {
    const int64_t n = std::llround(size) / unit;
    out.least = std::min(out.least, n);
    out.most = std::max(out.most, n);
  }
  out.needed = LeastMicroBatches(p.schedule, p.pipeline);
  Work slowest;
  double slow = 0, sum = 0;
  for (const Chunk& chunk : s.layout.chunks) {
    const Work w = WorkOfStage(s.config, chunk, s.sequence_length, s.recipe.train.recompute);
    const double all = w.Train() + w.Recomputed();
    sum += all;
    out.exchange_seconds = std::max(out.exchange_seconds, ExchangeSeconds(s, chunk, machine));
    if (all > slow) {
      slow = all;
      slowest = w;
    }
  }
  out.balance = sum / D(p.pipeline) / slow;
  const double w = slowest.BackwardWeight(), f = slowest.Forward();
  const double b = slowest.BackwardInput() + w + slowest.Recomputed();
  const PassTimes operations{f, b, w, f + b};
  const double bubble = Bubble(p.schedule, p.pipeline, operations), work = D(out.most) * (f + b);
  const double seconds = s.step_seconds / (work + bubble);  // an operation's
  out.seconds = {f * seconds, b * seconds, w * seconds, (f + b) * seconds};
  out.bubble_seconds = bubble * seconds;
  out.bubble_share = bubble / (work + bubble);
  return out;
}

StagePlan PlanStage(const train::StageRecipe& stage, const model::ModelConfig& config, const Machine& machine,
                    std::vector<std::string>& notes) {
  StagePlan s;
  s.name = stage.name;
  s.recipe = stage.recipe;
  s.wanted = stage.recipe.parallel;
  s.config = config;
  const Recipe& r = s.recipe;
  s.layout.parallel = r.parallel;
  if (r.plan.device_hours > 0) {
    s.stated = true;
    s.device_hours = r.plan.device_hours;
    s.hours = s.device_hours / D(machine.devices);
    s.cost_usd = s.device_hours * machine.usd_per_device_hour;
    return s;
  }
  CheckLayout(config, r.parallel);
  CheckBatch(r);
  if (!HasRoom(r.parallel, machine)) {
    if (r.parallel.devices() <= machine.devices) {
      throw Error{fmt::format("the layout does not divide the devices of {}", machine.path),
                  fmt::format("{} x {} x {} = {} devices of {}", r.parallel.pipeline, r.parallel.data,
                              r.parallel.context, r.parallel.devices(), machine.devices),
                  "pipeline x data x context that divides the machine's devices"};
    }
    const int64_t wanted = r.parallel.devices();
    s.recipe.parallel = LeastMemory(config, r, machine);
    notes.push_back(
        fmt::format("{}: the recipe's layout is one of {} devices; reckoned in the layout of {} that needs "
                    "the least memory",
                    s.name, wanted, machine.devices));
  }
  s.layout = MakeLayout(config, r.parallel, r.data.sequence_length);
  const train::StepSchedule schedule(r);
  s.steps = CountSteps(r);
  s.tokens = CountTokens(r, s.steps);
  s.sequence_length = r.data.sequence_length;
  s.first_batch = schedule.At(0).batch_size;
  s.last_batch = schedule.At(std::max<int64_t>(0, s.tokens - 1)).batch_size;
  s.max_batch = schedule.max_batch_size();
  s.work = WorkOfModel(config, s.sequence_length, r.train.recompute);
  s.mfu_of_machine = !r.plan.mfu;
  s.mfu = r.plan.mfu.value_or(machine.mfu);
  const int64_t devices = r.parallel.devices();
  const double rate = s.mfu * machine.Peak(s.mfu_of_machine ? train::PeakKind::kBf16 : r.plan.mfu_peak);
  s.hours = Seconds(D(s.tokens), s.work, devices, rate) / 3600;
  s.device_hours = s.hours * D(devices);
  s.cost_usd = s.device_hours * machine.usd_per_device_hour;
  s.step_seconds = Seconds(D(s.tokens_per_step()), s.work, devices, rate);
  s.tokens_per_device_second = D(s.tokens_per_step()) / s.step_seconds / D(devices);
  s.pipeline = PlanPipeline(s, machine);
  s.memory = StageMemory(config, r, s.layout);
  const Need need = NeedOf(s.memory, machine);
  s.memory_bytes = need.device;
  s.host_bytes = need.node;
  s.fits = Fits(need, machine);
  if (s.pipeline.least < s.pipeline.needed) {
    notes.push_back(fmt::format("{}: {} micro-batches on a device at its smallest batch; {} runs full from {} on",
                                s.name, s.pipeline.least, Name(r.parallel.schedule), s.pipeline.needed));
  }
  return s;
}

MachineFit FitOf(const Plan& plan, const Machine& machine) {
  MachineFit fit;
  fit.machine = machine;
  fit.fits = true;
  for (const StagePlan& stage : plan.stages) {
    if (stage.stated) continue;
    Recipe r = stage.recipe;
    Layout layout;
    Need need;
    const auto reckon = [&](const train::ParallelRecipe& parallel) {
      r.parallel = parallel;
      layout = MakeLayout(stage.config, parallel, r.data.sequence_length);
      need = NeedOf(StageMemory(stage.config, r, layout), machine);
    };
    const bool room = HasRoom(stage.wanted, machine);
    reckon(room ? stage.wanted : LeastMemory(stage.config, r, machine));
    if (room && !Fits(need, machine) && machine.devices > 1) reckon(LeastMemory(stage.config, r, machine));
    if (fit.layout.empty()) fit.layout = layout.Describe();
    fit.memory_bytes = std::max(fit.memory_bytes, need.device);
    fit.fits = fit.fits && Fits(need, machine);
    const int64_t devices = r.parallel.devices();
    const double hours =
        Seconds(D(stage.tokens), stage.work, devices, machine.mfu * machine.peak_bf16_tflops * 1e12) / 3600;
    fit.hours += hours;
    fit.cost_usd += hours * D(devices) * machine.usd_per_device_hour;
  }
  return fit;
}

bool SameFile(const std::string& a, const std::string& b) {
  std::error_code ignored;
  return a == b || fs::equivalent(a, b, ignored);
}

}  // namespace

StageSchedules::StageSchedules(const Recipe& recipe) : steps_(recipe) {
  const auto tokens_of_step = [&](int64_t tokens) { return steps_.At(tokens).tokens; };
  const train::ScheduleRecipe& s = recipe.schedule;
  lr_ = train::ResolveSteps(s.lr, "schedule.lr", tokens_of_step);
  mtp_loss_weight_ = train::ResolveSteps(s.mtp_loss_weight, "schedule.mtp_loss_weight", tokens_of_step);
  bias_update_speed_ = train::ResolveSteps(s.bias_update_speed, "schedule.bias_update_speed", tokens_of_step);
}

ValuesAt StageSchedules::At(int64_t tokens) const {
  return {.stage = {},
          .tokens = tokens,
          .lr = lr_.At(tokens),
          .mtp_loss_weight = mtp_loss_weight_.At(tokens),
          .bias_update_speed = bias_update_speed_.At(tokens),
          .batch_size = steps_.At(tokens).batch_size};
}

ValuesAt At(const Plan& plan, int64_t tokens) {
  int64_t begin = 0;
  const StagePlan* stage = nullptr;
  for (const StagePlan& s : plan.stages) {
    if (s.stated) continue;
    if (stage != nullptr) {
      if (tokens <= begin + stage->tokens) break;
      begin += stage->tokens;
    }
    stage = &s;
  }
  if (stage == nullptr) throw Error{"no stage has schedules", "", "a stage without plan.device_hours"};
  ValuesAt values = StageSchedules(stage->recipe).At(tokens - begin);
  values.stage = stage->name;
  values.tokens = tokens;
  return values;
}

Plan MakePlan(const Recipe& given, const std::string& path, const Machine& machine,
              const std::vector<Machine>& others) {
  // Neither text nor tokenizer is opened: a recipe that leaves them to its user can be planned.
  Recipe recipe = given;
  if (recipe.model.tokenizer.empty()) recipe.model.tokenizer = "none";
  if (recipe.data.sources.empty()) recipe.data.sources.push_back({.path = "none"});
  train::Validate(recipe);
  Plan plan;
  plan.recipe = path;
  plan.machine = machine;
  plan.config = ConfigOf(recipe);
  const std::vector<train::StageRecipe> stages = train::Stages(recipe);
  const std::vector<model::ModelConfig> configs = train::StageConfigs(stages, plan.config, !recipe.model.from.empty());
  plan.config = configs.front();
  plan.parameters = model::CountParams(plan.config);
  for (size_t i = 0; i < stages.size(); ++i) {
    plan.stages.push_back(PlanStage(stages[i], configs[i], machine, plan.notes));
    StagePlan& s = plan.stages.back();
    const StagePlan& first = plan.stages.front();
    s.hours_at_first_mfu = s.stated || first.stated ? s.device_hours : s.device_hours * s.mfu / first.mfu;
    plan.device_hours += s.device_hours;
    plan.hours += s.hours;
    plan.cost_usd += s.cost_usd;
    plan.fits = plan.fits && s.fits;
  }
  const auto list = [&](const Machine& m, bool named) {
    MachineFit fit = FitOf(plan, m);
    fit.named = named;
    if (named) {
      fit.hours = fit.cost_usd = 0;
      for (const StagePlan& stage : plan.stages) {
        if (stage.stated) continue;
        fit.hours += stage.hours;
        fit.cost_usd += stage.cost_usd;
      }
    }
    plan.machines.push_back(std::move(fit));
  };
  bool listed = false;
  for (const Machine& m : others) {
    const bool named = SameFile(m.path, machine.path);
    listed = listed || named;
    list(m, named);
  }
  if (!listed) list(machine, true);
  return plan;
}

}  // namespace fathom::plan
