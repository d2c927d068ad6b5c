// The compiler of device code: what it is given, what it makes of it, and what it says of mistakes.
#include "tactics/cuda/device_code.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <sstream>
#include <thread>

#include "base/error.h"

namespace ingot {
namespace {

using Names = std::vector<std::string_view>;

const char* const kToy =
    "// Includes of this text count: #include \"device/absent.cuh\"\n"
    "#pragma once\n"
    "  #  include \"device/prelude.cuh\"  // and this one too\n"
    "extern \"C\" __global__ void toy(float* p) {\n"
    "  allow_next();\n"
    "  wait_for_previous();\n"
    "  p[threadIdx.x] = to_float(from_float<TYPE>(p[threadIdx.x])) * FACTOR;\n"
    "}\n";

// Every test file is known to the process under a name of its own.
std::string add_file(const std::string& text) {
  static int count = 0;
  const std::string name = "test_" + std::to_string(count++) + ".cuh";
  add_device_code(name, text);
  return name;
}
const std::string& toy() {
  static const std::string name = add_file(kToy);
  return name;
}
DeviceModule toy_module(std::string arch = "sm_90a") { return {toy(), {"TYPE=bf16", "FACTOR=2.5f"}, std::move(arch)}; }

std::string compile_error(const DeviceModule& module, ErrorCode code) {
  try {
    compile_module(module);
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), code) << e.what();
    return e.what();
  }
  return "it compiled";
}

bool contains(std::string_view text, std::string_view part) { return text.find(part) != std::string_view::npos; }

#define NEEDS_COMPILER() \
  if (compiler_version().empty()) GTEST_SKIP() << why_no_compiler()

TEST(DeviceCode, HoldsTheFilesOfTheSources) {
  Names names;
  for (const DeviceCodeFile& file : device_code_files()) {
    names.push_back(file.name);
    std::ifstream stream(std::string(INGOT_SOURCE_DIR) + "/src/tactics/cuda/" + std::string(file.name));
    std::stringstream text;
    text << stream.rdbuf();
    EXPECT_EQ(file.text, text.str()) << file.name;
  }
  EXPECT_TRUE(std::is_sorted(names.begin(), names.end()));
  EXPECT_EQ(std::count(names.begin(), names.end(), "device/prelude.cuh"), 1);
}

TEST(DeviceCode, EveryFileIncludesOnlyDeviceCode) {
  for (const DeviceCodeFile& file : device_code_files()) {
    const Names closure = device_code_closure(file.name);
    EXPECT_TRUE(std::count(closure.begin(), closure.end(), file.name));
  }
}

TEST(DeviceCode, ClosureFollowsIncludesOfIncludes) {
  EXPECT_EQ(device_code_closure("device/prelude.cuh"), (Names{"device/prelude.cuh"}));
  EXPECT_EQ(device_code_closure("device/activation.cuh"), (Names{"device/activation.cuh", "device/prelude.cuh"}));
  const std::string outer = add_file("#include \"" + toy() + "\"\n#include \"device/prelude.cuh\"\n");
  Names expected = {"device/prelude.cuh", toy(), outer};
  std::sort(expected.begin(), expected.end());
  EXPECT_EQ(device_code_closure(outer), expected);
}

TEST(DeviceCode, UnknownFilesAndForeignIncludesAreNamed) {
  try {
    device_code_closure("no_such.cuh");
    ADD_FAILURE();
  } catch (const Error& e) {
    EXPECT_TRUE(contains(e.what(), "no_such.cuh")) << e.what();
  }
  const std::string outer = add_file("#include \"device/absent.cuh\"\n");
  try {
    device_code_version(outer);
    ADD_FAILURE();
  } catch (const Error& e) {
    EXPECT_TRUE(contains(e.what(), "device/absent.cuh") && contains(e.what(), outer)) << e.what();
  }
  EXPECT_THROW(device_code_closure(add_file("#include <cuda_fp16.h>\n")), Error);
}

TEST(DeviceCode, NamesStandForAllThatMatters) {
  const DeviceModule module = toy_module();
  EXPECT_EQ(module.name().size(), 16u);
  EXPECT_EQ(module.name(), toy_module().name());
  DeviceModule other = module;
  other.arch = "sm_90";
  EXPECT_NE(other.name(), module.name());
  other = module;
  other.defines[1] = "FACTOR=2.5";
  EXPECT_NE(other.name(), module.name());
  // The parts are kept apart: moving a letter from one to the next is another module.
  EXPECT_NE((DeviceModule{toy(), {"A", "B"}, "sm_90a"}.name()), (DeviceModule{toy(), {"AB"}, "sm_90a"}.name()));
  EXPECT_NE((DeviceModule{add_file(std::string(kToy) + " "), module.defines, "sm_90a"}.name()), module.name());
}

