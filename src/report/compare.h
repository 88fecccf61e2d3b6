// Training runs side by side: their smoothed losses, and how far the later ones lie from the first.
#pragma once

#include <string>
#include <vector>

#include "report/svg.h"

namespace fathom::report {

struct RunCurve {
  std::string name;
  std::vector<double> x;     // tokens seen
  std::vector<double> loss;  // of single steps; NaN where one was skipped
  double validation = 0;     // the last validation loss; NaN: there is none
  double tokens_per_s = 0;   // the median
};

// From a run's metrics.jsonl. Throws Error where the file cannot be read or holds no loss.
RunCurve ReadRunCurve(const std::string& metrics_path, const std::string& name);

// s_0 = v_0, s_i = decay s_(i-1) + (1 - decay) v_i; steps that are not finite are passed over.
std::vector<double> Ema(const std::vector<double>& values, double decay);
// The mean of the finite values among the last `share` of them.
double TailMean(const std::vector<double>& values, double share);

constexpr double kCompareDecay = 0.9;  // V3 report appendix B.1
constexpr double kCompareShare = 0.1;

LineChart LossCurves(const std::vector<RunCurve>& runs);
// 100 (s / s_first - 1) of the smoothed losses, step by step.
LineChart LossDifferences(const std::vector<RunCurve>& runs);

}  // namespace fathom::report
