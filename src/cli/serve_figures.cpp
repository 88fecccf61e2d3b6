#include "cli/serve_figures.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <sstream>

#include "report/svg.h"

namespace fathom::cli {
namespace {

double Percentile(const std::vector<Sample>& sorted, double total, bool equal, double q) {
  if (equal) {
    const double at = q * static_cast<double>(sorted.size() - 1);
    const size_t below = static_cast<size_t>(at);
    const size_t above = std::min(below + 1, sorted.size() - 1);
    return std::lerp(sorted[below].value, sorted[above].value, at - static_cast<double>(below));
  }
  double sum = 0;
  for (const Sample& s : sorted) {
    sum += s.weight;
    if (sum >= q * total) return s.value;
  }
  return sorted.back().value;
}

bool Good(const RequestRecord& r, const Goals& goals) {
  return std::all_of(goals.begin(), goals.end(), [&](const auto& goal) {
    const double seconds = goal.first == "ttft" ? r.ttft() : goal.first == "itl" ? r.seconds_per_token() : r.seconds;
    return seconds * 1e3 <= goal.second;
  });
}

// A count that not every server gives: the sum, or -1 where none did.
void Add(int64_t& sum, int64_t count) {
  if (count >= 0) sum = std::max<int64_t>(sum, 0) + count;
}

void Put(nlohmann::ordered_json& j, const std::string& name, const Distribution& d) {
  j["mean_" + name + "_ms"] = d.mean * 1e3;
  j["std_" + name + "_ms"] = d.std * 1e3;
  j["median_" + name + "_ms"] = d.p50 * 1e3;
  j["p95_" + name + "_ms"] = d.p95 * 1e3;
  j["p99_" + name + "_ms"] = d.p99 * 1e3;
}

}  // namespace

Distribution Describe(std::vector<Sample> samples) {
  Distribution d;
  if (samples.empty()) return d;
  std::sort(samples.begin(), samples.end(), [](const Sample& a, const Sample& b) { return a.value < b.value; });
  double total = 0;
  bool equal = true;
  for (const Sample& s : samples) {
    total += s.weight;
    d.mean += s.weight * s.value;
    equal = equal && s.weight == samples.front().weight;
  }
  d.mean /= total;
  double square = 0;
  for (const Sample& s : samples) square += s.weight * (s.value - d.mean) * (s.value - d.mean);
  d.std = std::sqrt(square / total);
  d.p50 = Percentile(samples, total, equal, 0.5);
  d.p95 = Percentile(samples, total, equal, 0.95);
  d.p99 = Percentile(samples, total, equal, 0.99);
  return d;
}

Goals ParseGoals(const std::string& text) {
  Goals goals;
  std::istringstream parts(text);
  for (std::string part; std::getline(parts, part, ',');) {
    const size_t colon = part.find(':');
    std::string name = part.substr(0, colon);
    if (name == "tpot") name = "itl";
    if (name == "e2e") name = "e2el";
    double limit = 0;
    const char* begin = part.data() + (colon == std::string::npos ? part.size() : colon + 1);
    const auto [end, code] = std::from_chars(begin, part.data() + part.size(), limit);
    if ((name != "ttft" && name != "itl" && name != "e2el") || code != std::errc() ||
        end != part.data() + part.size() || !(limit > 0)) {
      throw Error("--goodput does not understand a limit", part,
                  "ttft, itl or e2el, a colon, milliseconds: ttft:500,itl:50");
    }
    goals.emplace_back(name, limit);
  }
  return goals;
}

ServeFigures Summarise(const LoadResult& result, const std::vector<PlannedRequest>& plan, const Goals& goals) {
  ServeFigures f;
  f.seconds = result.seconds;
  std::vector<Sample> ttft, itl, tpot, e2el;
  for (const RequestRecord& r : result.requests) {
    if (!r.ok()) {
      ++f.failed;
      auto& [count, message] = f.errors[r.error];
      if (count++ == 0) message = r.message;
      continue;
    }
    ++f.completed;
    if (Good(r, goals)) ++f.good;
    f.input_tokens += r.prompt_tokens >= 0 ? r.prompt_tokens : plan[static_cast<size_t>(r.index)].input_tokens;
    f.output_tokens += r.output_tokens();
    if (r.completion_tokens >= 0) ++f.counted;
    Add(f.cached_tokens, r.cached_tokens);
    Add(f.accepted_drafts, r.accepted_drafts);
    Add(f.rejected_drafts, r.rejected_drafts);
    e2el.push_back({r.seconds});
    if (r.arrivals.empty()) continue;
    ttft.push_back({r.ttft()});
    if (r.seconds_per_token() > 0) tpot.push_back({r.seconds_per_token()});
    const double per_chunk = static_cast<double>(r.output_tokens()) / static_cast<double>(r.chunks);
    for (size_t i = 1; i < r.arrivals.size(); ++i) {
      const double tokens = per_chunk * static_cast<double>(r.arrivals[i].chunks);
      if (tokens > 0) itl.push_back({(r.arrivals[i].seconds - r.arrivals[i - 1].seconds) / tokens, tokens});
    }
  }
  f.ttft = Describe(std::move(ttft));
  f.itl = Describe(std::move(itl));
  f.tpot = Describe(std::move(tpot));
  f.e2el = Describe(std::move(e2el));
  return f;
}

nlohmann::ordered_json FiguresJson(const ServeFigures& f, const Goals& goals) {
  nlohmann::ordered_json j;
  const auto rate = [&](int64_t n) { return f.seconds > 0 ? static_cast<double>(n) / f.seconds : 0; };
  j["duration"] = f.seconds;
  j["completed"] = f.completed;
  j["failed"] = f.failed;
  j["total_input_tokens"] = f.input_tokens;
  j["total_output_tokens"] = f.output_tokens;
  j["token_counts"] = f.counted == f.completed ? "usage" : f.counted == 0 ? "chunks" : "usage and chunks";
  j["request_throughput"] = rate(f.completed);
  if (!goals.empty()) {
    j["goodput_config_ms"] = nlohmann::ordered_json::object();
    for (const auto& [name, limit] : goals) j["goodput_config_ms"][name] = limit;
    j["request_goodput"] = rate(f.good);
  }
  j["output_throughput"] = rate(f.output_tokens);
  j["total_token_throughput"] = rate(f.input_tokens + f.output_tokens);
  if (f.cached_tokens >= 0) j["prompt_cache_hit_tokens"] = f.cached_tokens;
  if (f.accepted_drafts >= 0) {
    j["accepted_prediction_tokens"] = f.accepted_drafts;
    j["rejected_prediction_tokens"] = std::max<int64_t>(f.rejected_drafts, 0);
  }
  Put(j, "ttft", f.ttft);
  Put(j, "tpot", f.tpot);
  Put(j, "itl", f.itl);
  Put(j, "e2el", f.e2el);
  j["errors"] = nlohmann::ordered_json::object();
  for (const auto& [kind, seen] : f.errors) j["errors"][kind] = {{"count", seen.first}, {"message", seen.second}};
  return j;
}

std::string FiguresTable(const ServeFigures& f, const Goals& goals) {
  const auto rate = [&](int64_t n) { return f.seconds > 0 ? static_cast<double>(n) / f.seconds : 0; };
  const auto percent = [](int64_t part, int64_t whole) {
    return whole > 0 ? 100.0 * static_cast<double>(part) / static_cast<double>(whole) : 0;
  };
  std::string t = fmt::format("done     {} in {:.2f} s, {} failed\n", f.completed, f.seconds, f.failed);
  for (const auto& [kind, seen] : f.errors) t += fmt::format("         {} x {}: {}\n", seen.first, kind, seen.second);
  t += fmt::format("speed    {:.1f} output tokens/s, {:.1f} tokens/s with prompts, {:.2f} requests/s\n",
                   rate(f.output_tokens), rate(f.input_tokens + f.output_tokens), rate(f.completed));
  if (!goals.empty()) {
    std::string limits;
    for (const auto& [name, limit] : goals) limits += fmt::format(" {} {:g} ms", name, limit);
    t += fmt::format("goodput  {:.2f} requests/s within{}: {:.1f} %\n", rate(f.good), limits,
                     percent(f.good, f.completed + f.failed));
  }
  t += fmt::format("tokens   {} in prompts", f.input_tokens);
  if (f.cached_tokens >= 0) t += fmt::format(" ({:.1f} % from the cache)", percent(f.cached_tokens, f.input_tokens));
  t += fmt::format(", {} in answers", f.output_tokens);
  if (f.counted < f.completed) t += " (some counted as chunks: the server gave no usage)";
  t += "\n";
  if (f.accepted_drafts > 0 || f.rejected_drafts > 0) {
    t += fmt::format("drafts   {} accepted, {:.1f} %\n", f.accepted_drafts,
                     percent(f.accepted_drafts, f.accepted_drafts + std::max<int64_t>(f.rejected_drafts, 0)));
  }
  t += fmt::format("\n{:<8} {:>10} {:>10} {:>10} {:>10}\n", "ms", "mean", "p50", "p95", "p99");
  const std::pair<const char*, const Distribution*> rows[] = {
      {"TTFT", &f.ttft}, {"ITL", &f.itl}, {"TPOT", &f.tpot}, {"E2EL", &f.e2el}};
  for (const auto& [name, d] : rows) {
    t += fmt::format("{:<8} {:>10.2f} {:>10.2f} {:>10.2f} {:>10.2f}\n", name, d->mean * 1e3, d->p50 * 1e3, d->p95 * 1e3,
                     d->p99 * 1e3);
  }
  return t;
}

std::string FiguresPlot(const LoadResult& result) {
  report::LineChart chart{.title = "Latency of each request",
                          .x_label = "start of the request, s",
                          .y_label = "ms",
                          .series = {{.name = "time to first token", .x = {}, .y = {}, .points = true},
                                     {.name = "time per token, mean", .x = {}, .y = {}, .points = true}},
                          .marks = {},
                          .log_y = true};
  std::vector<const RequestRecord*> sorted;
  for (const RequestRecord& r : result.requests) {
    if (r.ok() && !r.arrivals.empty()) sorted.push_back(&r);
  }
  std::sort(sorted.begin(), sorted.end(), [](const auto* a, const auto* b) { return a->start < b->start; });
  for (const RequestRecord* r : sorted) {
    chart.series[0].x.push_back(r->start);
    chart.series[0].y.push_back(r->ttft() * 1e3);
    if (r->seconds_per_token() > 0) {
      chart.series[1].x.push_back(r->start);
      chart.series[1].y.push_back(r->seconds_per_token() * 1e3);
    }
  }
  const std::string svg = report::Svg(chart);
  return svg.empty() ? svg : report::Standalone(svg);
}

}  // namespace fathom::cli
