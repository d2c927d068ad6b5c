#include "device/target.h"

#include <algorithm>
#include <array>

#include "base/error.h"
#include "base/fields.h"
#include "base/thread_pool.h"
#include "device/cuda/device.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace ingot {

namespace {

constexpr std::array<std::string_view, 4> kLevelNames = {"portable", "avx2", "avx512", "amx"};

#if defined(__x86_64__)
struct Registers {
  unsigned a = 0, b = 0, c = 0, d = 0;
};

Registers cpuid(unsigned leaf, unsigned sub = 0) {
  Registers r;
  __cpuid_count(leaf, sub, r.a, r.b, r.c, r.d);
  return r;
}

bool bit(unsigned word, int index) { return (word >> index) & 1; }

// AMX tiles are enabled per process on request; a kernel or hypervisor may refuse.
bool request_amx() {
  constexpr int kRequestPermission = 0x1023, kTileData = 18;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

std::string brand() {
  std::string text;
  for (unsigned leaf = 0x80000002; leaf <= 0x80000004; ++leaf) {
    Registers r = cpuid(leaf);
    for (unsigned word : {r.a, r.b, r.c, r.d})
      for (int i = 0; i < 4; ++i)
        if (char c = static_cast<char>(word >> (8 * i))) text += c;
  }
  while (!text.empty() && text.back() == ' ') text.pop_back();
  return text;
}

CpuFeatures detect() {
  CpuFeatures features;
  features.cores = usable_cpus();
  if (cpuid(0x80000000).a >= 0x80000004) features.model = brand();
  if (cpuid(0).a < 7) return features;
  Registers one = cpuid(1), seven = cpuid(7), seven_one = cpuid(7, 1);
  auto add = [&](bool present, const char* name) {
    if (present) features.instruction_sets.emplace_back(name);
    return present;
  };
  unsigned xcr0 = 0, high = 0;
  if (bit(one.c, 27)) __asm__("xgetbv" : "=a"(xcr0), "=d"(high) : "c"(0));
  bool ymm = (xcr0 & 6) == 6, zmm = (xcr0 & 0xe6) == 0xe6;
  bool avx2 = add(ymm && bit(seven.b, 5), "avx2");
  bool fma = add(ymm && bit(one.c, 12), "fma");
  bool f16c = add(ymm && bit(one.c, 29), "f16c");
  bool avx512 = add(zmm && bit(seven.b, 16), "avx512f");
  avx512 = avx512 && bit(seven.b, 17) && bit(seven.b, 28) && bit(seven.b, 30) && bit(seven.b, 31);  // dq cd bw vl
  features.avx512_vnni = add(avx512 && bit(seven.c, 11), "avx512_vnni");
  features.avx512_bf16 = add(avx512 && bit(seven_one.a, 5), "avx512_bf16");
  add(avx512 && bit(seven.d, 23), "avx512_fp16");
  bool amx = bit(seven.d, 24) && bit(seven.d, 22) && request_amx();
  add(amx, "amx_bf16");
  add(amx && bit(seven.d, 25), "amx_int8");
  if (avx2 && fma && f16c && bit(seven.b, 3) && bit(seven.b, 8)) features.level = CpuLevel::kAvx2;
  if (features.level == CpuLevel::kAvx2 && avx512) features.level = CpuLevel::kAvx512;
  if (features.level == CpuLevel::kAvx512 && features.avx512_bf16 && amx) features.level = CpuLevel::kAmx;
  return features;
}
#else
CpuFeatures detect() {
  CpuFeatures features;
  features.cores = usable_cpus();
  return features;
}
#endif

CpuFeatures& features() {
  static CpuFeatures instance = detect();
  return instance;
}

}  // namespace

std::span<const std::string_view> enum_names(CpuLevel) { return kLevelNames; }

const CpuFeatures& cpu_features() { return features(); }

void mask_cpu_features(CpuLevel level) {
  CpuFeatures& f = features();
  if (level >= f.level) return;
  f.level = level;
  if (level < CpuLevel::kAvx512) f.avx512_bf16 = f.avx512_vnni = false;
}

std::string Target::text() const {
  return kind + ":" + (kind == "cuda" ? cuda_arch : std::string(enum_name(cpu_level)));
}

namespace {

// What device code may be compiled for; a suffix means that the code runs on this very generation alone.
constexpr std::array<std::string_view, 6> kCudaArchs = {"sm_80", "sm_86", "sm_89", "sm_90a", "sm_100a", "sm_120a"};

// "sm_90a" for compute capability 9.0; the newest that is not newer otherwise; "" when there is none.
std::string arch_of(const cuda::DeviceFacts& facts) {
  int capability = facts.compute_major * 10 + facts.compute_minor;
  std::string found;
  for (std::string_view arch : kCudaArchs) {
    bool exact = arch.ends_with('a');
    int number = std::stoi(std::string(arch.substr(3)));
    if (exact ? number == capability : number <= capability && number / 10 == facts.compute_major) found = arch;
  }
  return found;
}

Target parse_cuda_target(std::string_view text) {
#ifdef INGOT_WITHOUT_CUDA
  fail(ErrorCode::kIncompatible, "this ingot was built without the CUDA target (INGOT_CUDA=OFF); asked for is {}",
       text);
#endif
  Target target;
  target.kind = "cuda";
  std::string missing = cuda::Device::missing(), present;
  cuda::DeviceFacts facts;
  if (missing.empty()) {
    facts = cuda::Device::open()->facts();
    present = arch_of(facts);
  }
  if (text == "cuda") {
    if (!missing.empty())
      fail(ErrorCode::kIncompatible,
           "the target cuda needs a GPU to be found out: {}. Name the architecture (cuda:sm_90a) to build without one",
           missing);
    if (present.empty())
      fail(ErrorCode::kIncompatible, "{} has compute capability {}.{}; needed is one of {}", facts.name,
           facts.compute_major, facts.compute_minor,
           join(std::vector<std::string>(kCudaArchs.begin(), kCudaArchs.end())));
    target.cuda_arch = present;
  } else {
    target.cuda_arch = text.substr(5);
    if (std::find(kCudaArchs.begin(), kCudaArchs.end(), target.cuda_arch) == kCudaArchs.end())
      fail(ErrorCode::kUsage, "the target is cuda or cuda:ARCH with ARCH one of {}, not \"{}\"",
           join(std::vector<std::string>(kCudaArchs.begin(), kCudaArchs.end())), text);
  }
  if (target.cuda_arch == present) {
    target.multiprocessors = facts.multiprocessors;
    target.device = format("{}/{}/{}sm", facts.name, present, facts.multiprocessors);
  }
  return target;
}

// Why this machine's GPU cannot run code for `target`, or "".
std::string missing_for_cuda(const Target& target) {
  std::string missing = cuda::Device::missing();
  if (!missing.empty()) return "needs an NVIDIA GPU: " + missing;
  cuda::DeviceFacts facts = cuda::Device::open()->facts();
  std::string present = arch_of(facts);
  if (target.cuda_arch == present) return "";
  return format(
      "needs {}; this machine's {} has {}", target.cuda_arch, facts.name,
      present.empty() ? format("compute capability {}.{}", facts.compute_major, facts.compute_minor) : present);
}

}  // namespace

Target parse_target(std::string_view text, int threads) {
  if (is_for_gpu(text)) return parse_cuda_target(text);
  const CpuFeatures& cpu = cpu_features();
  Target target;
  target.threads = threads;
  target.cpu_level = cpu.level;
  if (text.starts_with("cpu:")) {
    target.cpu_level = parse_enum<CpuLevel>(text.substr(4));
  } else if (text != "cpu") {
    fail(ErrorCode::kUsage,
         "the target is cpu, cpu:portable, cpu:avx2, cpu:avx512, cpu:amx, cuda or cuda:ARCH, not \"{}\"", text);
  }
  // VDPBF16PS comes with every AMX part; on AVX-512 it is used where this machine has it.
  target.avx512_bf16 = target.cpu_level == CpuLevel::kAmx ||
                       (target.cpu_level == CpuLevel::kAvx512 && cpu.level >= CpuLevel::kAvx512 && cpu.avx512_bf16);
  target.device =
      format("{}/{}/{} threads", cpu.model.empty() ? "cpu" : cpu.model, enum_name(target.cpu_level), threads);
  return target;
}

std::string missing_for(const Target& target) {
  const CpuFeatures& cpu = cpu_features();
  if (target.kind == "cuda") return missing_for_cuda(target);
  if (target.cpu_level > cpu.level)
    return format("needs {}; this machine has {}", enum_name(target.cpu_level), enum_name(cpu.level));
  if (target.avx512_bf16 && !cpu.avx512_bf16) return "needs avx512_bf16, which this machine lacks";
  return "";
}

}  // namespace ingot
