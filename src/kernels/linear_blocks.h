// Products that write rows of C where they lie: C (m, n) = or += the sum over terms of A (m, k) B (k, n), with blocks
// of A and B packed just before use. The gradients of Linear (linear_backward.cpp) and Linear itself for many rows
// (linear_tiles.cpp) are such products. Private to kernels/.
//
// A task is a block of rows of C and some or all of its columns. For each depth of k it packs its rows of A, then B by
// groups of columns, which stay in the second cache while the rows of A pass. Tasks are few and large: what several of
// them need, each packs for itself, straight from its source, so that nothing packed goes through the memory.
//
// k runs through all terms, each begun at an even place for bf16 (padded with zeros), and is cut at fixed distances:
// the order of a sum depends on the shapes only, not on blocks, tasks and threads.
#pragma once

#include "kernels/linear_tiles.h"

namespace fathom::kernels {

// Element (i, j) of a matrix in memory is column j of its row rows[i] (null: i), `ld` elements apart.
struct BlockOperand {
  const void* data = nullptr;
  DType dtype = DType::kF32;  // or kBF16; b of a term of codes also kF8E4M3
  int64_t ld = 0;
  const int32_t* rows = nullptr;

  int64_t size() const { return dtype == DType::kF32 ? 4 : dtype == DType::kBF16 ? 2 : 1; }
  const std::byte* At(int64_t i, int64_t j) const {
    return static_cast<const std::byte*>(data) + ((rows ? rows[i] : i) * ld + j) * size();
  }
};

struct BlockTerm {
  BlockOperand a, b;
  int64_t k = 0;
  bool round = false;  // float32 values of a and b to bf16
  // Of a scaled job: a is quantised, in 1x128 tiles along k (or in blocks of 128 x 128) or rounded if `round` says so,
  // b are the codes of `weight`. Of one with A turned: a and b are quantised in 128x1 tiles.
  bool codes = false, a_blocks = false, ue8m0 = false;
  const Weight* weight = nullptr;
};

struct BlockJob {
  void* c = nullptr;
  int64_t ldc = 0;
  DType c_dtype = DType::kF32;  // or kBF16: then FitsBf16(k), not accumulated, A not turned
  bool accumulate = false;      // C +=
  int64_t m = 0, n = 0;
  int64_t k = 0;          // of all terms, see PaddedK
  bool bf16 = false;      // products by mul_bf16, else mul_f32
  bool a_turned = false;  // A(r, j) is element (j, r) of a term's a, else (r, j)
  bool scaled = false;    // products of FP8 codes: linear_scaled.cpp
  bool b_turned = false;  // B(j, c) is element (c, j) of a term's b, else (j, c). Then b has no `rows`, bf16 k is even
  int64_t terms = 1;
  BlockTerm (*term)(const void* source, int64_t i) = nullptr;
  const void* source = nullptr;
};

inline int64_t PaddedK(int64_t k, bool bf16) { return bf16 ? RoundUp(k, 2) : k; }
// Of a term of the job.
inline int64_t PaddedK(const BlockJob& job, int64_t k) {
  return job.scaled ? RoundUp(k, kFp8Block) : PaddedK(k, job.bf16);
}

bool FitsBf16(int64_t k);

// How a job is cut into tasks.
struct BlockCut {
  int64_t rows = 0, m_blocks = 0;
  int64_t columns = 0, n_blocks = 0;

  int64_t tasks() const { return m_blocks * n_blocks; }
};
// At least `tasks` tasks, if that does not make them too small. Columns are a multiple of `column_step`, rows of
// `row_step`, but for the last.
inline constexpr int64_t kRowStep = 32, kColumnStep = 3 * kLanes;  // of the products' blocks
BlockCut CutBlocks(int64_t m, int64_t n, int64_t tasks, int64_t row_step = kRowStep, int64_t column_step = kColumnStep);

// Scratch of a task, aligned to 64 bytes.
int64_t BlockScratch();
// Several jobs: of the same B, none with more rows than the cut's one block, their rows come to no more than 512; or
// scaled ones of the same A and m, with B turned and one block of columns.
void RunBlock(const Tiles& tiles, std::span<const BlockJob> jobs, const BlockCut& cut, int64_t task,
              std::byte* scratch);

// The same for scaled jobs (linear_scaled.cpp).
int64_t ScaledScratch();
void RunScaledBlock(const Tiles& tiles, std::span<const BlockJob> jobs, const BlockCut& cut, int64_t task,
                    std::byte* scratch);

// All jobs of a call: `job(source, i)` for i < jobs. Empty ones (m or n 0) are skipped; with k = 0 C is zeroed.
struct BlockCall {
  int64_t jobs = 0;
  BlockJob (*job)(const Tiles& tiles, const void* source, int64_t i) = nullptr;
  const void* source = nullptr;
};
void RunBlocks(const Tiles& tiles, Context& ctx, Arena& scratch, const BlockCall& call);

}  // namespace fathom::kernels
