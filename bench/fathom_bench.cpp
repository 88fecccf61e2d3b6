// fathom-bench: the ops one by one, each beside a peak measured in the same run.
//
// A run of the op and a pass of the read meter over another copy of the same bytes take turns, with a piece of
// arithmetic now and then. The bound of an op is the longer of operations / arithmetic peak and bytes / bandwidth.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <utility>

#include "core/machine.h"
#include "op_cases.h"

namespace fathom::bench {
namespace {

using Clock = std::chrono::steady_clock;
double SecondsSince(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

struct Figures {
  double seconds = 0, bound_seconds = 0;
  double read_gb_s = 0, peak_tera_per_s = 0;
  int64_t runs = 0;
  bool by_bytes = false;  // which of the two is the bound
};

Figures Measure(Context& ctx, const OpCase& op, double budget) {
  kernels::ReadMeter read(ctx);
  kernels::ArithmeticMeter arithmetic(ctx);
  std::vector<double> seconds;
  int64_t copy = 0;
  const auto next = [&] { return copy = (copy + 1) % op.copies; };
  op.run(next());
  arithmetic.Piece(0.5);
  const int tournament = 3 * read.patterns();
  for (int i = 0; i < tournament; ++i) read.Pass(op.spans(next()));
  read.Narrow();
  const auto start = Clock::now();
  while (seconds.size() < 7 || (seconds.size() < 2000 && SecondsSince(start) < budget)) {
    const int64_t c = next();
    const auto begin = Clock::now();
    op.run(c);
    seconds.push_back(SecondsSince(begin));
    read.Pass(op.spans(next()));
    if (seconds.size() % 16 == 1) arithmetic.Piece(0.5);
  }
  Figures f;
  f.seconds = kernels::Median(seconds);
  f.runs = static_cast<int64_t>(seconds.size());
  f.read_gb_s = read.gb_s();
  f.peak_tera_per_s = (op.unit == Unit::kBf16   ? arithmetic.bf16()
                       : op.unit == Unit::kInt8 ? arithmetic.int8()
                                                : arithmetic.f32())
                          .tera_per_s;
  const double by_bytes = op.bytes / (f.read_gb_s * 1e9), by_operations = op.operations / (f.peak_tera_per_s * 1e12);
  f.by_bytes = by_bytes >= by_operations;
  f.bound_seconds = std::max(by_bytes, by_operations);
  return f;
}

std::string Time(double seconds) {
  if (seconds < 1e-3) return fmt::format("{:.1f} us", seconds * 1e6);
  return fmt::format("{:.2f} ms", seconds * 1e3);
}

// Seconds of two problems whose runs take turns, so that what else the machine does slows both: the fastest tenth ends
// there, which other programs disturb least.
std::pair<double, double> MeasureBoth(const OpCase& a, const OpCase& b, double budget) {
  std::vector<double> seconds[2];
  const OpCase* ops[] = {&a, &b};
  const auto start = Clock::now();
  for (int64_t i = 0; i < 20 || SecondsSince(start) < budget; ++i) {
    const OpCase& op = *ops[i % 2];
    const auto begin = Clock::now();
    op.run(i / 2 % op.copies);
    if (i >= 2) seconds[i % 2].push_back(SecondsSince(begin));
  }
  const auto tenth = [](std::vector<double>& v) {
    const auto at = v.begin() + static_cast<std::ptrdiff_t>(v.size() / 10);
    std::nth_element(v.begin(), at, v.end());
    return *at;
  };
  return {tenth(seconds[0]), tenth(seconds[1])};
}

struct Options {
  std::vector<std::string> words;
  std::string isa;
  int threads = 0;
  double seconds = 0.3;
  bool json = false, list = false;
  std::string against;
};

void PrintHead(const Context& ctx) {
  fmt::print("{}, {} threads, {}; commit {}\n\n", CpuName(), ctx.pool.size(), Name(ctx.isa), BuildCommit());
  fmt::print("{:<46} {:>10} {:>10} {:>8} {:>9} {:>6} {:>10} {:>8}\n", "problem", "median", "GFLOP/s", "GB/s",
             "of bound", "by", "read GB/s", "TFLOP/s");
}

using Cases = std::vector<std::pair<std::string, std::string>>;

// Each problem beside itself in another arithmetic: bf16:bf16 in place of fp8:f8e4m3.
int RunAgainst(Context& ctx, const Options& o, const Cases& cases) {
  fmt::print("{}, {} threads, {}; commit {}\n\n", CpuName(), ctx.pool.size(), Name(ctx.isa), BuildCommit());
  fmt::print("{:<58} {:>10} {:>10} {:>7}\n", "problem", "time", o.against, "ratio");
  for (const auto& [op, problem] : cases) {
    const size_t colon = problem.find(':'), second = problem.find(':', colon + 1);
    if (colon == std::string::npos || second == std::string::npos) continue;
    const size_t rest = problem.find(':', second + 1);
    const std::string other =
        problem.substr(0, colon + 1) + o.against + (rest == std::string::npos ? "" : problem.substr(rest));
    const auto [mine, theirs] = MeasureBoth(MakeCase(ctx, op, problem), MakeCase(ctx, op, other), o.seconds);
    fmt::print("{:<58} {:>10} {:>10} {:>7.2f}\n", op + " " + problem, Time(mine), Time(theirs), mine / theirs);
    std::fflush(stdout);
  }
  return 0;
}

int Run(const Options& o) {
  if (o.list) {
    for (const auto& [op, problem] : DefaultSuite()) fmt::print("{} {}\n", op, problem);
    return 0;
  }
  Cases cases;
  if (o.words.empty()) {
    cases = DefaultSuite();
  } else if (o.words.size() == 1) {
    for (const auto& c : DefaultSuite()) {
      if (c.first == o.words[0]) cases.push_back(c);
    }
  }
  for (size_t i = 1; i < o.words.size(); ++i) cases.emplace_back(o.words[0], o.words[i]);
  if (cases.empty()) throw Error("unknown op", o.words[0], fmt::format("{}", fmt::join(OpNames(), " ")));

  ThreadPool pool(o.threads > 0 ? o.threads : DefaultThreadCount());
  Context ctx{.pool = pool, .isa = o.isa.empty() ? Context::IsaFromEnvironment() : IsaFromName(o.isa), .verbose = {}};
  if (!MachineHas(ctx.isa)) throw Error("this machine lacks the instruction set", o.isa, std::string(Name(BestIsa())));
  if (!o.against.empty()) return RunAgainst(ctx, o, cases);
  bool headed = false;
  nlohmann::ordered_json results = nlohmann::ordered_json::array();
  for (const auto& [op, problem] : cases) {
    const OpCase c = MakeCase(ctx, op, problem);
    if (!o.json && !std::exchange(headed, true)) PrintHead(ctx);
    const Figures f = Measure(ctx, c, o.seconds);
    const double gflop_s = c.operations / f.seconds * 1e-9, gb_s = c.bytes / f.seconds * 1e-9;
    const double fraction = f.bound_seconds / f.seconds;
    const char* by = f.by_bytes ? "bytes" : "ops";
    if (o.json) {
      results.push_back({{"op", op},
                         {"problem", problem},
                         {"seconds", f.seconds},
                         {"runs", f.runs},
                         {"gflop_s", gflop_s},
                         {"gb_s", gb_s},
                         {"fraction_of_bound", fraction},
                         {"bound_by", by},
                         {"peak_read_gb_s", f.read_gb_s},
                         {"peak_tflop_s", f.peak_tera_per_s}});
      continue;
    }
    fmt::print("{:<46} {:>10} {:>10.1f} {:>8.1f} {:>7.0f} % {:>6} {:>10.1f} {:>8.3f}\n", op + " " + problem,
               Time(f.seconds), gflop_s, gb_s, 100 * fraction, by, f.read_gb_s, f.peak_tera_per_s);
    std::fflush(stdout);
  }
  if (o.json) {
    const nlohmann::ordered_json all = {
        {"machine", {{"cpu", CpuName()}, {"threads", pool.size()}, {"isa", Name(ctx.isa)}, {"commit", BuildCommit()}}},
        {"results", results}};
    fmt::print("{}\n", all.dump(2));
  }
  return 0;
}

}  // namespace
}  // namespace fathom::bench

int main(int argc, char** argv) {
  using namespace fathom;
  bench::Options o;
  CLI::App app{"fathom-bench: the ops beside the peak of this machine"};
  app.add_option(
      "WORDS", o.words,
      "An op and its problems (linear m1n1024k1024:bf16:bf16), an op alone for its part of the default suite, "
      "or nothing for all of it. The grammar stands at the head of bench/op_cases.h; --list shows examples.");
  app.add_option("--isa", o.isa, "Kernels of this instruction set: reference sse4 avx2 avx512 avx512bf16 amx neon");
  app.add_option("--threads,-t", o.threads, "Threads (default: one for each core)")->check(CLI::Range(1, 1024));
  app.add_option("--seconds", o.seconds, "For each problem")->check(CLI::PositiveNumber)->capture_default_str();
  app.add_option("--against", o.against, "Measure each problem in turn with itself in these types, like bf16:bf16");
  app.add_flag("--json", o.json, "One JSON object instead of a table");
  app.add_flag("--list", o.list, "Print the default suite and end");
  CLI11_PARSE(app, argc, argv);
  try {
    return bench::Run(o);
  } catch (const Error& e) {
    fmt::print(stderr, "fathom-bench: error: {}\n", e.what());
    return 1;
  }
}
