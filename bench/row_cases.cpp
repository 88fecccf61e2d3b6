// Ops on rows: norms, activations, routing, cache writes. See op_cases.h for the grammar.
#include <cstring>

#include "op_cases.h"
#include "op_data.h"

namespace fathom::bench {
namespace {

using kernels::ByteSpan;

// Ops on rows that stay in the caches: the read peak is of their own buffers.
OpCase Rows(double operations, const std::vector<std::shared_ptr<Buffer>>& buffers, std::function<void()> run) {
  OpCase c;
  c.operations = operations;
  for (const auto& b : buffers) c.bytes += static_cast<double>(b->bytes());
  c.run = [run = std::move(run)](int64_t) { run(); };
  c.spans = [buffers](int64_t) {
    std::vector<ByteSpan> spans;
    for (const auto& b : buffers) spans.push_back({b->data(), b->bytes()});
    return spans;
  };
  return c;
}

OpCase Norm(Context& ctx, const std::string& text, double) {
  const Problem p = Parse("norm", text, "t512n1024", {{"t", 0}, {"n", 0}});
  const int64_t t = p.at("t"), n = p.at("n");
  const auto x = RandomF32(t * n), y = RandomF32(t * n), w = Random(n, DType::kBF16, 1.0f);
  return Rows(4 * p.d("t") * p.d("n"), {x, y, w}, [=, &ctx] {
    kernels::RmsNorm(ctx, {.y = y->data<float>(),
                           .ldy = n,
                           .x = x->data<float>(),
                           .ldx = n,
                           .rows = t,
                           .n = n,
                           .weight = w->data(),
                           .weight_dtype = DType::kBF16,
                           .eps = 1e-6f});
  });
}

OpCase Swiglu(Context& ctx, const std::string& text, double) {
  const Problem p = Parse("swiglu", text, "t512n256", {{"t", 0}, {"n", 0}});
  const int64_t t = p.at("t"), n = p.at("n");
  const auto gate = RandomF32(t * n), up = RandomF32(t * n), y = RandomF32(t * n);
  return Rows(4 * p.d("t") * p.d("n"), {gate, up, y}, [=, &ctx] {
    kernels::Swiglu(ctx, {.y = y->data<float>(),
                          .ldy = n,
                          .gate = gate->data<float>(),
                          .up = up->data<float>(),
                          .ldx = n,
                          .rows = t,
                          .n = n});
  });
}

OpCase Gate(Context& ctx, const std::string& text, double) {
  const Problem p = Parse("gate", text, "t512e64k8", {{"t", 0}, {"e", 0}, {"k", 0}, {"g", 8}, {"p", 4}});
  const int64_t t = p.at("t"), e = p.at("e"), k = p.at("k"), g = p.at("g"), best = p.at("p");
  if (k > e || best > g || e % g != 0) throw Error("gate needs k <= e, p <= g and g groups of equal size", text);
  const auto logits = RandomF32(t * e), bias = Random(e, DType::kF32, 0.01f), weights = RandomF32(t * k);
  const auto ids = Ids(t * k, e);
  return Rows(p.d("t") * p.d("e"), {logits, bias, weights, ids}, [=, &ctx] {
    kernels::Gate(ctx, {.ids = ids->data<int32_t>(),
                        .weights = weights->data<float>(),
                        .logits = logits->data<float>(),
                        .bias = bias->data<float>(),
                        .tokens = t,
                        .experts = e,
                        .top_k = k,
                        .n_group = g,
                        .topk_group = best,
                        .routed_scaling_factor = 2.5f});
  });
}

OpCase Rope(Context& ctx, const std::string& text, double) {
  const Problem p = Parse("rope", text, "t512h8d64", {{"t", 0}, {"h", 0}, {"d", 0}});
  const int64_t t = p.at("t"), h = p.at("h"), d = p.at("d");
  const auto x = RandomF32(t * h * d), cos = RandomF32(t * d / 2), sin = RandomF32(t * d / 2), positions = Ids(t, t);
  // Angles at random would make x grow with every run: all amplitudes one.
  for (int64_t i = 0; i < t * d / 2; ++i) {
    cos->data<float>()[i] = 0.6f;
    sin->data<float>()[i] = 0.8f;
  }
  return Rows(3 * p.d("t") * p.d("h") * p.d("d"), {x, cos, sin, positions}, [=, &ctx] {
    kernels::Rope(ctx, {.x = x->data<float>(),
                        .row_stride = h * d,
                        .head_stride = d,
                        .rows = t,
                        .heads = h,
                        .dim = d,
                        .positions = positions->data<int32_t>(),
                        .cos = cos->data<float>(),
                        .sin = sin->data<float>()});
  });
}

OpCase Combine(Context& ctx, const std::string& text, double) {
  const Problem p = Parse("combine", text, "t512n1024k8", {{"t", 0}, {"n", 0}, {"k", 0}});
  const int64_t t = p.at("t"), n = p.at("n"), k = p.at("k");
  const auto x = RandomF32(t * k * n), y = RandomF32(t * n), rows = Ids(t * k, t * k), weights = RandomF32(t * k);
  return Rows(2 * p.d("t") * p.d("n") * p.d("k"), {x, y, rows, weights}, [=, &ctx] {
    // Adds to y: begun anew each time, else it grows without end.
    std::memset(y->data(), 0, static_cast<size_t>(y->bytes()));
    kernels::Combine(ctx, {.y = y->data<float>(),
                           .ldy = n,
                           .x = x->data<float>(),
                           .ldx = n,
                           .row_of = rows->data<int32_t>(),
                           .weights = weights->data<float>(),
                           .tokens = t,
                           .top_k = k,
                           .n = n});
  });
}

OpCase Embed(Context& ctx, const std::string& text, double) {
  const Problem p = Parse("embed", text, "t512n1024", {{"t", 0}, {"n", 0}});
  const int64_t t = p.at("t"), n = p.at("n");
  const auto table = Random(t * n, DType::kBF16, 1.0f), y = RandomF32(t * n), ids = Ids(t, t);
  return Rows(0, {table, y, ids}, [=, &ctx] {
    kernels::Embed(ctx, {.y = y->data<float>(),
                         .ldy = n,
                         .table = table->data(),
                         .table_dtype = DType::kBF16,
                         .ids = ids->data<int32_t>(),
                         .rows = t,
                         .n = n});
  });
}

OpCase CacheWrite(Context& ctx, const std::string& text, double) {
  const Problem p = Parse("cache", text, "t512n576:bf16", {{"t", 0}, {"n", 0}});
  const int64_t t = p.at("t"), n = p.at("n");
  const auto caches = MakeCaches(1, t, n, CacheType(ComputeOf("cache", p)));
  const auto x = RandomF32(t * n);
  return Rows(0, {x, caches->data}, [=, &ctx] {
    const kernels::CacheWriteArgs write{
        .cache = caches->caches[0], .x = x->data<float>(), .ldx = n, .rows = t, .position = 0};
    kernels::CacheWrite(ctx, std::span(&write, 1));
  });
}

OpCase Quantize(Context& ctx, const std::string& text, double) {
  const Problem p = Parse("quantize", text, "t512n1024", {{"t", 0}, {"n", 0}});
  const int64_t t = p.at("t"), n = p.at("n");
  const auto x = RandomF32(t * n), codes = std::make_shared<Buffer>(t * n);
  const auto scales = std::make_shared<Buffer>(t * ((n + kFp8Block - 1) / kFp8Block) * 4);
  return Rows(0, {x, codes, scales}, [=, &ctx] {
    kernels::QuantizeTiles(ctx, {.codes = codes->data<uint8_t>(),
                                 .scales = scales->data<float>(),
                                 .x = x->data<float>(),
                                 .ldx = n,
                                 .rows = t,
                                 .n = n});
  });
}

}  // namespace

const std::vector<std::pair<std::string, Maker>>& RowMakers() {
  static const std::vector<std::pair<std::string, Maker>> makers = {
      {"norm", Norm},       {"swiglu", Swiglu}, {"gate", Gate},        {"rope", Rope},
      {"combine", Combine}, {"embed", Embed},   {"cache", CacheWrite}, {"quantize", Quantize}};
  return makers;
}

}  // namespace fathom::bench
