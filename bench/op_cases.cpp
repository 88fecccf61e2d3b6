// Matrix products and attention, and the list of all ops.
#include "op_cases.h"

#include <fmt/format.h>

#include "core/machine.h"
#include "kernels/problem.h"
#include "op_data.h"

namespace fathom::bench {
namespace {

using kernels::ByteSpan;

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

OpCase Linear(Context& ctx, const std::string& text, double cold_bytes) {
  const kernels::LinearProblem p = kernels::ParseLinearProblem(text).Value();
  OpCase c;
  c.copies = CopiesOf(p.WeightBytes(), cold_bytes);
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
    kernels::Linear(ctx, scratch, {jobs, p.compute, p.fixed_form});
  };
  const auto scratch = Planned([&](Arena& planner) { call(0, planner); });
  c.run = [=](int64_t copy) { call(copy, *scratch); };
  c.spans = [m](int64_t copy) { return m->spans[static_cast<size_t>(copy)]; };
  return c;
}

OpCase Transposed(Context& ctx, const std::string& text, double cold_bytes) {
  const kernels::LinearProblem p = kernels::ParseLinearProblem(text).Value();
  OpCase c;
  c.copies = CopiesOf(p.WeightBytes(), cold_bytes);
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

OpCase Attention(Context& ctx, const std::string& text, double) {
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

OpCase Latent(Context& ctx, const std::string& text, double cold_bytes) {
  Problem p = Parse("latent", text, "q16l4096h8:bf16", {{"q", 0}, {"l", 0}, {"h", 0}, {"r", 512}, {"dr", 64}});
  const bool fp8 = p.words.size() == 2 && p.words.back() == "f8e4m3";
  if (fp8) p.words.pop_back();
  const kernels::Compute compute = ComputeOf("latent", p);
  const DType type = fp8 ? DType::kF8E4M3 : CacheType(compute);
  const int64_t n = p.at("q"), l = p.at("l"), h = p.at("h"), r = p.at("r"), dr = p.at("dr");
  OpCase c;
  c.copies = CopiesOf(static_cast<double>(n * l * (r + dr) * SizeOf(type)), cold_bytes);
  const auto caches = MakeCaches(n * c.copies, l, r + dr, type, dr);
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

OpCase Bounds(Context& ctx, const std::string& text, double cold_bytes) {
  const Problem p = Parse("bounds", text, "m1n129280k1024", {{"m", 0}, {"n", 0}, {"k", 0}});
  const int64_t m = p.at("m"), n = p.at("n"), k = p.at("k");
  const int64_t bytes = kernels::CodedBytes(n, k);
  OpCase c;
  c.copies = CopiesOf(static_cast<double>(bytes), cold_bytes);
  const auto w = Random(n * k, DType::kF32, 0.02f);
  const auto x = Random(m * k, DType::kF32, 1.0f);
  const auto y = std::make_shared<Buffer>(m * n * 4), codes = std::make_shared<Buffer>(c.copies * bytes);
  const auto matrix = [=](int64_t copy) { return kernels::CodedMatrixIn(codes->data() + copy * bytes, n, k); };
  for (int64_t copy = 0; copy < c.copies; ++copy) {
    kernels::CodeMatrix(ctx, {.data = w->data(), .dtype = DType::kF32, .rows = n, .cols = k}, matrix(copy));
  }
  c.operations = 2 * static_cast<double>(m * n) * static_cast<double>(k);
  c.bytes = static_cast<double>(bytes + x->bytes() + y->bytes());
  c.unit = Unit::kInt8;
  const auto call = [=, &ctx](int64_t copy, Arena& scratch) {
    kernels::UpperBounds(ctx, scratch,
                         {.y = y->data<float>(), .ldy = n, .x = x->data<float>(), .ldx = k, .m = m, .w = matrix(copy)});
  };
  const auto scratch = Planned([&](Arena& planner) { call(0, planner); });
  c.run = [=](int64_t copy) { call(copy, *scratch); };
  c.spans = [=](int64_t copy) { return std::vector<ByteSpan>{{codes->data() + copy * bytes, bytes}}; };
  return c;
}

const std::vector<std::pair<std::string, Maker>>& Makers() {
  static const std::vector<std::pair<std::string, Maker>> makers = [] {
    std::vector<std::pair<std::string, Maker>> all = {{"linear", Linear},
                                                      {"transposed", Transposed},
                                                      {"attention", Attention},
                                                      {"latent", Latent},
                                                      {"bounds", Bounds}};
    all.insert(all.end(), GradientMakers().begin(), GradientMakers().end());
    all.insert(all.end(), RowMakers().begin(), RowMakers().end());
    all.insert(all.end(), TrainingMakers().begin(), TrainingMakers().end());
    return all;
  }();
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

double ColdBytes() { return std::max(4.0 * static_cast<double>(LastLevelCacheBytes()), 192e6); }

OpCase MakeCase(Context& ctx, const std::string& op, const std::string& problem, double cold_bytes) {
  for (const auto& [name, maker] : Makers()) {
    if (name == op) return maker(ctx, problem, cold_bytes);
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
  // Training on 4096 tokens: a projection, the dense feed-forward, 64 experts of 8 chosen.
  for (const char* op : {"linear", "linear_backward_input", "linear_backward_weight"}) {
    for (const char* sizes : {"m4096n1024k1024", "m4096n2560k1024"}) {
      suite.emplace_back(op, std::string(sizes) + ":bf16:bf16");
    }
    for (const char* sizes : {"m512n256k1024", "m512n1024k256"}) {
      suite.emplace_back(op, std::string(sizes) + ":bf16:bf16:j64");
    }
  }
  // The same in FP8.
  for (const char* op : {"linear", "linear_backward_input", "linear_backward_weight"}) {
    suite.emplace_back(op, "m4096n1024k1024:fp8:f8e4m3");
    if (op != std::string_view("linear")) suite.emplace_back(op, "m512n128k256:fp8:f8e4m3:j16");
  }
  suite.emplace_back("experts", "m512n128k256:fp8:f8e4m3:j16");
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
                                                        {"latent", "q1l4096h8:bf16:f8e4m3"},
                                                        {"latent", "q1l16384h8:bf16:f8e4m3"},
                                                        {"latent", "q1l4096h8:f32"},
                                                        {"bounds", "m1n129280k1024"},
                                                        {"bounds", "m8n129280k1024"},
                                                        {"bounds", "m32n129280k1024"},
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
                                                        {"quantize", "t512n1024"},
                                                        {"attention_backward", "t512h8s8dn64dr32dv64:bf16"},
                                                        {"attention_backward", "t4096h8:bf16"},
                                                        {"attention_backward", "t512h8s8dn64dr32dv64:f32"},
                                                        {"norm_backward", "t4096n512"},
                                                        {"swiglu_backward", "t4096n1536"},
                                                        {"gate_backward", "t4096e64k6"},
                                                        {"cross_entropy", "t512n8192"},
                                                        {"embed_backward", "t4096n512"},
                                                        {"adamw", "n50000000:f32"},
                                                        {"adamw", "n50000000:bf16"},
                                                        {"sum_of_squares", "n50000000"}}) {
    suite.emplace_back(op, problem);
  }
  return suite;
}

}  // namespace fathom::bench
