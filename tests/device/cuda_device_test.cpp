// What every GPU must do for us: memory, copies, order, launches of all kinds, graphs, errors.
#include "device/cuda/device.h"

#include <gtest/gtest.h>

#include <cstring>
#include <numeric>
#include <random>
#include <thread>

#include "base/error.h"
#include "cuda_kernels.h"
#include "device/cuda/library.h"
#include "tactics/cuda/device_code.h"

namespace ingot::cuda {
namespace {

bool contains(std::string_view text, std::string_view part) { return text.find(part) != std::string_view::npos; }

template <class F>
std::string error_of(F&& work, ErrorCode code) {
  try {
    work();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), code) << e.what();
    return e.what();
  }
  return "no error";
}

TEST(CudaLibrary, OpensWhatIsThereAndSaysWhatIsNot) {
  const SharedLibrary math{"libno_such_library.so.1", "libm.so.6"};
  ASSERT_TRUE(math.ok()) << math.missing();
  EXPECT_NE(math.symbol("cos"), nullptr);
  EXPECT_EQ(math.symbol("no_such_function"), nullptr);
  const SharedLibrary absent{"libno_such_library.so.2", "libno_such_library.so.1"};
  EXPECT_FALSE(absent.ok());
  EXPECT_EQ(absent.symbol("cos"), nullptr);
  for (const char* part : {"libno_such_library.so.2", "libno_such_library.so.1", "/usr/local/cuda/lib64"})
    EXPECT_TRUE(contains(absent.missing(), part)) << absent.missing();
}

TEST(CudaDevice, WhatIsMissingIsSaid) {
  const std::string reason = Device::missing();
  if (reason.empty()) {
    EXPECT_FALSE(Device::list().empty());
    EXPECT_EQ(Device::open(), Device::open(0));
  } else {
    EXPECT_TRUE(contains(reason, "NVIDIA") || contains(reason, "GPU")) << reason;
    EXPECT_EQ(error_of([] { Device::open(); }, ErrorCode::kIncompatible), reason);
    EXPECT_TRUE(Device::list().empty());
  }
}

TEST(CudaDevice, AGpuBeyondTheLastIsMissing) {
  for (int ordinal : {-1, 1000}) {
    EXPECT_NE(Device::missing(ordinal), "");
    EXPECT_EQ(error_of([&] { Device::open(ordinal); }, ErrorCode::kIncompatible), Device::missing(ordinal));
  }
}

DeviceModule test_kernels(std::string arch) {
  static const std::string name = (add_device_code("test_kernels.cuh", kTestKernels), "test_kernels.cuh");
  return {name, {}, std::move(arch)};
}

TEST(CudaDevice, TheKernelsOfTheseTestsCompile) {
  if (compiler_version().empty()) GTEST_SKIP() << why_no_compiler();
  for (const char* arch : {"sm_80", "sm_89", "sm_90a", "sm_100"}) EXPECT_NO_THROW(compile_module(test_kernels(arch)));
}

class Gpu : public testing::Test {
 protected:
  void SetUp() override {
    if (const std::string reason = Device::missing(); !reason.empty()) GTEST_SKIP() << reason;
    device_ = Device::open();
  }

  std::string arch() const {
    const int version = device_->facts().compute_major * 10 + device_->facts().compute_minor;
    return "sm_" + std::to_string(version) + (version == 90 ? "a" : "");
  }
  DeviceModule code() const { return test_kernels(arch()); }
  CUfunction kernel(const std::string& name, int64_t shared_bytes = 0) {
    return device_->function(device_->module(code().name(), *compile_module(code())), name, shared_bytes);
  }

  DevicePtr device_;
};

class Launches : public Gpu {
 protected:
  void SetUp() override {
    Gpu::SetUp();
    if (!IsSkipped() && compiler_version().empty()) GTEST_SKIP() << why_no_compiler();
  }

  template <class... A>
  void run(Stream& stream, KernelLaunch launch, const A&... arguments) {
    void* pointers[] = {const_cast<void*>(static_cast<const void*>(&arguments))...};
    launch.arguments = pointers;
    stream.launch(launch);
  }
  bool hopper() const { return device_->facts().compute_major >= 9; }
};

