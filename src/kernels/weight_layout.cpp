#include "kernels/weight_layout.h"

#include "kernels/cpu/pack.h"

namespace ingot {

namespace {

bool is_weight(const TensorType& type) {
  bool stored = type.dtype == DType::kF32 || type.dtype == DType::kF16 || type.dtype == DType::kBF16;
  return stored && type.layout.empty() && type.is_constant() && (type.rank() == 2 || type.rank() == 3);
}

template <int64_t columns>
int64_t packed_bytes(const TensorType& type) {
  std::vector<int64_t> sizes = type.sizes();
  int64_t k = sizes.back(), n = sizes[sizes.size() - 2], matrices = sizes.size() == 3 ? sizes[0] : 1;
  return matrices * ((n + columns - 1) / columns) * panel_bytes(type.dtype, columns, k);
}

template <int64_t columns>
void pack(DType dtype, const void* source, int64_t rows, int64_t cols, void* out) {
  pack_panel(dtype, source, rows, cols, columns, out);
}

template <int64_t columns>
constexpr WeightLayout panel(std::string_view name) {
  return {name, columns, is_weight, packed_bytes<columns>, pack<columns>};
}

constexpr WeightLayout kLayouts[] = {panel<16>("panel_16"), panel<32>("panel_32")};

}  // namespace

const WeightLayout* find_weight_layout(std::string_view name) {
  for (const WeightLayout& layout : kLayouts)
    if (layout.name == name) return &layout;
  return nullptr;
}

}  // namespace ingot
