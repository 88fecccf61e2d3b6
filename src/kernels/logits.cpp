// Operations on a row of logits: choice of an implementation.
#include "kernels/reference/logits.h"
#include "kernels/logit_ops.h"
#include "kernels/registry.h"
#include "kernels/simd/logits.h"

namespace fathom::kernels {
namespace {

struct AnyRow {};
constexpr Entry<void (*)(float*, const float*, int64_t), AnyRow> kMaxima[] = {
    FATHOM_SIMD_ENTRIES(Maxima), {"reference", Isa::kReference, reference::Maxima}};
constexpr Entry<void (*)(float*, double*, const float*, int64_t, float, float), AnyRow> kExpSums[] = {
    FATHOM_SIMD_ENTRIES(ExpSums), {"reference", Isa::kReference, reference::ExpSums}};
constexpr Entry<void (*)(float*, double*, const float*, int64_t, float), AnyRow> kExcessSums[] = {
    FATHOM_SIMD_ENTRIES(ExcessSums), {"reference", Isa::kReference, reference::ExcessSums}};
constexpr Entry<int64_t (*)(int32_t*, const float*, int64_t, float), AnyRow> kAtLeast[] = {
    FATHOM_SIMD_ENTRIES(AtLeast), {"reference", Isa::kReference, reference::AtLeast}};

template <class Fn, size_t n>
Fn Best(Isa isa, const Entry<Fn, AnyRow> (&table)[n]) {
  const auto* entry = table;
  while (!Allows(isa, entry->isa) || !MachineHas(entry->isa)) ++entry;  // the reference is always allowed
  return entry->fn;
}

}  // namespace

void Maxima(Isa isa, float* maxima, const float* x, int64_t n) { Best(isa, kMaxima)(maxima, x, n); }

void ExpSums(Isa isa, float* y, double* sums, const float* x, int64_t n, float top, float scale) {
  Best(isa, kExpSums)(y, sums, x, n, top, scale);
}

void ExcessSums(Isa isa, float* y, double* sums, const float* x, int64_t n, float factor) {
  Best(isa, kExcessSums)(y, sums, x, n, factor);
}

int64_t AtLeast(Isa isa, int32_t* ids, const float* x, int64_t n, float floor) {
  return Best(isa, kAtLeast)(ids, x, n, floor);
}

void AppendLogitOps(std::vector<OpEntry>& ops) {
  AppendTable(ops, "Maxima", kMaxima);
  AppendTable(ops, "ExpSums", kExpSums);
  AppendTable(ops, "ExcessSums", kExcessSums);
  AppendTable(ops, "AtLeast", kAtLeast);
}

}  // namespace fathom::kernels