std::vector<uint32_t> random_words(size_t count, unsigned seed = 1) {
  std::mt19937 random(seed);
  std::vector<uint32_t> words(count);
  for (uint32_t& word : words) word = random();
  return words;
}

template <class T>
std::vector<T> fetch(Stream& stream, const Memory& memory, size_t count) {
  std::vector<T> values(count);
  stream.download(values.data(), memory.data(), count * sizeof(T));
  stream.synchronize();
  return values;
}

TEST_F(Gpu, FactsMakeSense) {
  const DeviceFacts& facts = device_->facts();
  EXPECT_NE(facts.name, "");
  EXPECT_GE(facts.compute_major, 5);
  EXPECT_GT(facts.multiprocessors, 0);
  EXPECT_GT(facts.l2_bytes, 1 << 18);
  EXPECT_GE(facts.shared_bytes_per_block, 48 << 10);
  EXPECT_GE(facts.driver_version, 12000);
  EXPECT_GT(facts.memory_bytes, uint64_t{1} << 30);
  EXPECT_LE(device_->free_bytes(), facts.memory_bytes);
  EXPECT_EQ(Device::list().at(0).name, facts.name);
  EXPECT_EQ(Device::list().at(0).memory_bytes, facts.memory_bytes);
}

TEST_F(Gpu, MemoryIsAlignedAndGivenBack) {
  const uint64_t before = device_->free_bytes(), big = uint64_t{256} << 20;
  {
    Memory a(device_, 1, "a"), b(device_, 1000, "b"), c(device_, big, "c");
    for (const Memory* memory : {&a, &b, &c}) EXPECT_EQ(reinterpret_cast<uintptr_t>(memory->data()) % 256, 0u);
    EXPECT_EQ(c.size(), big);
    EXPECT_LE(device_->free_bytes() + big, before);
    std::byte* place = c.data();
    Memory moved = std::move(c);
    EXPECT_EQ(moved.data(), place);
    EXPECT_EQ(c.data(), nullptr);
    b = std::move(moved);
    EXPECT_EQ(b.data(), place);
  }
  EXPECT_GE(device_->free_bytes() + (uint64_t{8} << 20), before);
  Memory none(device_, 0, "nothing");
  EXPECT_EQ(none.data(), nullptr);
  EXPECT_EQ(none.size(), 0u);
}

TEST_F(Gpu, TooMuchMemorySaysWhatForHowMuchAndWhatIsFree) {
  const std::string error =
      error_of([&] { Memory(device_, uint64_t{1} << 46, "the KV cache"); }, ErrorCode::kDoesNotFit);
  EXPECT_TRUE(contains(error, "the KV cache needs 64.00 TiB")) << error;
  EXPECT_TRUE(contains(error, "free") && contains(error, device_->facts().name)) << error;
  Memory fine(device_, 1 << 20, "after that");
  EXPECT_NE(fine.data(), nullptr);
}

TEST_F(Gpu, CopiesKeepEveryByte) {
  Stream stream(device_);
  for (size_t bytes : {1u, 3u, 4096u, 1000003u}) {
    const std::vector<uint32_t> words = random_words(bytes / 4 + 1, bytes);
    Memory there(device_, bytes + 7, "there"), copy(device_, bytes + 7, "copy");
    stream.fill(copy.data(), 0xab, bytes + 7);
    stream.upload(there.data() + 5, words.data(), bytes);
    stream.copy(copy.data() + 3, there.data() + 5, bytes);
    const std::vector<uint8_t> back = fetch<uint8_t>(stream, copy, bytes + 7);
    EXPECT_EQ(std::memcmp(back.data() + 3, words.data(), bytes), 0) << bytes;
    for (size_t i : {size_t{0}, size_t{2}, bytes + 3, bytes + 6}) EXPECT_EQ(back[i], 0xab) << bytes << " at " << i;
  }
  stream.upload(nullptr, nullptr, 0);
  stream.fill(nullptr, 0, 0);
  stream.synchronize();
}

