#include "kernels/problem.h"

#include <fmt/format.h>

#include <array>
#include <charconv>

namespace fathom::kernels {
namespace {

struct WeightName {
  std::string_view name;
  DType dtype;
};
constexpr std::array<WeightName, 4> kWeights = {
    {{"f32", DType::kF32}, {"f16", DType::kF16}, {"bf16", DType::kBF16}, {"f8e4m3", DType::kF8E4M3}}};

// "m8" at the front of *text, which it takes away.
bool TakeSize(std::string_view* text, char letter, int64_t* value) {
  if (text->empty() || text->front() != letter) return false;
  const char* begin = text->data() + 1;
  const auto [end, error] = std::from_chars(begin, text->data() + text->size(), *value);
  if (error != std::errc() || end == begin || *value < 0) return false;
  text->remove_prefix(static_cast<size_t>(end - text->data()));
  return true;
}

}  // namespace

std::string LinearProblem::ToString() const {
  std::string_view w = "?";
  for (const WeightName& name : kWeights) {
    if (name.dtype == weight) w = name.name;
  }
  return fmt::format("m{}n{}k{}:{}:{}{}{}{}{}{}{}", m, n, k, Name(compute), w, accumulate ? ":acc" : "",
                     y_bf16 ? ":ybf16" : "", ue8m0 ? ":ue8m0" : "", fixed_form ? ":fixed" : "",
                     dy_blocks ? ":blocks" : "", jobs > 1 ? fmt::format(":j{}", jobs) : "");
}

Result<LinearProblem> ParseLinearProblem(std::string_view text) {
  const Error error("not a matrix-product problem", std::string(text), "like m8n256k1024:bf16:f8e4m3:acc");
  LinearProblem p;
  std::string_view rest = text;
  if (!TakeSize(&rest, 'm', &p.m) || !TakeSize(&rest, 'n', &p.n) || !TakeSize(&rest, 'k', &p.k) || p.k == 0) {
    return error;
  }
  int part = 0;
  for (; !rest.empty(); ++part) {
    if (rest.front() != ':') return error;
    rest.remove_prefix(1);
    std::string_view word = rest.substr(0, rest.find(':'));
    rest.remove_prefix(word.size());
    bool known = false;
    if (part == 0) {
      for (Compute c : {Compute::kF32, Compute::kBf16, Compute::kW8A8, Compute::kFp8}) {
        if (word == Name(c)) p.compute = c, known = true;
      }
    } else if (part == 1) {
      for (const WeightName& name : kWeights) {
        if (word == name.name) p.weight = name.dtype, known = true;
      }
    } else if (word == "acc") {
      p.accumulate = known = true;
    } else if (word == "ybf16") {
      p.y_bf16 = known = true;
    } else if (word == "ue8m0") {
      p.ue8m0 = known = true;
    } else if (word == "fixed") {
      p.fixed_form = known = true;
    } else if (word == "blocks") {
      p.dy_blocks = known = true;
    } else {
      known = TakeSize(&word, 'j', &p.jobs) && word.empty() && p.jobs > 0;
    }
    if (!known) return error;
  }
  if (part < 2 || (p.accumulate && p.y_bf16)) return error;
  return p;
}

}  // namespace fathom::kernels
