// What we build for, as data; and which instruction sets this machine's CPU has.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace ingot {

// The CPU levels, each including the ones before it. "amx" has AMX bf16 and AVX-512.
enum class CpuLevel { kPortable, kAvx2, kAvx512, kAmx };
std::span<const std::string_view> enum_names(CpuLevel);  // portable avx2 avx512 amx

struct CpuFeatures {
  CpuLevel level = CpuLevel::kPortable;
  bool avx512_bf16 = false;  // VDPBF16PS
  bool avx512_vnni = false;
  std::string model;                          // "Intel(R) Xeon(R) Processor"
  int cores = 1;                              // usable by this process
  std::vector<std::string> instruction_sets;  // for `devices`
};

// Detected once; AMX counts only if the kernel grants it (permission is asked for here).
const CpuFeatures& cpu_features();
// Lowers what cpu_features() reports ("avx2", "avx512"), for tests and for `--cpu-mask`. Never raises it.
void mask_cpu_features(CpuLevel level);

struct Target {
  std::string kind = "cpu";  // "cpu" or "cuda"
  // kind "cuda":
  std::string cuda_arch;    // "sm_90a": what device code is compiled for
  int multiprocessors = 0;  // of the device that timings are from; 0: not known (a build without measuring)
  // kind "cpu":
  CpuLevel cpu_level = CpuLevel::kPortable;
  bool avx512_bf16 = false;
  int threads = 1;
  std::string device;  // names the machine in timing-cache keys: "Xeon Processor/avx512/2 threads"

  // "cpu:avx512", "cuda:sm_90a".
  std::string text() const;
};

// "cpu" (the machine's best), "cpu:avx2", "cpu:avx512", "cpu:amx", "cpu:portable"; "cuda" (the first GPU of this
// machine), "cuda:sm_80", "cuda:sm_89", "cuda:sm_90a", "cuda:sm_100a". Throws a usage Error otherwise, and one with
// ErrorCode::kIncompatible for "cuda" without a GPU. For an architecture that this machine has not, `device` is empty.
Target parse_target(std::string_view text, int threads);

// Whether a target's text names a GPU.
inline bool is_for_gpu(std::string_view target) { return target == "cuda" || target.starts_with("cuda:"); }

// Whether this machine can run code built for `target`; else why not ("needs amx; this machine has avx512").
std::string missing_for(const Target& target);

}  // namespace ingot