TEST(DeviceCode, NamesFollowIncludedFilesAndNoOthers) {
  const std::string before = toy_module().name(), version = device_code_version(toy());
  EXPECT_EQ(version.size(), 8u);
  const std::string first = add_file("#define N 1\n"), second = add_file("#define N 2\n");
  EXPECT_EQ(toy_module().name(), before);
  EXPECT_EQ(device_code_version(toy()), version);
  const std::string user = add_file("#include \"" + first + "\"\n"), other = add_file("#include \"" + second + "\"\n");
  EXPECT_NE(device_code_version(user), device_code_version(other));
}

TEST(DeviceCode, CompilesForEveryArchitecture) {
  NEEDS_COMPILER();
  for (const char* arch : {"sm_80", "sm_89", "sm_90a", "sm_100"}) {
    const auto cubin = compile_module(toy_module(arch));
    ASSERT_GT(cubin->size(), 64u) << arch;
    EXPECT_EQ(std::string_view(reinterpret_cast<const char*>(cubin->data()), 4), "\177ELF") << arch;
    EXPECT_TRUE(contains(compiler_log(toy_module(arch)), "registers")) << compiler_log(toy_module(arch));
  }
}

TEST(DeviceCode, SharedHeadersCompileAlone) {
  NEEDS_COMPILER();
  EXPECT_NO_THROW(compile_module({"device/prelude.cuh", {}, "sm_80"}));
  EXPECT_NO_THROW(compile_module({"device/activation.cuh", {}, "sm_80"}));
}

TEST(DeviceCode, TheSameModuleGivesTheSameBytes) {
  NEEDS_COMPILER();
  // Under two names, so that the second is compiled and not remembered.
  const auto first = compile_module({toy(), {"TYPE=f16", "FACTOR=3.5f"}, "sm_90a"});
  const auto second = compile_module({toy(), {"TYPE=f16", "FACTOR=3.5f", "UNUSED"}, "sm_90a"});
  EXPECT_NE(first, second);
  EXPECT_EQ(*first, *second);
  const std::string_view bytes(reinterpret_cast<const char*>(first->data()), first->size());
  for (const char* trace : {"/tmp", "/usr", "/home", "/work", toy().c_str()}) EXPECT_FALSE(contains(bytes, trace));
}

TEST(DeviceCode, CompilesOnceForAllThreads) {
  NEEDS_COMPILER();
  std::vector<std::shared_ptr<const std::vector<std::byte>>> results(8);
  std::vector<std::thread> threads;
  for (size_t i = 0; i < results.size(); ++i)
    threads.emplace_back([&, i] {
      results[i] = compile_module({toy(), {"TYPE=float", i % 2 ? "FACTOR=7.0f" : "FACTOR=8.0f"}, "sm_90a"});
    });
  for (std::thread& thread : threads) thread.join();
  for (size_t i = 2; i < results.size(); ++i) EXPECT_EQ(results[i], results[i % 2]);
  EXPECT_NE(*results[0], *results[1]);
}

TEST(DeviceCode, MistakesComeWithTheCompilersWords) {
  NEEDS_COMPILER();
  const std::string error = compile_error({toy(), {"TYPE=bf16"}, "sm_90a"}, ErrorCode::kRuntime);
  for (std::string_view part : {std::string_view(toy()), std::string_view("\"FACTOR\" is undefined"),
                                std::string_view("TYPE=bf16"), std::string_view("sm_90a"), std::string_view("(7)")})
    EXPECT_TRUE(contains(error, part)) << error;
  // Asked again, it says the same.
  EXPECT_EQ(compile_error({toy(), {"TYPE=bf16"}, "sm_90a"}, ErrorCode::kRuntime), error);
}

TEST(DeviceCode, ArchitecturesThatTheCompilerDoesNotKnowAreRefused) {
  NEEDS_COMPILER();
  const std::string error = compile_error(toy_module("sm_12"), ErrorCode::kIncompatible);
  EXPECT_TRUE(contains(error, "sm_12") && contains(error, compiler_version())) << error;
}

TEST(DeviceCode, WithoutACompilerItSaysWhatWasTried) {
  if (!compiler_version().empty()) {
    EXPECT_EQ(why_no_compiler(), "");
    GTEST_SKIP() << "NVRTC " << compiler_version() << " is here";
  }
  const std::string error = compile_error(toy_module(), ErrorCode::kIncompatible);
  EXPECT_TRUE(contains(error, "libnvrtc.so.12")) << error;
  EXPECT_EQ(error, why_no_compiler());
}

}  // namespace
}  // namespace ingot
