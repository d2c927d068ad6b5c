// How a warp copies 16 positions of a sequence, K or V of one kv head, from the pages into shared memory.
//
// #defines: those of attention_step.cuh. HEAD and V_HEAD are multiples of 16. Rows are padded by 16 bytes in shared
// memory: ldmatrix without conflicts.
#pragma once

#include "attention_step.cuh"
#include "device/mma_sync.cuh"

namespace attention {

constexpr int kPiece = 16;  // positions
// Positions that follow each other in memory, and how many such runs a piece has.
constexpr int kRun = greatest_divisor(PAGE, kPiece), kRuns = kPiece / kRun;
constexpr int row_bytes(int size) { return size * 2 + 16; }

// Copies pieces of one sequence and kv head, in rising order.
struct PieceCopier {
  const int* pages;                   // of the sequence
  int kv_head, first_slot, end_slot;  // slots outside of these become zeros
  // Lane l knows the page of run listed + l.
  int listed = -32, page = 0;

  // Has to come before the copies of `piece`, and is best done early.
  __device__ __forceinline__ void prepare(int piece) {
    if (piece * kRuns < listed + 32) return;
    listed = piece * kRuns;
    int slot = (listed + int(threadIdx.x & 31)) * kRun;
    page = slot < end_slot ? pages[slot / PAGE] : 0;
  }

  template <int SIZE>
  __device__ __forceinline__ void copy(uint32 target, const KT* state, int piece) const {
    int slot = piece * kPiece;
    if (slot >= first_slot && slot + kPiece <= end_slot)
      copy_rows<SIZE, true>(target, state, slot);
    else
      copy_rows<SIZE, false>(target, state, slot);
  }

 private:
  template <int SIZE, bool WHOLE>
  __device__ __forceinline__ void copy_rows(uint32 target, const KT* state, int slot) const {
    constexpr int kChunks = SIZE / 8;
    int lane = threadIdx.x & 31, run = slot / kRun - listed;
    const KT* begin = state + vector_begin(__shfl_sync(kAll, page, run), kv_head, slot % PAGE, SIZE);
#pragma unroll
    for (int i = 0; i < kPiece * kChunks / 32; ++i) {
      int index = i * 32 + lane, row = index / kChunks, chunk = index % kChunks;
      const KT* source = begin + index * 8;
      if constexpr (kRuns > 1) {
        int row_page = __shfl_sync(kAll, page, run + row / kRun);
        source = state + vector_begin(row_page, kv_head, (slot + row) % PAGE, SIZE) + chunk * 8;
      }
      bool wanted = WHOLE || unsigned(slot + row - first_slot) < unsigned(end_slot - first_slot);
      copy_async(target + row * row_bytes(SIZE) + chunk * 16, source, wanted);
    }
  }
};

}  // namespace attention
