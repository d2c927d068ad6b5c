#include "kernels/cpu/norm.h"

#include "base/error.h"
#include "kernels/cpu/rows.h"

namespace ingot {

namespace {

// The result of a norm, row by row: made in place, or in a buffer that goes into tiles.
class NormedRows {
 public:
  NormedRows(const Argument& y, int64_t gives_tiles) : y_(y.as<float>()) {
    if (gives_tiles == 0) return;
    const int64_t columns = row_size(y);
    if (columns > kMostTiledNorm || columns % kTileColumns != 0)
      fail(ErrorCode::kIncompatible, "a norm cannot hand over rows of {} in tiles; rebuild the engine", columns);
    tiles_ = {y.data, element_count(y) / columns, columns, gives_tiles};
  }

  float* place(int64_t element, float* buffer) const { return tiles_.data ? buffer : y_ + element; }
  void put(int64_t element, const float* made, int64_t size) const {
    if (tiles_.data) put_in_tiles(tiles_, element / tiles_.columns, element % tiles_.columns, made, size);
  }

 private:
  float* y_;
  TiledRows tiles_;
};

// f(first element of the row in all rows, where to make the row, room for a row)
template <class F>
void for_each_row(const Launch& launch, const VectorFunctions& functions, const NormedRows& y, int64_t rows,
                  int64_t size, int64_t cost, F f) {
  for_each_row_range(launch, rows, cost, [&](int64_t begin, int64_t end) {
    alignas(64) float made[kMostTiledNorm], room[kMostTiledNorm];
    for (int64_t i = begin * size; i < end * size; i += size) {
      float* to = y.place(i, made);
      f(i, to, room);
      y.put(i, to, size);
    }
    functions.end_stream();
  });
}

// Sums that no cache would hold until they are read again go past the caches, which need not read them before then.
class SummedRows {
 public:
  SummedRows(const Argument& s, int64_t size, const VectorFunctions& functions)
      : s_(s.as<float>()),
        size_(size),
        functions_(functions),
        past_caches_(size <= kMostTiledNorm && size % 16 == 0 && reinterpret_cast<uintptr_t>(s_) % 64 == 0 &&
                     element_count(s) >= kPastCaches) {}

  float* place(int64_t element, float* room) const { return past_caches_ ? room : s_ + element; }
  void put(int64_t element, const float* made) const {
    if (past_caches_) functions_.stream(made, s_ + element, size_);
  }

 private:
  static constexpr int64_t kPastCaches = 1 << 18;
  float* s_;
  int64_t size_;
  const VectorFunctions& functions_;
  bool past_caches_;
};

}  // namespace

void run(const NormParameters<RmsNorm>& op, const VectorFunctions& functions, const Launch& launch) {
  const float *x = launch.arguments[0].as<float>(), *gamma = launch.arguments[1].as<float>();
  const int64_t size = row_size(launch.arguments[1]), rows = element_count(launch.arguments[0]) / size;
  for_each_row(launch, functions, {launch.arguments[2], op.gives_tiles}, rows, size, size,
               [&](int64_t i, float* y, float*) { functions.rms_norm(x + i, gamma, op.epsilon, y, size); });
}

void run(const NormParameters<LayerNorm>& op, const VectorFunctions& functions, const Launch& launch) {
  const float *x = launch.arguments[0].as<float>(), *gamma = launch.arguments[1].as<float>();
  const float* beta = launch.arguments[2].as<float>();
  const int64_t size = row_size(launch.arguments[1]), rows = element_count(launch.arguments[0]) / size;
  for_each_row(launch, functions, {launch.arguments[3], op.gives_tiles}, rows, size, size,
               [&](int64_t i, float* y, float*) { functions.layer_norm(x + i, gamma, beta, op.epsilon, y, size); });
}

void run(const NormParameters<AddRmsNorm>& op, const VectorFunctions& functions, const Launch& launch) {
  const float *a = launch.arguments[0].as<float>(), *b = launch.arguments[1].as<float>();
  const float* gamma = launch.arguments[2].as<float>();
  const int64_t size = row_size(launch.arguments[2]), rows = element_count(launch.arguments[0]) / size;
  const SummedRows sums(launch.arguments[3], size, functions);
  const NormedRows results(launch.arguments[4], op.gives_tiles);
  for_each_row(launch, functions, results, rows, size, 2 * size, [&](int64_t i, float* y, float* room) {
    float* s = sums.place(i, room);
    functions.add_rms_norm(a + i, b + i, gamma, op.epsilon, s, y, size);
    sums.put(i, s);
  });
}

void run(const NormParameters<AddLayerNorm>& op, const VectorFunctions& functions, const Launch& launch) {
  const float *a = launch.arguments[0].as<float>(), *b = launch.arguments[1].as<float>();
  const float *gamma = launch.arguments[2].as<float>(), *beta = launch.arguments[3].as<float>();
  const int64_t size = row_size(launch.arguments[2]), rows = element_count(launch.arguments[0]) / size;
  const SummedRows sums(launch.arguments[4], size, functions);
  const NormedRows results(launch.arguments[5], op.gives_tiles);
  for_each_row(launch, functions, results, rows, size, 2 * size, [&](int64_t i, float* y, float* room) {
    float* s = sums.place(i, room);
    functions.add(a + i, b + i, s, size);
    functions.layer_norm(s, gamma, beta, op.epsilon, y, size);
    sums.put(i, s);
  });
}

}  // namespace ingot
