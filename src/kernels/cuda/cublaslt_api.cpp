#include "kernels/cuda/cublaslt_api.h"

#include <array>
#include <charconv>
#include <map>
#include <mutex>

#include "base/error.h"
#include "base/fields.h"
#include "base/hash.h"
#include "device/cuda/library.h"

namespace ingot::cublaslt {

namespace {

constexpr int64_t kAlignment = 64;  // what memory plans and weight sections promise

Library open_library() {
  Library library;
  const cuda::SharedLibrary shared({"libcublasLt.so.13"});
  if (!shared.ok()) {
    library.missing = shared.missing();
    return library;
  }
#define INGOT_LOOK_UP(result, member, name, ...)                                     \
  library.member = reinterpret_cast<decltype(library.member)>(shared.symbol(#name)); \
  if (!library.member && library.missing.empty()) library.missing = "libcublasLt.so.13 has no function " #name;
  INGOT_CUBLASLT_FUNCTIONS(INGOT_LOOK_UP)
#undef INGOT_LOOK_UP
  if (library.ok()) library.version = static_cast<int64_t>(library.get_version());
  return library;
}

DataType data_type(DType dtype) {
  if (dtype == DType::kF32) return kFloat32;
  if (dtype == DType::kF16) return kFloat16;
  if (dtype == DType::kBF16) return kBFloat16;
  fail(ErrorCode::kIncompatible, "cuBLASLt is used with f32, f16 and bf16 only, not with {}", enum_name(dtype));
}

uint32_t epilogue(const Matmul& op) {
  uint32_t function = op.function == ActivationFunction::kRelu       ? kRelu
                      : op.function == ActivationFunction::kGeluTanh ? kGelu
                                                                     : 0u;
  if (op.bias) function |= kBias;
  return function ? function : uint32_t{kPlain};
}

}  // namespace

const Library& Library::get() {
  static const Library library = open_library();
  return library;
}

const Connection& Connection::open(const cuda::DevicePtr& device) {
  static std::mutex mutex;
  // Never destroyed: at the end of the process the driver may be gone before us.
  static auto& opened = *new std::map<const cuda::Device*, Connection>;
  const Library& library = Library::get();
  if (!library.ok()) fail(ErrorCode::kIncompatible, "cuBLASLt is missing: {}", library.missing);
  const std::lock_guard lock(mutex);
  if (auto found = opened.find(device.get()); found != opened.end()) return found->second;
  device->make_current();
  Handle handle = nullptr;
  if (Status status = library.create(&handle))
    fail(ErrorCode::kIncompatible, "cuBLASLt {} does not work with this GPU ({}): {}", library.version,
         device->facts().name, library.status_name(status));
  return opened.emplace(device.get(), Connection{library, handle}).first->second;
}

Descriptors::Descriptors(const Connection& connection, const Product& product, const void* bias)
    : connection_(connection),
      residual_(product.op.residual),
      // Some of the split sums are rounded to the result's dtype before the bias is added.
      reductions_(product.op.bias || product.op.function != ActivationFunction::kNone ? kNoReduction : kInComputeType) {
  const Library& library = connection.library;
  check(library.operation_init(&operation_, sizeof operation_, kCompute32F, kFloat32), "cublasLtMatmulDescInit");
  const auto set = [&](OperationAttribute attribute, const auto& value) {
    check(library.operation_set(&operation_, attribute, &value, sizeof value), "cublasLtMatmulDescSetAttribute");
  };
  set(kTransposeA, int32_t{kTranspose});
  set(kEpilogue, epilogue(product.op));
  if (product.op.bias) set(kBiasPointer, bias);
  const DataType operands = data_type(product.operands), result = data_type(product.result);
  const auto init = [&](Layout& layout, DataType type, int64_t rows, int64_t columns) {
    check(library.layout_init(&layout, sizeof layout, type, static_cast<uint64_t>(rows), static_cast<uint64_t>(columns),
                              rows),
          "cublasLtMatrixLayoutInit");
  };
  init(w_, operands, product.k, product.n);
  init(x_, operands, product.k, product.rows);
  init(y_, result, product.n, product.rows);
}

void Descriptors::check(Status status, std::string_view call) const {
  if (status) fail(ErrorCode::kRuntime, "{}: {}", call, connection_.library.status_name(status));
}

std::vector<HeuristicResult> Descriptors::heuristics(int64_t workspace_bytes, int count) {
  const Library& library = connection_.library;
  Preference preference;
  check(library.preference_init(&preference, sizeof preference), "cublasLtMatmulPreferenceInit");
  const auto set = [&](PreferenceAttribute attribute, auto value) {
    check(library.preference_set(&preference, attribute, &value, sizeof value), "cublasLtMatmulPreferenceSetAttribute");
  };
  set(kMaxWorkspaceBytes, static_cast<uint64_t>(workspace_bytes));
  set(kReductionSchemes, uint32_t{reductions_});
  for (PreferenceAttribute attribute : {kAlignmentA, kAlignmentB, kAlignmentC, kAlignmentD})
    set(attribute, static_cast<uint32_t>(kAlignment));
  std::vector<HeuristicResult> results(static_cast<size_t>(count));
  int found = 0;
  const Status status = library.heuristic(connection_.handle, &operation_, &w_, &x_, &y_, &y_, &preference, count,
                                          results.data(), &found);
  if (status == kNotSupported)
    found = 0;
  else
    check(status, "cublasLtMatmulAlgoGetHeuristic");
  results.resize(static_cast<size_t>(found));
  std::erase_if(results, [](const HeuristicResult& result) { return result.state != 0; });
  return results;
}

bool Descriptors::accepts(const Algorithm& algorithm, int64_t workspace_bytes) {
  HeuristicResult result{};
  const Status status =
      connection_.library.check(connection_.handle, &operation_, &w_, &x_, &y_, &y_, &algorithm, &result);
  return status == 0 && result.workspace_bytes <= static_cast<size_t>(workspace_bytes);
}

void Descriptors::run(const Algorithm& algorithm, const Buffers& buffers, int64_t workspace_bytes,
                      cuda::CUstream stream) {
  const float one = 1, zero = 0;
  const void* c = residual_ ? buffers.residual : buffers.y;
  check(connection_.library.matmul(connection_.handle, &operation_, &one, buffers.w, &w_, buffers.x, &x_,
                                   residual_ ? &one : &zero, c, &y_, buffers.y, &y_, &algorithm, buffers.workspace,
                                   static_cast<size_t>(workspace_bytes), stream),
        "cublasLtMatmul");
}

std::string print_algorithm(const Algorithm& algorithm) {
  std::string text;
  for (uint64_t word : algorithm.data) text += hex64(word);
  while (text.ends_with("0000000000000000")) text.resize(text.size() - 16);
  return text;
}

Algorithm parse_algorithm(std::string_view text) {
  Algorithm algorithm{};
  bool fits = text.size() % 16 == 0 && text.size() <= 16 * std::size(algorithm.data);
  for (size_t i = 0; fits && i < text.size() / 16; ++i) {
    const char* digits = text.data() + 16 * i;
    auto [end, error] = std::from_chars(digits, digits + 16, algorithm.data[i], 16);
    fits = error == std::errc() && end == digits + 16;
  }
  if (!fits)
    fail(ErrorCode::kIncompatible, "\"{}\" is not an algorithm of cuBLASLt: words of 16 hexadecimal digits, at most 8",
         text.substr(0, 160));
  return algorithm;
}

}  // namespace ingot::cublaslt