TEST_F(Gpu, PinnedMemoryCopiesInTheOrderOfTheStream) {
  Stream stream(device_);
  const size_t count = 1 << 18, bytes = count * 4;
  PinnedMemory from(device_, bytes), to(device_, bytes), none(device_, 0);
  EXPECT_EQ(none.data(), nullptr);
  const std::vector<uint32_t> words = random_words(count);
  std::memcpy(from.data(), words.data(), bytes);
  std::memset(to.data(), 0xcd, bytes);
  Memory there(device_, bytes, "there");
  stream.upload(there.data(), from.data(), bytes);
  stream.download(to.data(), there.data(), bytes);
  stream.synchronize();
  EXPECT_EQ(std::memcmp(to.data(), words.data(), bytes), 0);
  PinnedMemory moved = std::move(to);
  EXPECT_EQ(to.data(), nullptr);
  EXPECT_EQ(std::memcmp(moved.data(), words.data(), bytes), 0);
}

TEST_F(Launches, KernelsComputeWhatTheySay) {
  Stream stream(device_);
  const int count = 100003;
  std::vector<float> x(count);
  std::mt19937 random(3);
  for (float& value : x) value = std::uniform_real_distribution<float>(-4, 4)(random);
  Memory in(device_, count * 4, "in"), out(device_, count * 4 + 16, "out");
  stream.upload(in.data(), x.data(), count * 4);
  stream.fill(out.data(), 0xff, count * 4 + 16);
  for (bool dependent : {false, true}) {
    run(stream, {.function = kernel("scale"), .grid = {7, 1, 1}, .block = {192, 1, 1}, .dependent = dependent},
        in.data(), out.data(), count, 2.0f, 0.5f);
    const std::vector<float> y = fetch<float>(stream, out, count + 4);
    for (int i = 0; i < count; ++i) ASSERT_EQ(y[i], x[i] * 2.0f + 0.5f) << i;
    for (int i = count; i < count + 4; ++i) EXPECT_NE(y[i], y[i]);
  }
}

// Sixty links, each of which needs all of the one before.
std::vector<uint32_t> chain_on_host(std::vector<uint32_t> x, unsigned blocks, unsigned threads, int links) {
  for (int l = 0; l < links; ++l) {
    std::vector<uint32_t> y(x.size());
    for (unsigned t = 0; t < threads; ++t) {
      uint32_t sum = 0;
      for (unsigned b = 0; b < blocks; ++b) sum += x[b * threads + t];
      for (unsigned b = 0; b < blocks; ++b) y[b * threads + t] = sum * 3 + b;
    }
    x = std::move(y);
  }
  return x;
}

TEST_F(Launches, DependentKernelsSeeWhatTheKernelBeforeWrote) {
  Stream stream(device_);
  const unsigned blocks = 500, threads = 128;
  const int links = 60;
  const std::vector<uint32_t> x = random_words(blocks * threads);
  const std::vector<uint32_t> expected = chain_on_host(x, blocks, threads, links);
  Memory a(device_, x.size() * 4, "a"), b(device_, x.size() * 4, "b");
  const auto enqueue = [&] {
    stream.upload(a.data(), x.data(), x.size() * 4);
    for (int l = 0; l < links; ++l)
      run(stream, {.function = kernel("link"), .grid = {blocks, 1, 1}, .block = {threads, 1, 1}, .dependent = true},
          (l % 2 ? b : a).data(), (l % 2 ? a : b).data());
  };
  for (int repeat = 0; repeat < 5; ++repeat) {
    enqueue();
    EXPECT_EQ(fetch<uint32_t>(stream, a, x.size()), expected);
  }
  stream.begin_capture();
  enqueue();
  const Graph graph = stream.end_capture();
  for (int repeat = 0; repeat < 5; ++repeat) {
    stream.fill(a.data(), 0x5a, a.size());
    graph.launch(stream);
    EXPECT_EQ(fetch<uint32_t>(stream, a, x.size()), expected);
  }
}

