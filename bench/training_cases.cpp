// Gradients of attention and of the ops on rows, the loss, the optimiser. See op_cases.h for the grammar.
#include <cmath>

#include "kernels/train_ops.h"
#include "op_cases.h"
#include "op_data.h"

namespace fathom::bench {
namespace {

using kernels::ByteSpan;
using Buffers = std::vector<std::shared_ptr<Buffer>>;

// `buffers` are read and, those from `written` on, written (again).
OpCase Case(double operations, const Buffers& buffers, size_t written, std::function<void()> run) {
  OpCase c;
  c.operations = operations;
  for (size_t i = 0; i < buffers.size(); ++i) {
    c.bytes += static_cast<double>(buffers[i]->bytes()) * (i >= written ? 2 : 1);
  }
  c.run = [run = std::move(run)](int64_t) { run(); };
  c.spans = [buffers](int64_t) {
    std::vector<ByteSpan> spans;
    for (const auto& b : buffers) spans.push_back({b->data(), b->bytes()});
    return spans;
  };
  return c;
}

std::shared_ptr<Buffer> Room(int64_t floats) { return std::make_shared<Buffer>(4 * floats); }

OpCase AttentionBackward(Context& ctx, const std::string& text, double) {
  const std::string op = "attention_backward";
  const Problem p =
      Parse(op, text, "t512h8s8:bf16", {{"t", 0}, {"h", 0}, {"s", 1}, {"dn", 128}, {"dr", 64}, {"dv", 128}});
  const int64_t t = p.at("t"), h = p.at("h"), s = p.at("s"), dn = p.at("dn"), dr = p.at("dr"), dv = p.at("dv");
  const kernels::Compute compute = ComputeOf(op, p);
  const int64_t q_row = h * (dn + dr), kv_row = h * (dn + dv), o_row = h * dv;
  const auto q = RandomF32(s * t * q_row), kv = RandomF32(s * t * kv_row), rope = RandomF32(s * t * dr);
  const auto dout = RandomF32(s * t * o_row), out = Room(s * t * o_row), lse = Room(s * t * h);
  const auto dq = Room(s * t * q_row), dkv = Room(s * t * kv_row), dk_rope = Room(s * t * dr);
  const float scale = 1 / std::sqrt(static_cast<float>(dn + dr));
  const auto sequences = std::make_shared<std::vector<kernels::AttentionBackwardArgs>>(static_cast<size_t>(s));
  for (int64_t i = 0; i < s; ++i) {
    kernels::AttentionArgs forward;
    std::byte* block = rope->data() + i * t * dr * 4;
    forward.out = out->data<float>() + i * t * o_row;
    forward.ldo = o_row;
    forward.q = q->data<float>() + i * t * q_row;
    forward.ldq = q_row;
    forward.kv = kv->data<float>() + i * t * kv_row;
    forward.ldkv = kv_row;
    forward.cache = {.blocks = &block, .block_tokens = t, .dtype = DType::kF32, .width = dr};
    forward.heads = h;
    forward.tokens = t;
    forward.dn = dn;
    forward.dr = dr;
    forward.dv = dv;
    forward.scale = scale;
    forward.compute = compute;
    forward.lse = lse->data<float>() + i * t * h;
    forward.ld_lse = h;
    const auto scratch = Planned([&](Arena& planner) { kernels::Attention(ctx, planner, forward); });
    kernels::Attention(ctx, *scratch, forward);
    (*sequences)[static_cast<size_t>(i)] = {.dq = dq->data<float>() + i * t * q_row,
                                            .lddq = q_row,
                                            .dkv = dkv->data<float>() + i * t * kv_row,
                                            .lddkv = kv_row,
                                            .dk_rope = dk_rope->data<float>() + i * t * dr,
                                            .lddk_rope = dr,
                                            .dout = dout->data<float>() + i * t * o_row,
                                            .out = forward.out,
                                            .ldo = o_row,
                                            .q = forward.q,
                                            .ldq = q_row,
                                            .kv = forward.kv,
                                            .kv_dtype = DType::kF32,
                                            .ldkv = kv_row,
                                            .k_rope = rope->data<float>() + i * t * dr,
                                            .ldk_rope = dr,
                                            .lse = forward.lse,
                                            .ld_lse = h,
                                            .heads = h,
                                            .tokens = t,
                                            .dn = dn,
                                            .dr = dr,
                                            .dv = dv,
                                            .scale = scale,
                                            .compute = compute};
  }
  const auto call = [=, &ctx](Arena& scratch) { kernels::AttentionBackward(ctx, scratch, *sequences); };
  const auto scratch = Planned(call);
  // Five products a pair of query and key: scores, dP, dV, dQ, dK.
  const double pairs = p.d("t") * (p.d("t") + 1) / 2 * static_cast<double>(s * h);
  OpCase c = Case(2 * pairs * static_cast<double>(3 * (dn + dr) + 2 * dv), {q, kv, rope, dout, out, lse}, 6,
                  [=, outputs = Buffers{dq, dkv, dk_rope}] { call(*scratch); });
  c.bytes += static_cast<double>(dq->bytes() + dkv->bytes() + dk_rope->bytes());
  c.unit = compute == kernels::Compute::kBf16 ? Unit::kBf16 : Unit::kF32;
  return c;
}

OpCase NormBackward(Context& ctx, const std::string& text, double) {
  const Problem p = Parse("norm_backward", text, "t4096n512", {{"t", 0}, {"n", 0}});
  const int64_t t = p.at("t"), n = p.at("n");
  const auto x = RandomF32(t * n), dy = RandomF32(t * n), dx = Room(t * n), w = RandomF32(n), dw = Room(n);
  const auto call = [=, &ctx](Arena& scratch) {
    kernels::RmsNormBackward(ctx, scratch,
                             {.dx = dx->data<float>(),
                              .lddx = n,
                              .dw = dw->data<float>(),
                              .dy = dy->data<float>(),
                              .lddy = n,
                              .x = x->data<float>(),
                              .ldx = n,
                              .rows = t,
                              .n = n,
                              .weight = w->data()});
  };
  const auto scratch = Planned(call);
  return Case(12 * p.d("t") * p.d("n"), {x, dy, dx, w, dw}, 4, [=] { call(*scratch); });
}

OpCase SwigluBackward(Context& ctx, const std::string& text, double) {
  const Problem p = Parse("swiglu_backward", text, "t4096n1536", {{"t", 0}, {"n", 0}});
  const int64_t t = p.at("t"), n = p.at("n");
  const auto gate = RandomF32(t * n), up = RandomF32(t * n), dy = RandomF32(t * n), weight = RandomF32(t);
  const auto dgate = Room(t * n), dup = Room(t * n), y = Room(t * n), dweight = Room(t);
  return Case(14 * p.d("t") * p.d("n"), {gate, up, dy, weight, dgate, dup, y, dweight}, 8, [=, &ctx] {
    kernels::SwigluBackward(ctx, {.dgate = dgate->data<float>(),
                                  .dup = dup->data<float>(),
                                  .y = y->data<float>(),
                                  .dweight = dweight->data<float>(),
                                  .dy = dy->data<float>(),
                                  .gate = gate->data<float>(),
                                  .up = up->data<float>(),
                                  .weight = weight->data<float>(),
                                  .rows = t,
                                  .n = n});
  });
}

// The router's gradient with the balance loss, and the figures of that loss.
OpCase GateBackward(Context& ctx, const std::string& text, double) {
  const Problem p = Parse("gate_backward", text, "t4096e64k6", {{"t", 0}, {"e", 0}, {"k", 0}});
  const int64_t t = p.at("t"), e = p.at("e"), k = p.at("k");
  if (k > e) throw Error("gate_backward needs k <= e", text);
  const auto logits = RandomF32(t * e), dweights = RandomF32(t * k), dlogits = Room(t * e), f = Room(e),
             share = Room(e);
  const auto ids = Ids(t * k, e), sequence_of = Ids(t, 1);
  const auto call = [=, &ctx](Arena& scratch) {
    const kernels::BalanceArgs balance{.f = f->data<float>(),
                                       .p = share->data<float>(),
                                       .logits = logits->data<float>(),
                                       .tokens = t,
                                       .experts = e,
                                       .top_k = k};
    kernels::Balance(ctx, scratch, {&balance, 1});
    if (scratch.planning()) return;
    kernels::GateBackward(ctx, {.dlogits = dlogits->data<float>(),
                                .dweights = dweights->data<float>(),
                                .ids = ids->data<int32_t>(),
                                .logits = logits->data<float>(),
                                .tokens = t,
                                .experts = e,
                                .top_k = k,
                                .routed_scaling_factor = 2.5f,
                                .balance = f->data<float>(),
                                .sequence_of = sequence_of->data<int32_t>()});
  };
  const auto scratch = Planned(call);
  return Case(p.d("t") * p.d("e"), {logits, dweights, ids, dlogits}, 4, [=] { call(*scratch); });
}

// The logits become their gradient and are taken again: the values change, the work does not.
OpCase CrossEntropy(Context& ctx, const std::string& text, double) {
  const Problem p = Parse("cross_entropy", text, "t512n8192", {{"t", 0}, {"n", 0}});
  const int64_t t = p.at("t"), n = p.at("n");
  const auto logits = RandomF32(t * n), losses = Room(t), argmax = Room(t), targets = Ids(t, n);
  return Case(5 * p.d("t") * p.d("n"), {targets, logits}, 1, [=, &ctx] {
    kernels::CrossEntropy(ctx, {.logits = logits->data<float>(),
                                .losses = losses->data<float>(),
                                .argmax = argmax->data<int32_t>(),
                                .targets = targets->data<int32_t>(),
                                .rows = t,
                                .vocab = n});
  });
}

OpCase EmbedBackward(Context& ctx, const std::string& text, double) {
  const Problem p = Parse("embed_backward", text, "t4096n512", {{"t", 0}, {"n", 0}});
  const int64_t t = p.at("t"), n = p.at("n"), rows = 8192;
  const auto table = Room(rows * n), dy = Random(t * n, DType::kF32, 1e-3f), ids = Ids(t, rows);
  OpCase c = Case(p.d("t") * p.d("n"), {dy, ids}, 2, [=, &ctx] {
    kernels::EmbedBackward(ctx, {.dtable = table->data<float>(),
                                 .dy = dy->data<float>(),
                                 .lddy = n,
                                 .ids = ids->data<int32_t>(),
                                 .rows = t,
                                 .n = n});
  });
  c.bytes += 2.0 * static_cast<double>(dy->bytes());
  return c;
}

OpCase Adamw(Context& ctx, const std::string& text, double) {
  const Problem p = Parse("adamw", text, "n10000000:bf16", {{"n", 0}});
  const int64_t n = p.at("n");
  const DType moments = ComputeOf("adamw", p) == kernels::Compute::kBf16 ? DType::kBF16 : DType::kF32;
  const auto w = RandomF32(n), grad = RandomF32(n), copy = Random(n, DType::kBF16, 1);
  const auto m = std::make_shared<Buffer>(n * SizeOf(moments)), v = std::make_shared<Buffer>(n * SizeOf(moments));
  OpCase c = Case(14 * p.d("n"), {w, grad, m, v}, 0, [=, &ctx] {
    const kernels::AdamwArgs args{.w = w->data<float>(),
                                  .grad = grad->data<float>(),
                                  .m = m->data(),
                                  .v = v->data(),
                                  .moment_dtype = moments,
                                  .bf16 = copy->data<uint16_t>(),
                                  .n = n,
                                  .lr = 1e-4f,
                                  .decay = 0.1f,
                                  .c1 = 0.5f,
                                  .c2 = 0.5f};
    kernels::Adamw(ctx, {&args, 1});
  });
  c.bytes += static_cast<double>(copy->bytes());
  return c;
}

OpCase SumOfSquares(Context& ctx, const std::string& text, double) {
  const Problem p = Parse("sum_of_squares", text, "n10000000", {{"n", 0}});
  const auto x = RandomF32(p.at("n")), sum = Room(2);
  return Case(2 * p.d("n"), {x}, 1, [=, &ctx] {
    const kernels::Values values{x->data<float>(), x->bytes() / 4};
    *sum->data<double>() = kernels::SumOfSquares(ctx, {&values, 1});
  });
}

}  // namespace

const std::vector<std::pair<std::string, Maker>>& TrainingMakers() {
  static const std::vector<std::pair<std::string, Maker>> makers = {{"attention_backward", AttentionBackward},
                                                                    {"norm_backward", NormBackward},
                                                                    {"swiglu_backward", SwigluBackward},
                                                                    {"gate_backward", GateBackward},
                                                                    {"cross_entropy", CrossEntropy},
                                                                    {"embed_backward", EmbedBackward},
                                                                    {"adamw", Adamw},
                                                                    {"sum_of_squares", SumOfSquares}};
  return makers;
}

}  // namespace fathom::bench
