#include <nlohmann/json.hpp>

#include "plan/plan_page.h"

namespace fathom::plan {
namespace {

using nlohmann::json;

json OrNull(bool there, double value) { return there ? json(value) : json(nullptr); }

json MemoryJson(const DeviceMemory& m) {
  return {{"weights", m.Weights()},
          {"weights_fp8", m.weights_fp8},
          {"weights_bf16", m.weights_bf16},
          {"weights_fp32", m.weights_f32},
          {"gradients", m.gradients},
          {"masters", m.masters},
          {"moments", m.moments},
          {"activations", m.activations},
          {"cache", m.cache},
          {"workspace", m.workspace},
          {"ema", m.ema},
          {"total", m.Total()}};
}

json FlopsJson(const Work& w) {
  return {{"forward", w.Forward()},
          {"forward_products", w.linear},
          {"forward_attention", w.attention},
          {"backward", w.BackwardInput() + w.BackwardWeight()},
          {"backward_activations", w.BackwardInput()},
          {"backward_weights", w.BackwardWeight()},
          {"model", w.Train()},
          {"recomputed", w.Recomputed()}};
}

json LayoutJson(const train::ParallelRecipe& p) {
  return {{"pipeline", p.pipeline}, {"expert", p.expert},           {"data", p.data},        {"context", p.context},
          {"zero", p.zero},         {"schedule", Name(p.schedule)}, {"devices", p.devices()}};
}

// Keys that the first stage has at the top of the page too.
json Figures(const StagePlan& s) {
  const bool known = s.tokens > 0;
  return {{"tokens", s.tokens},
          {"steps", s.steps},
          {"device_hours", s.device_hours},
          {"device_hours_per_trillion_tokens", OrNull(known, s.DeviceHoursPerTrillion())},
          {"days_per_trillion_tokens", OrNull(known, s.DaysPerTrillion())}};
}

json StageJson(const StagePlan& s) {
  json out = Figures(s);
  out["name"] = s.name;
  out["stated"] = s.stated;
  out["hours"] = s.hours;
  out["cost_usd"] = s.cost_usd;
  if (s.stated) return out;
  out["sequence_length"] = s.sequence_length;
  out["batch_sequences"] = {{"first", s.first_batch}, {"last", s.last_batch}, {"max", s.max_batch}};
  out["tokens_per_step"] = s.tokens_per_step();
  out["step_seconds"] = s.step_seconds;
  out["tokens_per_device_second"] = s.tokens_per_device_second;
  out["mfu"] = s.mfu;
  out["mfu_peak"] = Name(s.mfu_of_machine ? train::PeakKind::kBf16 : s.recipe.plan.mfu_peak);
  out["mfu_of_machine"] = s.mfu_of_machine;
  out["device_hours_at_first_mfu"] = s.hours_at_first_mfu;
  out["flops_per_token"] = FlopsJson(s.work);
  out["layout"] = LayoutJson(s.layout.parallel);
  for (const Chunk& c : s.layout.chunks) out["layout"]["layers"].push_back({c.first, c.last});
  const PipelinePlan& p = s.pipeline;
  out["pipeline"] = {{"micro_batches", {{"least", p.least}, {"most", p.most}, {"needed", p.needed}}},
                     {"forward_seconds", p.seconds.f},
                     {"backward_seconds", p.seconds.b},
                     {"weight_seconds", p.seconds.w},
                     {"exchange_seconds", p.exchange_seconds},
                     {"bubble_seconds", p.bubble_seconds},
                     {"bubble_share", p.bubble_share},
                     {"bubble", BubbleFormula(s.layout.parallel.schedule)},
                     {"balance", p.balance}};
  out["memory_bytes"] = MemoryJson(s.memory[Fullest(s)]);
  for (const DeviceMemory& m : s.memory) out["memory_bytes_by_rank"].push_back(MemoryJson(m));
  out["host_memory_bytes"] = s.host_bytes;
  out["fits"] = s.fits;
  const StageSchedules schedules(s.recipe);
  for (int64_t tokens : Corners(s)) out["schedule"].push_back(Json(schedules.At(tokens)));
  for (json& at : out["schedule"]) at.erase("stage");
  return out;
}

}  // namespace

json Json(const ValuesAt& v) {
  return {{"stage", v.stage},
          {"tokens", v.tokens},
          {"lr", v.lr},
          {"batch_sequences", v.batch_size},
          {"mtp_lambda", v.mtp_loss_weight},
          {"bias_gamma", v.bias_update_speed}};
}

json Json(const Plan& plan) {
  json out = Figures(plan.stages.front());
  const Machine& m = plan.machine;
  out["recipe"] = plan.recipe;
  out["machine"] = {{"name", m.name},
                    {"file", m.path},
                    {"devices", m.devices},
                    {"memory_bytes", m.memory_bytes()},
                    {"usd_per_device_hour", m.usd_per_device_hour}};
  out["parameters"] = {{"main", plan.parameters.main},
                       {"activated", plan.parameters.activated},
                       {"with_mtp_copies", plan.parameters.with_mtp_copies}};
  out["total"] = {{"device_hours", plan.device_hours}, {"hours", plan.hours}, {"cost_usd", plan.cost_usd}};
  int64_t tokens = 0, steps = 0;
  for (const StagePlan& s : plan.stages) {
    out["stages"].push_back(StageJson(s));
    tokens += s.tokens;
    steps += s.steps;
  }
  out["total"]["tokens"] = tokens;
  out["total"]["steps"] = steps;
  out["fits"] = plan.fits;
  for (const MachineFit& f : plan.machines) {
    out["machines"].push_back({{"name", f.machine.name},
                               {"file", f.machine.path},
                               {"devices", f.machine.devices},
                               {"named", f.named},
                               {"layout", f.layout},
                               {"needs_bytes", f.memory_bytes},
                               {"has_bytes", f.machine.memory_bytes()},
                               {"fits", f.fits},
                               {"hours", f.hours},
                               {"cost_usd", f.cost_usd}});
  }
  out["notes"] = plan.notes;
  return out;
}

}  // namespace fathom::plan