TEST_F(Launches, SharedMemoryBeyondTheDefaultIsAllowedOnDemand) {
  Stream stream(device_);
  const int64_t most = device_->facts().shared_bytes_per_block;
  for (int64_t bytes : {int64_t{4096}, most, most / 2 / 4 * 4}) {
    const int count = static_cast<int>(bytes / 4);
    std::vector<uint32_t> words = random_words(count);
    Memory memory(device_, bytes, "words");
    stream.upload(memory.data(), words.data(), bytes);
    run(stream,
        {.function = kernel("reverse", bytes), .block = {256, 1, 1}, .shared_bytes = static_cast<unsigned>(bytes)},
        memory.data(), count);
    std::reverse(words.begin(), words.end());
    EXPECT_EQ(fetch<uint32_t>(stream, memory, count), words) << bytes;
  }
  const std::string error = error_of([&] { kernel("reverse", most + 16); }, ErrorCode::kIncompatible);
  EXPECT_TRUE(contains(error, "reverse") && contains(error, std::to_string(most))) << error;
}

TEST_F(Launches, CooperativeBlocksRunAtOnce) {
  Stream stream(device_);
  const unsigned blocks = device_->facts().multiprocessors;
  Memory count(device_, 4, "count"), seen(device_, blocks * 4, "seen");
  stream.fill(count.data(), 0, 4);
  run(stream, {.function = kernel("meet"), .grid = {blocks, 1, 1}, .block = {32, 1, 1}, .cooperative = true},
      count.data(), seen.data());
  EXPECT_EQ(fetch<uint32_t>(stream, seen, blocks), std::vector<uint32_t>(blocks, blocks));
  // More blocks than fit are refused, not hung.
  EXPECT_TRUE(contains(error_of(
                           [&] {
                             run(stream, {.function = kernel("meet"), .grid = {100000, 1, 1}, .cooperative = true},
                                 count.data(), seen.data());
                           },
                           ErrorCode::kRuntime),
                       "100000x1x1"));
}

TEST_F(Launches, BlocksOfAClusterReachEachOther) {
  if (!hopper()) GTEST_SKIP() << "clusters need compute capability 9.0";
  Stream stream(device_);
  for (unsigned cluster : {1u, 2u, 8u, 16u}) {
    const unsigned blocks = cluster * 5;
    Memory out(device_, blocks * 4, "out");
    stream.fill(out.data(), 0xff, blocks * 4);
    run(stream,
        {.function = kernel("around"),
         .grid = {blocks, 1, 1},
         .block = {32, 1, 1},
         .cluster = cluster,
         .dependent = true},
        out.data());
    const std::vector<uint32_t> words = fetch<uint32_t>(stream, out, blocks);
    for (unsigned b = 0; b < blocks; ++b) {
      const unsigned rank = b % cluster, before = (rank + cluster - 1) % cluster;
      EXPECT_EQ(words[b], (b - rank + before) * 100 + before) << "cluster of " << cluster << ", block " << b;
    }
  }
}

TEST_F(Launches, TensorMapsTravelAsArguments) {
  if (!hopper()) GTEST_SKIP() << "tensor maps need compute capability 9.0";
  Stream stream(device_);
  const int width = 40, height = 20;
  const std::vector<uint32_t> words = random_words(width * height);
  Memory in(device_, words.size() * 4, "in"), out(device_, 512, "out");
  stream.upload(in.data(), words.data(), words.size() * 4);
  CUtensorMap map;
  const uint64_t dims[] = {width, height}, strides[] = {width * 4};
  const uint32_t box[] = {16, 8}, steps[] = {1, 1};
  device_->check(
      device_->driver().cuTensorMapEncodeTiled(&map, CU_TENSOR_MAP_DATA_TYPE_UINT32, 2, in.data(), dims, strides, box,
                                               steps, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_NONE,
                                               CU_TENSOR_MAP_L2_PROMOTION_L2_128B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE),
      "cuTensorMapEncodeTiled");
  for (auto [x, y] : {std::pair{0, 0}, std::pair{4, 9}, std::pair{32, 16}}) {
    stream.fill(out.data(), 0xff, 512);
    run(stream, {.function = kernel("load_box"), .block = {128, 1, 1}}, map, out.data(), x, y);
    const std::vector<uint32_t> got = fetch<uint32_t>(stream, out, 128);
    for (int i = 0; i < 128; ++i) {
      const int column = x + i % 16, row = y + i / 16;
      EXPECT_EQ(got[i], column < width && row < height ? words[row * width + column] : 0) << x << " " << y << " " << i;
    }
  }
}

