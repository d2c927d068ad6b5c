// The epilogue of a matmul. Included into the namespace of one instruction set, after the weights' registers.

static void add_row(const float* a, float* y, int64_t count) {
  for (int64_t c = 0; c < count; c += kLanes)
    store_floats(y + c, V::add(load_floats(y + c, count - c), load_floats(a + c, count - c)), count - c);
}

// What follows the sum of products, over a block of y that is still in cache.
static void finish(const MatmulTask& task, int64_t row_begin, int64_t row_end, int64_t begin, int64_t end) {
  bool activate = task.function != ActivationFunction::kNone;
  if (!task.bias && !task.residual && !activate) return;
  for (int64_t row = row_begin; row < row_end; ++row) {
    float* y = task.y + row * task.n + begin;
    if (task.bias) add_row(task.bias + begin, y, end - begin);
    if (activate) task.activate(task.function, y, y, end - begin);
    if (task.residual) add_row(task.residual + row * task.n + begin, y, end - begin);
  }
}
