#include "tensor/host_tensor.h"

#include "base/error.h"

namespace ingot {

HostTensor::HostTensor(TensorType type_) : type(std::move(type_)), values(static_cast<size_t>(type.elements())) {}

HostTensor::HostTensor(TensorType type_, std::vector<double> values_)
    : type(std::move(type_)), values(std::move(values_)) {
  if (static_cast<int64_t>(values.size()) != type.elements())
    fail(ErrorCode::kRuntime, "{} values do not fill {}", values.size(), print(type));
}

HostTensor::HostTensor(const TensorView& view) : HostTensor(view.type) {
  for (size_t i = 0; i < values.size(); ++i) values[i] = view[static_cast<int64_t>(i)];
}

std::vector<std::byte> HostTensor::bytes() const {
  std::vector<std::byte> bytes(static_cast<size_t>(type.bytes()));
  for (size_t i = 0; i < values.size(); ++i)
    store_element(type.dtype, bytes.data(), static_cast<int64_t>(i), values[i]);
  return bytes;
}

double rounded(DType dtype, double value) {
  double stored;
  store_element(dtype, &stored, 0, value);
  return load_element(dtype, &stored, 0);
}

void round_values(HostTensor& tensor) {
  if (tensor.type.dtype == DType::kF64) return;
  for (double& value : tensor.values) value = rounded(tensor.type.dtype, value);
}

HostTensor widened(const HostTensor& tensor) {
  HostTensor wide = tensor;
  if (is_float(wide.type.dtype)) wide.type.dtype = DType::kF64;
  return wide;
}

}  // namespace ingot