TEST_F(Launches, EventsOrderStreamsAndMeasure) {
  Stream first(device_), second(device_);
  Event begin(device_, true), end(device_, true), ready(device_);
  Memory memory(device_, 64, "memory");
  const CUfunction spin = kernel("spin");
  first.fill(memory.data(), 1, 64);
  begin.record(first);
  run(first, {.function = spin}, int64_t{20'000'000});
  first.fill(memory.data(), 2, 64);
  end.record(first);
  ready.record(first);
  EXPECT_FALSE(ready.done());
  second.wait_for(ready);
  EXPECT_EQ(fetch<uint8_t>(second, memory, 64), std::vector<uint8_t>(64, 2));
  EXPECT_TRUE(ready.done());
  end.synchronize();
  EXPECT_GE(end.microseconds_since(begin), 19'000);
  EXPECT_LE(end.microseconds_since(begin), 2'000'000);
}

TEST_F(Launches, CapturedWorkRunsWhenTheGraphDoes) {
  Stream stream(device_), other(device_);
  const int count = 1000;
  const CUfunction scale = kernel("scale");
  Memory memory(device_, count * 4, "memory"), copy(device_, count * 4, "copy");
  PinnedMemory source(device_, count * 4);
  auto* values = reinterpret_cast<float*>(source.data());
  stream.fill(copy.data(), 0, count * 4);
  stream.begin_capture();
  stream.upload(memory.data(), source.data(), count * 4);
  run(stream, {.function = scale, .grid = {4, 1, 1}, .block = {64, 1, 1}, .dependent = true}, memory.data(),
      memory.data(), count, 2.0f, 1.0f);
  stream.copy(copy.data(), memory.data(), count * 4);
  // Allocating meanwhile is no mistake.
  Memory meanwhile(device_, 1 << 20, "meanwhile");
  Graph graph = stream.end_capture();
  EXPECT_TRUE(graph);
  EXPECT_EQ(fetch<float>(stream, copy, count), std::vector<float>(count, 0.0f));
  for (int turn = 1; turn <= 3; ++turn) {
    std::iota(values, values + count, static_cast<float>(turn));
    Stream& runner = turn == 2 ? other : stream;
    graph.launch(runner);
    const std::vector<float> got = fetch<float>(runner, copy, count);
    for (int i = 0; i < count; ++i) ASSERT_EQ(got[i], (turn + i) * 2.0f + 1.0f) << turn << " " << i;
  }
  Graph moved = std::move(graph);
  EXPECT_FALSE(graph);
  moved.launch(stream);
  stream.synchronize();
}

TEST_F(Launches, AFailedCaptureLeavesTheStreamUsable) {
  Stream stream(device_);
  Memory memory(device_, 64, "memory");
  stream.begin_capture();
  stream.fill(memory.data(), 3, 64);
  const std::string error = error_of([&] { stream.synchronize(); }, ErrorCode::kRuntime);
  EXPECT_TRUE(contains(error, "captur")) << error;
  EXPECT_NE(error_of([&] { stream.end_capture(); }, ErrorCode::kRuntime), "no error");
  stream.abandon_capture();
  stream.fill(memory.data(), 4, 64);
  EXPECT_EQ(fetch<uint8_t>(stream, memory, 64), std::vector<uint8_t>(64, 4));
  stream.begin_capture();
  stream.fill(memory.data(), 5, 64);
  stream.abandon_capture();
  EXPECT_EQ(fetch<uint8_t>(stream, memory, 64), std::vector<uint8_t>(64, 4));
  stream.begin_capture();
  stream.fill(memory.data(), 6, 64);
  stream.end_capture().launch(stream);
  EXPECT_EQ(fetch<uint8_t>(stream, memory, 64), std::vector<uint8_t>(64, 6));
}

TEST_F(Launches, ThreadsShareADevice) {
  std::vector<std::thread> threads;
  std::vector<std::vector<float>> results(8);
  for (int t = 0; t < 8; ++t)
    threads.emplace_back([&, t] {
      EXPECT_NO_THROW({
        const DevicePtr device = Device::open();
        Stream stream(device);
        Memory memory(device, 4000, "memory");
        stream.fill(memory.data(), 0, 4000);
        for (int i = 0; i < 50; ++i)
          run(stream, {.function = kernel("scale"), .grid = {2, 1, 1}}, memory.data(), memory.data(), 1000, 1.0f,
              static_cast<float>(t));
        results[t] = fetch<float>(stream, memory, 1000);
      });
    });
  for (std::thread& thread : threads) thread.join();
  for (int t = 0; t < 8; ++t) EXPECT_EQ(results[t], std::vector<float>(1000, 50.0f * t));
}

TEST_F(Launches, CodeForAnotherArchitectureIsIncompatible) {
  const DeviceModule other{code().file, {}, device_->facts().compute_major == 8 ? "sm_90a" : "sm_80"};
  const std::string error =
      error_of([&] { device_->module(other.name(), *compile_module(other)); }, ErrorCode::kIncompatible);
  EXPECT_TRUE(contains(error, other.name()) && contains(error, device_->facts().name)) << error;
}

TEST_F(Launches, DamagedCodeIsRefused) {
  const std::vector<std::byte> cubin = *compile_module(code());
  for (size_t size : {size_t{0}, size_t{10}, size_t{64}, cubin.size() / 2, cubin.size() - 1}) {
    const std::span<const std::byte> part(cubin.data(), size);
    const std::string error =
        error_of([&] { device_->module("damaged" + std::to_string(size), part); }, ErrorCode::kIncompatible);
    EXPECT_TRUE(contains(error, "damaged" + std::to_string(size))) << error;
  }
  // From an odd address it loads as well.
  std::vector<std::byte> shifted(cubin.size() + 1);
  std::memcpy(shifted.data() + 1, cubin.data(), cubin.size());
  EXPECT_NE(device_->module("shifted", std::span(shifted).subspan(1)), nullptr);
}

TEST_F(Launches, ModulesAreLoadedOnce) {
  const auto cubin = compile_module(code());
  const CUmodule module = device_->module("once", *cubin);
  EXPECT_EQ(device_->module("once", {}), module);
  EXPECT_EQ(device_->function(module, "scale", 0), device_->function(module, "scale", 0));
  const std::string error = error_of([&] { device_->function(module, "no_such_kernel", 0); }, ErrorCode::kRuntime);
  EXPECT_TRUE(contains(error, "no_such_kernel")) << error;
}

TEST_F(Launches, AWrongLaunchNamesItsSizes) {
  Stream stream(device_);
  const std::string error = error_of(
      [&] {
        const Scope scope("step 3");
        run(stream, {.function = kernel("spin"), .grid = {3, 1, 1}, .block = {2048, 1, 1}}, int64_t{1});
      },
      ErrorCode::kRuntime);
  EXPECT_TRUE(error.starts_with("step 3: ") && contains(error, "3x1x1 blocks of 2048x1x1") &&
              contains(error, "CUDA_ERROR_INVALID_VALUE"))
      << error;
  run(stream, {.function = kernel("spin")}, int64_t{1});
  stream.synchronize();
}

using GpuDeath = Launches;

// In a process of its own: after this the GPU serves it no more.
TEST_F(GpuDeath, FailedWorkSaysThatTheProcessMustStartAgain) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto fail_on_device = [&](const char* name) {
    Stream stream(device_);
    Memory memory(device_, 16, "memory");
    std::string first, second;
    first = error_of([&] { run(stream, {.function = kernel(name)}, uint64_t{16}), stream.synchronize(); },
                     ErrorCode::kRuntime);
    second = error_of([&] { Memory(device_, 16, "more"); }, ErrorCode::kRuntime);
    std::fprintf(stderr, "%s | %s\n", first.c_str(), second.c_str());
    std::exit(contains(second, "no error") ? 0 : 3);
  };
  EXPECT_EXIT(fail_on_device("trap"), testing::ExitedWithCode(3), "work on the GPU failed: .*start it again \\| more");
  EXPECT_EXIT(fail_on_device("write_nowhere"), testing::ExitedWithCode(3),
              "CUDA_ERROR_ILLEGAL_ADDRESS.*start it again \\| more");
}

}  // namespace
}  // namespace ingot::cuda
