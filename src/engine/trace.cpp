#include "engine/trace.h"

#include <fmt/format.h>

#include <algorithm>

#include "engine/latent_pool.h"

namespace fathom::engine {
namespace {

void Append(TracedTensor& t, const TensorView& v) {
  t.dtype = v.dtype;
  t.cols = v.shape.back();
  if (v.dtype == DType::kI32) {
    const int32_t* p = static_cast<const int32_t*>(v.data);
    t.i32.insert(t.i32.end(), p, p + v.size());
  } else {
    FATHOM_CHECK(v.dtype == DType::kF32);
    const float* p = static_cast<const float*>(v.data);
    t.f32.insert(t.f32.end(), p, p + v.size());
  }
}

}  // namespace

double TraceTolerance(model::Compute compute, int64_t layer) {
  const double blocks = static_cast<double>(layer) + 1;
  switch (compute) {
    case model::Compute::kF32:
      return 0x1p-24 * 1024 * blocks;
    case model::Compute::kBf16:
      return 0x1p-9 * 16 * blocks;
    case model::Compute::kW8A8:
    case model::Compute::kFp8:
      return 0x1p-5 * blocks;
  }
  return 0;
}

int64_t TracedTensor::rows() const {
  return static_cast<int64_t>(dtype == DType::kF32 ? f32.size() : i32.size()) / std::max<int64_t>(cols, 1);
}

TensorView TracedTensor::View() const {
  const void* data = dtype == DType::kI32 ? static_cast<const void*>(i32.data()) : f32.data();
  return {data, dtype, {rows(), cols}};
}

Trace RunTrace(Context& ctx, const model::Transformer& t, std::span<const int32_t> ids, const TraceOptions& o) {
  const model::ModelConfig& c = t.config();
  const int64_t n = static_cast<int64_t>(ids.size()), d = c.hidden_size;
  const int64_t chunk = o.chunk > 0 ? std::min(o.chunk, n) : n;
  Trace trace;
  int64_t begin = 0;  // of the chunk that runs
  model::Probe probe;
  probe.on_tensor = [&](std::string_view name, int64_t layer, const TensorView& v) {
    Append(trace[fmt::format("{}.{}", name, layer)], v);
  };
  if (!o.inputs.empty()) {
    probe.replace_input = [&](int64_t layer, float* x, int64_t tokens) {
      const auto it = o.inputs.find(layer);
      if (it != o.inputs.end()) std::copy_n(it->second.data() + begin * d, tokens * d, x);
    };
  }
  const LatentStore store(LatentLayout::Of(c, t.cache_layers(), o.cache_dtype), n);
  Arena arena(
      model::PlanArena(t, ctx, o.compute, {.tokens = chunk, .positions = n, .head_rows = chunk, .form = o.form}));
  const model::Env env{.ctx = ctx, .arena = arena, .compute = o.compute, .attention_form = o.form, .probe = &probe};
  std::vector<float> state(static_cast<size_t>(n * d)), hidden(static_cast<size_t>(chunk * d)),
      logits(static_cast<size_t>(chunk * c.vocab_size));
  const auto show = [&](const std::string& name, const float* data, int64_t rows, int64_t cols) {
    Append(trace[name], TensorView{data, DType::kF32, {rows, cols}});
  };
  // Calls step(the chunk's ids from `first` on, its slice, rows) for each chunk of `total` positions.
  const auto for_chunks = [&](int64_t total, int64_t first, auto step) {
    for (begin = 0; begin < total; begin += chunk) {
      const int64_t rows = std::min(chunk, total - begin);
      const model::SequenceSlice slice{.row = 0, .tokens = rows, .position = begin, .caches = store.caches()};
      step(
          model::Step{ids.subspan(static_cast<size_t>(begin + first), static_cast<size_t>(rows)), std::span(&slice, 1)},
          rows);
    }
  };
  for_chunks(n, 0, [&](const model::Step& step, int64_t rows) {
    float* normed = state.data() + begin * d;
    t.Forward(env, step, hidden.data());
    t.FinalNorm(env, hidden.data(), rows, normed);
    show("final_hidden", normed, rows, d);
    t.Head(env, normed, rows, logits.data());
    show("logits", logits.data(), rows, c.vocab_size);
  });
  for (int64_t k = 1; k <= t.mtp_depth() && k < n; ++k) {
    for_chunks(n - k, k, [&](const model::Step& step, int64_t rows) {
      float* normed = state.data() + begin * d;
      t.MtpForward(env, k, step, normed, hidden.data());
      show(fmt::format("mtp_hidden.{}", k), hidden.data(), rows, d);
      t.MtpNorm(env, k, hidden.data(), rows, normed);
      t.Head(env, normed, rows, logits.data());
      show(fmt::format("mtp_logits.{}", k), logits.data(), rows, c.vocab_size);
    });
  }
  return trace;
}

}  // namespace fathom::engine
