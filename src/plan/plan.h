// A recipe reckoned: what it trains, in which steps, what that takes of a machine, and what it costs (docs/plan.md has
// the formulas). Nothing is run and no data is opened; only the model's configuration is read.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "plan/flops.h"
#include "plan/layout.h"
#include "plan/machine.h"
#include "plan/memory.h"
#include "plan/pipeline.h"
#include "train/recipe.h"
#include "train/stages.h"

namespace fathom::plan {

struct PipelinePlan {
  PassTimes seconds;            // of the slowest stage and a micro-batch
  double bubble_seconds = 0;    // a step, at the largest batch
  double bubble_share = 0;      // of the step
  int64_t least = 0, most = 0;  // micro-batches of a step on each device, over the schedule's corners
  int64_t needed = 0;           // that the schedule needs
  double balance = 1;           // mean stage over slowest stage
  // What a stage's forward pass of a micro-batch sends to experts and back, where most: V3 report 3.2.2. Beside F, it
  // says whether messages can hide behind the arithmetic.
  double exchange_seconds = 0;
};

struct StagePlan {
  std::string name;
  bool stated = false;  // its hours are the recipe's statement: nothing else is known of it
  model::ModelConfig config;
  train::Recipe recipe;
  train::ParallelRecipe wanted;  // the recipe's layout: `recipe` has the one that is reckoned
  int64_t tokens = 0, steps = 0;
  int64_t sequence_length = 0, first_batch = 0, last_batch = 0, max_batch = 0;  // sequences
  Work work;                                                                    // a token, forward
  Layout layout;
  double mfu = 0;
  bool mfu_of_machine = false;  // the recipe states none
  PipelinePlan pipeline;
  std::vector<DeviceMemory> memory;  // by pipeline rank
  double memory_bytes = 0;           // of the fullest device
  double host_bytes = 0;             // of a node
  bool fits = true;
  double step_seconds = 0;  // at the largest batch
  double tokens_per_device_second = 0;
  double hours = 0, device_hours = 0, cost_usd = 0;
  double hours_at_first_mfu = 0;  // device-hours, had it the first stage's MFU

  int64_t tokens_per_step() const { return max_batch * sequence_length; }
  double DeviceHoursPerTrillion() const { return tokens > 0 ? device_hours / static_cast<double>(tokens) * 1e12 : 0; }
  double DaysPerTrillion() const { return tokens > 0 ? hours / 24 / static_cast<double>(tokens) * 1e12 : 0; }
};

// Whether a machine can run all stages, each in the layout of the recipe or, where that needs more devices than there
// are, in the one that needs the least memory.
struct MachineFit {
  Machine machine;
  bool named = false;  // the plan's own
  std::string layout;  // of the first stage
  double memory_bytes = 0;
  bool fits = false;
  double hours = 0, cost_usd = 0;
};

struct Plan {
  std::string recipe;
  Machine machine;
  model::ModelConfig config;
  model::ParamCount parameters;
  std::vector<StagePlan> stages;
  double device_hours = 0, cost_usd = 0, hours = 0;
  bool fits = true;
  std::vector<std::string> notes;
  std::vector<MachineFit> machines;  // the plan's own and those given
};

// Throws Error for a recipe that has no meaning, a layout that does not divide model, batch or machine, an MFU above 1.
Plan MakePlan(const train::Recipe& recipe, const std::string& path, const Machine& machine,
              const std::vector<Machine>& others);

// What the schedules say at a token, tokens counted through all stages; a border belongs to the stage that ends there.
struct ValuesAt {
  std::string stage;
  int64_t tokens = 0;
  double lr = 0, mtp_loss_weight = 0, bias_update_speed = 0;
  int64_t batch_size = 0;
};
ValuesAt At(const Plan& plan, int64_t tokens);

// The schedules of a stage with lengths in steps resolved, at its own tokens.
class StageSchedules {
 public:
  explicit StageSchedules(const train::Recipe& recipe);
  ValuesAt At(int64_t tokens) const;

 private:
  train::StepSchedule steps_;
  train::Schedule lr_, mtp_loss_weight_, bias_update_speed_;
};

}  // namespace fathom::plan
