// Writing keys and values into their pages. States are [pool_pages, kv_heads, page_size, head_size].
#include <cstring>

#include "kernels/cpu/kv_write.h"
#include "kernels/cpu/op_kernel.h"
#include "kernels/cpu/rows.h"

namespace ingot {

namespace {

// Asks for memory that the next row reads or writes, while this one is at work: pieces of rows are too short, and their
// streams too many, for the hardware to foresee.
template <bool kToWrite>
void ask_for(const char* begin, int64_t bytes) {
  for (int64_t i = 0; i < bytes; i += 64) __builtin_prefetch(begin + i, kToWrite);
}
template <bool kToWrite>
void ask_for(const float* begin, int64_t count) {
  ask_for<kToWrite>(reinterpret_cast<const char*>(begin), count * static_cast<int64_t>(sizeof(float)));
}

// Where the vectors of the slots of a state lie.
struct SlotWriter {
  const VectorFunctions& functions;
  DType dtype;
  int64_t kv_heads, page_size, head_size;
  char* data;

  SlotWriter(const Argument& state, const VectorFunctions& functions_)
      : functions(functions_),
        dtype(state.dtype),
        kv_heads(state.size[1]),
        page_size(state.size[2]),
        head_size(state.size[3]),
        data(state.as<char>()) {}

  // The vector of the first head; those of the others are `page_size` vectors apart.
  char* first(int64_t slot) const {
    const int64_t vector = slot / page_size * kv_heads * page_size + slot % page_size;
    return data + vector * head_size * size_of(dtype);
  }
  char* of_head(char* first_head, int64_t head) const {
    return first_head + head * page_size * head_size * size_of(dtype);
  }
  void write(char* first_head, int64_t head, const float* x) const {
    functions.narrow(dtype, x, of_head(first_head, head), head_size);
  }
  // `count` elements of the slot behind this one, most often the one of the next row.
  void ask_for_next(char* first_head, int64_t head, int64_t count) const {
    ask_for<true>(of_head(first_head, head) + head_size * size_of(dtype), count * size_of(dtype));
  }
};

// Normalizes (if `gamma`) and rotates one head.
struct HeadRotation {
  const RopeKvWrite& op;
  const VectorFunctions& functions;
  int64_t head_size, rotated;

  void apply(const float* x, const float* gamma, const float* angles, float* y) const {
    if (gamma) {
      functions.rms_norm(x, gamma, op.epsilon, y, head_size);
      functions.rotate(y, angles, rotated / 2, op.interleaved, y);
      return;
    }
    functions.rotate(x, angles, rotated / 2, op.interleaved, y);
    if (rotated < head_size)
      std::memcpy(y + rotated, x + rotated, static_cast<size_t>(head_size - rotated) * sizeof(float));
  }
};

}  // namespace

void run(const KvWrite&, const VectorFunctions& functions, const Launch& launch) {
  const float* x = launch.arguments[1].as<float>();
  const int32_t* slots = launch.arguments[2].as<int32_t>();
  const SlotWriter state(launch.arguments[3], functions);
  const int64_t size = row_size(launch.arguments[1]);
  for_each_row_range(launch, launch.arguments[1].size[0], size, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      if (slots[i] < 0) continue;
      char* first = state.first(slots[i]);
      for (int64_t head = 0; head < state.kv_heads; ++head)
        state.write(first, head, x + i * size + head * state.head_size);
    }
  });
}

void run(const RopeKvWrite& op, const VectorFunctions& functions, const Launch& launch) {
  const auto& arguments = launch.arguments;
  const size_t results = op.norm ? 7 : 5;
  const float *qkv = arguments[0].as<float>(), *angles = arguments[1].as<float>();
  const int32_t* slots = arguments[4].as<int32_t>();
  const float* q_gamma = op.norm ? arguments[5].as<float>() : nullptr;
  const float* k_gamma = op.norm ? arguments[6].as<float>() : nullptr;
  float* q = arguments[results].as<float>();
  const SlotWriter k_state(arguments[results + 1], functions), v_state(arguments[results + 2], functions);
  const int64_t head_size = k_state.head_size, kv_heads = k_state.kv_heads;
  const int64_t size = row_size(arguments[0]), rotated = row_size(arguments[1]);
  const HeadRotation rotation{op, functions, head_size, rotated};
  for_each_row_range(launch, arguments[0].size[0], 2 * size, [&](int64_t begin, int64_t end) {
    float rotated_key[kMaxKvWriteHeadSize];
    for (int64_t i = begin; i < end; ++i) {
      const float *x = qkv + i * size, *row_angles = angles + i * rotated;
      const int64_t ahead = i + 1 < end ? head_size : 0;
      for (int64_t head = 0; head < op.heads; ++head) {
        const float* query = x + head * head_size;
        float* to = q + (i * op.heads + head) * head_size;
        ask_for<false>(query + size, ahead);
        ask_for<true>(to + op.heads * head_size, ahead);
        rotation.apply(query, q_gamma, row_angles, to);
      }
      if (slots[i] < 0) continue;
      char *first_key = k_state.first(slots[i]), *first_value = v_state.first(slots[i]);
      for (int64_t head = 0; head < kv_heads; ++head) {
        const float *key = x + (op.heads + head) * head_size, *value = key + kv_heads * head_size;
        ask_for<false>(key + size, ahead);
        ask_for<false>(value + size, ahead);
        k_state.ask_for_next(first_key, head, ahead);
        v_state.ask_for_next(first_value, head, ahead);
        rotation.apply(key, k_gamma, row_angles, rotated_key);
        k_state.write(first_key, head, rotated_key);
        v_state.write(first_value, head, value);
      }
    }
  });
}

}  // namespace ingot
