// The machines that a plan is reckoned for: TOML files (docs/plan.md has every key), all of whose keys must be given.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "train/parallel_recipe.h"

namespace fathom::plan {

struct Machine {
  std::string path;
  std::string name, source;  // source: where the figures are from
  int64_t devices = 0, devices_per_node = 0;
  double memory_gib = 0;       // of a device
  double host_memory_gib = 0;  // of a node, beside its devices' memory; 0: devices compute in it
  double peak_bf16_tflops = 0, peak_fp8_tflops = 0, peak_fp32_tflops = 0;  // dense, of a device
  double node_gb_s = 0, network_gb_s = 0;  // of a device: to the others of its node, to other nodes; 0: none
  double usd_per_device_hour = 0;
  double mfu = 0;  // that training reaches where a recipe states none, of the BF16 peak

  double memory_bytes() const { return memory_gib * 0x1p30; }
  // Operations a second of a device.
  double Peak(train::PeakKind kind) const;
};

// Throws Error naming the file and the key: one that is missing or not known, of another type, or out of its range.
Machine ReadMachine(const std::string& path);
Machine ParseMachine(std::string_view toml, const std::string& path);

// All that lie in the folder of `path`, by name; files that are no machines are left out.
std::vector<Machine> MachinesBeside(const std::string& path);

const char* Name(train::PeakKind kind);

}  // namespace fathom::plan
