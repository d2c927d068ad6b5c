// The last step of decodes that several blocks shared without a cluster (attention_parts.cuh): adds up their parts. A
// block makes one pair of one sequence. Grid: sequences * kPairs.
#include "attention_parts.cuh"

extern "C" __global__ void __launch_bounds__(128)
    attention_combine(const attention::PartSums* partial, const int* query_starts, QT* y) {
  using namespace attention;
  allow_next();
  wait_for_previous();
  int s = blockIdx.x / kPairs, pair = blockIdx.x % kPairs, in_group = pair % kParts * PART_HEADS;
  int token = query_starts[s], heads = min(PART_HEADS, kGroup - in_group);
  if (query_starts[s + 1] - token != 1) return;
  const PartSums* parts = partial + first_part(s, token, pair);
  auto values = [&](int i, int at) { return *reinterpret_cast<const Sums*>(parts[i].values + at); };
  auto weights = [&](int i, int head) { return parts[i].weights[head]; };
  QT* out = y + (int64(token) * HEADS + pair / kParts * kGroup + in_group) * V_HEAD;
  for (int at = threadIdx.x * kWidth; at < heads * V_HEAD; at += 128 * kWidth) {
    float2 total;
    Sums sums = add_up<DECODE_SPLITS>(at, values, weights, total);
    write_result(out + at, sums, total.y);
  }
}
