#include "kernels/cpu/op_kernel.h"
#include "kernels/cpu/rows.h"

namespace ingot {

namespace {

// exp, tanh and division cost about this many additions.
constexpr int64_t kFunctionCost = 4;

using BinaryFunction = void (*)(const float* a, const float* b, float* y, int64_t count);

// y = f(a, b); b is of a's shape or one row.
void run_binary(BinaryFunction f, const Launch& launch) {
  const float *a = launch.arguments[0].as<float>(), *b = launch.arguments[1].as<float>();
  float* y = launch.arguments[2].as<float>();
  const int64_t size = row_size(launch.arguments[0]), count = element_count(launch.arguments[0]);
  if (element_count(launch.arguments[1]) == count) {
    return for_each_row_range(launch, count, 1,
                              [&](int64_t begin, int64_t end) { f(a + begin, b + begin, y + begin, end - begin); });
  }
  for_each_row_range(launch, count / size, size, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin * size; i < end * size; i += size) f(a + i, b, y + i, size);
  });
}

}  // namespace

void run(const Add&, const VectorFunctions& functions, const Launch& launch) { run_binary(functions.add, launch); }

void run(const Multiply&, const VectorFunctions& functions, const Launch& launch) {
  run_binary(functions.multiply, launch);
}

void run(const Scale& op, const VectorFunctions& functions, const Launch& launch) {
  const float* x = launch.arguments[0].as<float>();
  float* y = launch.arguments[1].as<float>();
  for_each_row_range(launch, element_count(launch.arguments[0]), 1, [&](int64_t begin, int64_t end) {
    functions.scale(x + begin, op.factor, y + begin, end - begin);
  });
}

void run(const SoftCap& op, const VectorFunctions& functions, const Launch& launch) {
  const float* x = launch.arguments[0].as<float>();
  float* y = launch.arguments[1].as<float>();
  for_each_row_range(launch, element_count(launch.arguments[0]), kFunctionCost, [&](int64_t begin, int64_t end) {
    functions.soft_cap(x + begin, op.cap, y + begin, end - begin);
  });
}

void run(const Activation& op, const VectorFunctions& functions, const Launch& launch) {
  const float* x = launch.arguments[0].as<float>();
  float* y = launch.arguments[1].as<float>();
  for_each_row_range(launch, element_count(launch.arguments[0]), kFunctionCost, [&](int64_t begin, int64_t end) {
    functions.activate(op.function, x + begin, y + begin, end - begin);
  });
}

void run(const GatedActivation& op, const VectorFunctions& functions, const Launch& launch) {
  const float* x = launch.arguments[0].as<float>();
  if (launch.arguments.size() == 3) {
    const float* up = launch.arguments[1].as<float>();
    float* y = launch.arguments[2].as<float>();
    return for_each_row_range(launch, element_count(launch.arguments[0]), kFunctionCost,
                              [&](int64_t begin, int64_t end) {
                                functions.gate(op.function, x + begin, up + begin, y + begin, end - begin);
                              });
  }
  float* y = launch.arguments[1].as<float>();
  // Elements rather than rows are shared: one token of a wide model is work for several threads.
  const int64_t size = row_size(launch.arguments[1]), count = element_count(launch.arguments[1]);
  for_each_row_range(launch, count, kFunctionCost, [&](int64_t begin, int64_t end) {
    while (begin < end) {
      int64_t row = begin / size, column = begin % size, part = std::min(end - begin, size - column);
      const float* gate = x + row * 2 * size + column;
      functions.gate(op.function, gate, gate + size, y + begin, part);
      begin += part;
    }
  });
}

void run(const Cast& op, const VectorFunctions& functions, const Launch& launch) {
  const DType from = launch.arguments[0].dtype;
  const auto* x = launch.arguments[0].as<char>();
  auto* y = launch.arguments[1].as<char>();
  for_each_row_range(launch, element_count(launch.arguments[0]), 1, [&](int64_t begin, int64_t end) {
    constexpr int64_t kPiece = 256;
    float piece[kPiece];
    for (int64_t i = begin; i < end; i += kPiece) {
      const int64_t count = std::min(kPiece, end - i);
      functions.widen(from, x + i * size_of(from), piece, count);
      functions.narrow(op.dtype, piece, y + i * size_of(op.dtype), count);
    }
  });
}

}  // namespace ingot
