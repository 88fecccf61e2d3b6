// The values of a recipe as TOML, in and out. Included by the recipe's own files only.
#pragma once

#include <string>

#include "train/recipe.h"

namespace fathom::train {

std::string ToTomlValue(const std::string& value);
std::string ToTomlValue(bool value);
std::string ToTomlValue(int64_t value);
std::string ToTomlValue(uint64_t value);
std::string ToTomlValue(double value);
std::string ToTomlValue(const std::optional<double>& value);  // empty: not set
std::string ToTomlValue(Precision value);
std::string ToTomlValue(model::Recompute value);
std::string ToTomlValue(MomentType value);
std::string ToTomlValue(GradientTiles value);
std::string ToTomlValue(ExportType value);
std::string ToTomlValue(NonfinitePolicy value);
std::string ToTomlValue(PipelineSchedule value);
std::string ToTomlValue(PeakKind value);
std::string ToTomlValue(const std::vector<int64_t>& value);
std::string ToTomlValue(const std::optional<model::RopeScaling>& value);  // empty: not set
std::string ToTomlValue(const Schedule& value);
std::string ToTomlValue(const std::vector<data::SourceOptions>& value);

}  // namespace fathom::train
