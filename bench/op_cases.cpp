#include "op_cases.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <map>
#include <memory>

#include "core/machine.h"
#include "core/rng.h"
#include "kernels/problem.h"

namespace fathom::bench {
namespace {

using kernels::ByteSpan;

// "t512l512h8:bf16" as sizes by letters and words.
struct Problem {
  std::map<std::string, int64_t> sizes;
  std::vector<std::string> words;

  int64_t at(const std::string& key) const { return sizes.at(key); }
  double d(const std::string& key) const { return static_cast<double>(sizes.at(key)); }
};

Problem Parse(const std::string& op, const std::string& text, const std::string& example,
              std::map<std::string, int64_t> defaults) {
  const Error error("not a problem of " + op, text, "like " + example);
  Problem p{std::move(defaults), {}};
  const std::string_view all = text, sizes = all.substr(0, all.find(':'));
  for (size_t i = 0; i < sizes.size();) {
    const size_t begin = i;
    while (i < sizes.size() && sizes[i] >= 'a' && sizes[i] <= 'z') ++i;
    const std::string key(sizes.substr(begin, i - begin));
    int64_t value = 0;
    const auto [end, failed] = std::from_chars(sizes.data() + i, sizes.data() + sizes.size(), value);
    if (failed != std::errc() || value < 1 || !p.sizes.count(key)) throw error;
    i = static_cast<size_t>(end - sizes.data());
    p.sizes[key] = value;
  }
  for (const auto& [key, value] : p.sizes) {
    if (value == 0) throw error;  // a size without a default
  }
  for (size_t at = sizes.size(); at < all.size();) {
    const size_t next = std::min(all.find(':', at + 1), all.size());
    p.words.emplace_back(all.substr(at + 1, next - at - 1));
    at = next;
  }
  return p;
}

kernels::Compute ComputeOf(const std::string& op, const Problem& p) {
  if (p.words.empty() || p.words[0] == "bf16") return kernels::Compute::kBf16;
  if (p.words[0] == "f32") return kernels::Compute::kF32;
  throw Error("unknown arithmetic for " + op, p.words[0], "f32 or bf16");
}

// Values of a normal distribution of some width, repeated.
std::shared_ptr<Buffer> Random(int64_t count, DType dtype, float width) {
  constexpr int64_t kDrawn = 1 << 14;
  auto buffer = std::make_shared<Buffer>(count * SizeOf(dtype));
  const int64_t size = SizeOf(dtype), drawn = std::min(count, kDrawn);
  Rng rng(7);
  for (int64_t i = 0; i < drawn; ++i) {
    const float x = static_cast<float>(rng.NextNormal()) * width;
    const uint16_t b = F32ToBf16(x), h = F32ToF16(x);
    const uint8_t e = F32ToE4M3(x);
    const void* from = dtype == DType::kF32    ? static_cast<const void*>(&x)
                       : dtype == DType::kBF16 ? static_cast<const void*>(&b)
                       : dtype == DType::kF16  ? static_cast<const void*>(&h)
                                               : static_cast<const void*>(&e);
    std::memcpy(buffer->data() + i * size, from, static_cast<size_t>(size));
  }
  for (int64_t at = drawn; at < count; at += drawn) {
    std::memcpy(buffer->data() + at * size, buffer->data(), static_cast<size_t>(std::min(drawn, count - at) * size));
  }
  return buffer;
}

std::shared_ptr<Buffer> RandomF32(int64_t count) { return Random(count, DType::kF32, 1.0f); }

// Copies of `bytes` that no cache holds together.
int64_t CopiesOf(double bytes) {
  const double enough = std::max(4.0 * static_cast<double>(LastLevelCacheBytes()), 192e6);
  return std::max<int64_t>(1, static_cast<int64_t>(enough / std::max(bytes, 1.0)) + 1);
}

// Runs an op on a planner for its scratch, and returns an arena of that size.
template <class F>
std::shared_ptr<Arena> Planned(const F& op) {
  Arena planner = Arena::Planner();
  op(planner);
  return std::make_shared<Arena>(std::max<int64_t>(planner.HighWater(), 64));
}

struct Matrices {
  std::shared_ptr<Buffer> data, scales;
  std::vector<kernels::Weight> weights;  // copies * jobs
  std::vector<std::vector<ByteSpan>> spans;
};

Matrices MakeMatrices(int64_t rows, int64_t cols, const kernels::LinearProblem& p, int64_t copies) {
  Matrices m;
  const int64_t bytes = rows * cols * SizeOf(p.weight), count = copies * p.jobs;
  m.data = Random(rows * cols * count, p.weight, p.weight == DType::kF8E4M3 ? 1.5f : 0.02f);
  const int64_t scale_count = ((rows + kFp8Block - 1) / kFp8Block) * ((cols + kFp8Block - 1) / kFp8Block);
  if (p.weight == DType::kF8E4M3) {
    m.scales = std::make_shared<Buffer>(scale_count * count * static_cast<int64_t>(sizeof(float)));
    std::fill_n(m.scales->data<float>(), scale_count * count, 1.0f / 64);
  }
  m.spans.resize(static_cast<size_t>(copies));
  for (int64_t i = 0; i < count; ++i) {
    kernels::Weight w;
    w.data = m.data->data() + i * bytes;
    w.dtype = p.weight;
    w.rows = rows;
    w.cols = cols;
    w.ue8m0 = p.ue8m0;
    if (m.scales) w.scale = m.scales->data<float>() + i * scale_count;
    m.weights.push_back(w);
    m.spans[static_cast<size_t>(i / p.jobs)].push_back({w.data, bytes});
  }
  return m;
}

Unit UnitOf(const kernels::LinearProblem& p) {
  const bool narrow = p.weight == DType::kBF16 || p.weight == DType::kF8E4M3;
  return p.compute != kernels::Compute::kF32 && narrow ? Unit::kBf16 : Unit::kF32;
}

OpCase Linear(Context& ctx, const std::string& text) {
  const kernels::LinearProblem p = kernels::ParseLinearProblem(text).Value();
  OpCase c;
  c.copies = CopiesOf(p.WeightBytes());
  const auto m = std::make_shared<Matrices>(MakeMatrices(p.n, p.k, p, c.copies));
  const DType y_dtype = p.y_bf16 ? DType::kBF16 : DType::kF32;
  const auto x = RandomF32(p.m * p.k);  // one input, as the experts of one token have
  const auto y = std::make_shared<Buffer>(p.m * p.n * p.jobs * SizeOf(y_dtype));
  c.operations = p.Flops();
  c.bytes = p.WeightBytes() + static_cast<double>(x->bytes() + y->bytes());
  c.unit = UnitOf(p);
  const auto call = [=, &ctx](int64_t copy, Arena& scratch) {
    std::vector<kernels::LinearJob> jobs(static_cast<size_t>(p.jobs));
    for (int64_t j = 0; j < p.jobs; ++j) {
      jobs[static_cast<size_t>(j)] = {.y = y->data() + j * p.m * p.n * SizeOf(y_dtype),
                                      .ldy = p.n,
                                      .y_dtype = y_dtype,
                                      .x = x->data<float>(),
                                      .ldx = p.k,
                                      .m = p.m,
                                      .w = m->weights[static_cast<size_t>(copy * p.jobs + j)],
                                      .accumulate = p.accumulate};
    }
    kernels::Linear(ctx, scratch, {jobs, p.compute});
  };
  const auto scratch = Planned([&](Arena& planner) { call(0, planner); });
  c.run = [=](int64_t copy) { call(copy, *scratch); };
  c.spans = [m](int64_t copy) { return m->spans[static_cast<size_t>(copy)]; };
  return c;
}

OpCase Transposed(Context& ctx, const std::string& text) {
  const kernels::LinearProblem p = kernels::ParseLinearProblem(text).Value();
  OpCase c;
  c.copies = CopiesOf(p.WeightBytes());
  const auto m = std::make_shared<Matrices>(MakeMatrices(p.k, p.n, p, c.copies));
  const auto x = RandomF32(p.m * p.k * p.jobs);
  const auto y = std::make_shared<Buffer>(p.m * p.n * p.jobs * 4);
  c.operations = p.Flops();
  c.bytes = p.WeightBytes() + static_cast<double>(x->bytes() + y->bytes());
  c.unit = UnitOf(p);
  const auto call = [=, &ctx](int64_t copy, Arena& scratch) {
    std::vector<kernels::LinearTransposedJob> jobs(static_cast<size_t>(p.jobs));
    for (int64_t j = 0; j < p.jobs; ++j) {
      jobs[static_cast<size_t>(j)] = {.y = y->data<float>() + j * p.m * p.n,
                                      .ldy = p.n,
                                      .x = x->data<float>() + j * p.m * p.k,
                                      .ldx = p.k,
                                      .m = p.m,
                                      .w = m->weights[static_cast<size_t>(copy * p.jobs + j)]};
    }
    kernels::LinearTransposed(ctx, scratch, jobs, p.compute);
  };
  const auto scratch = Planned([&](Arena& planner) { call(0, planner); });
  c.run = [=](int64_t copy) { call(copy, *scratch); };
  c.spans = [m](int64_t copy) { return m->spans[static_cast<size_t>(copy)]; };
  return c;
}

// Latent caches of one buffer, blocks of 64 rows.
struct Caches {
  std::shared_ptr<Buffer> data;
  std::vector<std::byte*> blocks;
  std::vector<kernels::LatentCache> caches;
  int64_t bytes_each = 0;
};

std::shared_ptr<Caches> MakeCaches(int64_t count, int64_t rows, int64_t width, DType dtype) {
  constexpr int64_t kBlock = 64;
  auto c = std::make_shared<Caches>();
  const int64_t blocks = (rows + kBlock - 1) / kBlock, block_bytes = kBlock * width * SizeOf(dtype);
  c->data = Random(count * blocks * kBlock * width, dtype, 1.0f);
  c->bytes_each = rows * width * SizeOf(dtype);
  for (int64_t i = 0; i < count * blocks; ++i) c->blocks.push_back(c->data->data() + i * block_bytes);
  for (int64_t i = 0; i < count; ++i) {
    c->caches.push_back(
        {.blocks = c->blocks.data() + i * blocks, .block_tokens = kBlock, .dtype = dtype, .width = width});
  }
  return c;
}

DType CacheType(kernels::Compute compute) { return compute == kernels::Compute::kBf16 ? DType::kBF16 : DType::kF32; }

OpCase Attention(Context& ctx, const std::string& text) {
  const Problem p =
      Parse("attention", text, "t512l512h8:bf16", {{"t", 0}, {"l", 0}, {"h", 0}, {"dn", 128}, {"dr", 64}, {"dv", 128}});
  const kernels::Compute compute = ComputeOf("attention", p);
  const int64_t t = p.at("t"), l = p.at("l"), h = p.at("h"), dn = p.at("dn"), dr = p.at("dr"), dv = p.at("dv");
  if (t > l) throw Error("attention needs l >= t", text, "l: all positions, of which t are the queries'");
  const DType type = CacheType(compute);
  const auto q = RandomF32(t * h * (dn + dr));
  const auto kv = Random(l * h * (dn + dv), type, 1.0f);
  const auto out = std::make_shared<Buffer>(t * h * dv * 4);
  const auto cache = MakeCaches(1, l, dr, type);
  const double pairs =
      static_cast<double>(t) * static_cast<double>(l - t) + static_cast<double>(t) * static_cast<double>(t + 1) / 2;
  OpCase c;
  c.operations = 2 * static_cast<double>(h * (dn + dr + dv)) * pairs;
  c.bytes = static_cast<double>(q->bytes() + kv->bytes() + out->bytes() + cache->bytes_each);
  c.unit = compute == kernels::Compute::kBf16 ? Unit::kBf16 : Unit::kF32;
  const auto call = [=, &ctx](Arena& scratch) {
    kernels::Attention(ctx, scratch,
                       {.out = out->data<float>(),
                        .ldo = h * dv,
                        .q = q->data<float>(),
                        .ldq = h * (dn + dr),
                        .kv = kv->data(),
                        .kv_dtype = type,
                        .ldkv = h * (dn + dv),
                        .cache = cache->caches[0],
                        .heads = h,
                        .tokens = t,
                        .begin = l - t,
                        .dn = dn,
                        .dr = dr,
                        .dv = dv,
                        .scale = 0.07f,
                        .compute = compute});
  };
  const auto scratch = Planned(call);
  c.run = [=](int64_t) { call(*scratch); };
  c.spans = [=](int64_t) { return std::vector<ByteSpan>{{kv->data(), kv->bytes()}, {q->data(), q->bytes()}}; };
  return c;
}

OpCase Latent(Context& ctx, const std::string& text) {
  const Problem p = Parse("latent", text, "q16l4096h8:bf16", {{"q", 0}, {"l", 0}, {"h", 0}, {"r", 512}, {"dr", 64}});
  const kernels::Compute compute = ComputeOf("latent", p);
  const int64_t n = p.at("q"), l = p.at("l"), h = p.at("h"), r = p.at("r"), dr = p.at("dr");
  OpCase c;
  c.copies = CopiesOf(static_cast<double>(n * l * (r + dr) * SizeOf(CacheType(compute))));
  const auto caches = MakeCaches(n * c.copies, l, r + dr, CacheType(compute));
  const auto q = Random(n * h * (r + dr), DType::kF32, 0.3f);
  const auto out = std::make_shared<Buffer>(n * h * r * 4);
  const std::vector<int64_t> lengths(static_cast<size_t>(n), l);
  c.operations = 2 * static_cast<double>(n * h * (2 * r + dr)) * static_cast<double>(l);
  c.bytes = static_cast<double>(n * caches->bytes_each + q->bytes() + out->bytes());
  c.unit = compute == kernels::Compute::kBf16 ? Unit::kBf16 : Unit::kF32;
  const auto call = [=, &ctx](int64_t copy, Arena& scratch) {
    kernels::LatentAttention(
        ctx, scratch,
        {.out = out->data<float>(),
         .q = q->data<float>(),
         .caches = std::span(caches->caches).subspan(static_cast<size_t>(copy * n), static_cast<size_t>(n)),
         .lengths = lengths,
         .heads = h,
         .r = r,
         .dr = dr,
         .scale = 0.07f,
         .compute = compute});
  };
  const auto scratch = Planned([&](Arena& planner) { call(0, planner); });
  c.run = [=](int64_t copy) { call(copy, *scratch); };
  c.spans = [=](int64_t copy) {
    std::vector<ByteSpan> spans;
    for (int64_t i = 0; i < n; ++i)
      spans.push_back({caches->caches[static_cast<size_t>(copy * n + i)].Row(0), caches->bytes_each});
    return spans;
  };
  return c;
}

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

std::shared_ptr<Buffer> Ids(int64_t count, int64_t below) {
  auto ids = std::make_shared<Buffer>(count * 4);
  Rng rng(3);
  for (int64_t i = 0; i < count; ++i) ids->data<int32_t>()[i] = static_cast<int32_t>(rng.NextBelow(below));
  return ids;
}

OpCase Norm(Context& ctx, const std::string& text) {
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

OpCase Swiglu(Context& ctx, const std::string& text) {
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

OpCase Gate(Context& ctx, const std::string& text) {
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

OpCase Rope(Context& ctx, const std::string& text) {
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

OpCase Combine(Context& ctx, const std::string& text) {
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

OpCase Embed(Context& ctx, const std::string& text) {
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

OpCase CacheWrite(Context& ctx, const std::string& text) {
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

OpCase Quantize(Context& ctx, const std::string& text) {
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

using Maker = OpCase (*)(Context&, const std::string&);
const std::vector<std::pair<std::string, Maker>>& Makers() {
  static const std::vector<std::pair<std::string, Maker>> makers = {
      {"linear", Linear},   {"transposed", Transposed}, {"attention", Attention}, {"latent", Latent},
      {"norm", Norm},       {"swiglu", Swiglu},         {"gate", Gate},           {"rope", Rope},
      {"combine", Combine}, {"embed", Embed},           {"cache", CacheWrite},    {"quantize", Quantize}};
  return makers;
}

}  // namespace

const std::vector<std::string>& OpNames() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> n;
    for (const auto& [name, maker] : Makers()) n.push_back(name);
    return n;
  }();
  return names;
}

OpCase MakeCase(Context& ctx, const std::string& op, const std::string& problem) {
  for (const auto& [name, maker] : Makers()) {
    if (name == op) return maker(ctx, problem);
  }
  throw Error("unknown op", op, fmt::format("{}", fmt::join(OpNames(), " ")));
}

std::vector<std::pair<std::string, std::string>> DefaultSuite() {
  std::vector<std::pair<std::string, std::string>> suite;
  for (const char* weight : {"bf16", "f8e4m3"}) {
    for (int64_t m : {1, 8, 16, 512}) {
      const auto add = [&](int64_t rows, int64_t n, int64_t k, int64_t jobs) {
        suite.emplace_back("linear", fmt::format("m{}n{}k{}:bf16:{}{}", rows, n, k, weight,
                                                 jobs > 1 ? fmt::format(":j{}", jobs) : ""));
      };
      add(m, 1536, 512, 1);   // q_b_proj
      add(m, 1024, 1024, 1);  // o_proj
      add(m, 2560, 1024, 2);  // dense gate_proj and up_proj
      // Experts: 8 of 64 for a token; 16 tokens meet 56 of them; 512 tokens give each 64 rows.
      const int64_t experts = m == 1 ? 8 : m <= 16 ? 56 : 64, rows = m == 1 ? 1 : m == 8 ? 2 : m == 16 ? 3 : 64;
      add(rows, 256, 1024, 2 * experts);
      add(rows, 1024, 256, experts);
    }
  }
  for (const char* head : {"m1", "m16"}) suite.emplace_back("linear", fmt::format("{}n129280k1024:bf16:bf16", head));
  for (const auto& [op, problem] :
       std::vector<std::pair<const char*, const char*>>{{"linear", "m1n64k1024:f32:bf16"},
                                                        {"linear", "m512n64k1024:f32:bf16"},
                                                        {"linear", "m512n2048k512:bf16:bf16:ybf16"},
                                                        {"linear", "m512n1024k1024:w8a8:f8e4m3"},
                                                        {"transposed", "m1n512k128:bf16:bf16:j8"},
                                                        {"transposed", "m16n512k128:bf16:bf16:j8"},
                                                        {"attention", "t512l512h8:bf16"},
                                                        {"attention", "t2048l2048h8:bf16"},
                                                        {"attention", "t512l512h8:f32"},
                                                        {"latent", "q1l4096h8:bf16"},
                                                        {"latent", "q16l4096h8:bf16"},
                                                        {"latent", "q1l16384h8:bf16"},
                                                        {"latent", "q1l4096h8:f32"},
                                                        {"norm", "t1n1024"},
                                                        {"norm", "t512n1024"},
                                                        {"swiglu", "t8n256"},
                                                        {"swiglu", "t4096n256"},
                                                        {"gate", "t1e64k8"},
                                                        {"gate", "t512e64k8"},
                                                        {"rope", "t512h8d64"},
                                                        {"combine", "t512n1024k8"},
                                                        {"embed", "t512n1024"},
                                                        {"cache", "t512n576:bf16"},
                                                        {"quantize", "t512n1024"}}) {
    suite.emplace_back(op, problem);
  }
  return suite;
}

}  // namespace fathom::bench
